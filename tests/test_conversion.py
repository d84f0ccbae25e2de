"""Released files become encoder folders whose features are those of the model in the file."""

import hashlib
import json
import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from conftest import snakemake
from safetensors.torch import load_file, save_file
from test_conformer import make_release as conformer_release
from test_data2vec2 import FORMS
from test_data2vec2 import make_release as data2vec2_release
from torch import Tensor

from artifacts.errors import InputError, run
from artifacts.files import UMASK
from units import conformer, data2vec2
from units.conversion import convert, to_transformers
from units.encoders import load, main, with_codebook
from units.layouts import LAYOUTS
from units.registry import REGISTRY, Released
from workflow.reading import read_experiment

KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
SPIN_WIDTH = 6
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "out_proj")
Shapes = dict[str, tuple[int, ...]]


class Sizes(NamedTuple):
    """Of a model whose attention heads have `dim / heads` dimensions."""

    channels: int
    dim: int
    layers: int
    ffn: int
    kernel: int
    groups: int
    heads: int
    buckets: int


TINY = Sizes(channels=6, dim=128, layers=3, ffn=20, kernel=8, groups=4, heads=2, buckets=320)
BASE = Sizes(channels=512, dim=768, layers=12, ffn=3072, kernel=128, groups=16, heads=12, buckets=320)
LARGE = Sizes(channels=512, dim=1024, layers=24, ffn=4096, kernel=128, groups=16, heads=16, buckets=320)
XLARGE = Sizes(channels=512, dim=1280, layers=48, ffn=5120, kernel=128, groups=16, heads=16, buckets=320)


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def fairseq_shapes(s: Sizes, is_large: bool = False, conv_bias: bool = False, is_wavlm: bool = False) -> Shapes:
    """Every tensor of an encoder of fairseq, that of the pretraining left out."""
    shapes: Shapes = {"mask_emb": (s.dim,)}
    for i, kernel in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{i}"
        convolution = affine(f"{name}.0", s.channels, 1 if i == 0 else s.channels, kernel)
        shapes |= {key: shape for key, shape in convolution.items() if conv_bias or not key.endswith("bias")}
        if is_large:
            shapes |= affine(f"{name}.2.1", s.channels)
        elif i == 0:
            shapes |= affine(f"{name}.2", s.channels)
    shapes |= affine("layer_norm", s.channels) | affine("post_extract_proj", s.dim, s.channels)
    shapes["encoder.pos_conv.0.weight_g"] = (1, 1, s.kernel)
    shapes["encoder.pos_conv.0.weight_v"] = (s.dim, s.dim // s.groups, s.kernel)
    shapes["encoder.pos_conv.0.bias"] = (s.dim,)
    shapes |= affine("encoder.layer_norm", s.dim)
    for i in range(s.layers):
        layer = f"encoder.layers.{i}"
        for projection in PROJECTIONS:
            shapes |= affine(f"{layer}.self_attn.{projection}", s.dim, s.dim)
        if is_wavlm:
            shapes |= affine(f"{layer}.self_attn.grep_linear", 8, s.dim // s.heads)
            shapes[f"{layer}.self_attn.grep_a"] = (1, s.heads, 1, 1)
        shapes |= affine(f"{layer}.self_attn_layer_norm", s.dim) | affine(f"{layer}.final_layer_norm", s.dim)
        shapes |= affine(f"{layer}.fc1", s.ffn, s.dim) | affine(f"{layer}.fc2", s.dim, s.ffn)
    if is_wavlm:
        shapes["encoder.layers.0.self_attn.relative_attention_bias.weight"] = (s.buckets, s.heads)
    return shapes


def random_tensors(shapes: Shapes, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        # Gains that are not 1, biases that are not 0, and attention that is not uniform.
        scale = (1.5 if "_proj" in name or "relative" in name else 0.3) / max(1, math.prod(shape[1:])) ** 0.5
        offset = 1.0 if re.search(r"(norm|\.2|\.2\.1)\.weight$|_g$", name) else 0.0
        tensors[name] = offset + scale * torch.randn(shape, generator=generator)
    return tensors


def to_torchaudio(name: str) -> str:
    """What torchaudio calls a tensor of fairseq's HuBERT Base."""
    if name == "mask_emb":
        return "model.mask_generator.mask_embedding"
    if name.startswith("feature_extractor"):
        name = re.sub(r"(layers\.\d+)\.0\.", r"\1.conv.", name)
        return "model.wav2vec2." + re.sub(r"(layers\.\d+)\.2\.", r"\1.layer_norm.", name)
    if name.startswith("layer_norm"):
        return f"model.wav2vec2.encoder.feature_projection.{name}"
    if name.startswith("post_extract_proj"):
        return "model.wav2vec2.encoder.feature_projection." + name.replace("post_extract_proj", "projection")
    for theirs, torchaudios in {
        "encoder.": "encoder.transformer.",
        "pos_conv.0": "pos_conv_embed.conv",
        "self_attn_layer_norm": "layer_norm",
        "self_attn": "attention",
        "fc1": "feed_forward.intermediate_dense",
        "fc2": "feed_forward.output_dense",
    }.items():
        name = name.replace(theirs, torchaudios)
    return f"model.wav2vec2.{name}"


def pickled_settings() -> Any:
    """An object of a class that whoever loads it does not have."""
    module = types.ModuleType("fairseq_dataclass")
    kind = type("FairseqConfig", (), {"__module__": module.__name__, "__qualname__": "FairseqConfig"})
    module.FairseqConfig = kind  # type: ignore[attr-defined]
    sys.modules[module.__name__] = module
    settings = kind()
    settings.rate = 0.1
    return settings


def save_with_settings(content: dict[str, Any], path: Path) -> None:
    torch.save(content, path)
    sys.modules.pop("fairseq_dataclass", None)


def write_fairseq(path: Path, tensors: dict[str, Tensor]) -> None:
    heads = {
        "label_embs_concat": torch.zeros(9, 4),
        "final_proj.weight": torch.zeros(4, 4),
        "target_glu.0.weight": torch.zeros(4, 4),
        "quantizer.vars": torch.zeros(1, 4, 4),
        "project_q.weight": torch.zeros(4, 4),
    }
    content = {"args": None, "cfg": pickled_settings(), "model": tensors | heads, "last_optimizer_state": {}}
    save_with_settings(content, path)


def write_s3prl(path: Path, tensors: dict[str, Tensor]) -> None:
    content = {"task_cfg": {"normalize": False}, "model_cfg": {}, "dictionaries_symbols": [["a", "b"]]}
    torch.save(content | {"model_weight": tensors | {"final_proj.bias": torch.zeros(4)}}, path)


def write_wavlm(path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save({"cfg": {"encoder_layers": 3}, "model": tensors}, path)


def write_ctc(path: Path, tensors: dict[str, Tensor]) -> None:
    model = {f"w2v_encoder.w2v_model.{name}": tensor for name, tensor in tensors.items()}
    head = {"w2v_encoder.proj.weight": torch.zeros(32, 128), "w2v_encoder.proj.bias": torch.zeros(32)}
    save_with_settings({"args": pickled_settings(), "model": model | head}, path)


def write_distributed(path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save({"model": {f"module.{name}": tensor for name, tensor in tensors.items()}}, path)


def write_torchaudio(path: Path, tensors: dict[str, Tensor]) -> None:
    heads = {
        "aux.weight": torch.zeros(40, 128),
        "aux.bias": torch.zeros(40),
        "model.logit_generator.label_embeddings": torch.zeros(500, 4),
        "model.logit_generator.projection.weight": torch.zeros(4, 128),
    }
    save_file({to_torchaudio(name): tensor for name, tensor in tensors.items()} | heads, path)


def write_torchaudio_without_mask(path: Path, tensors: dict[str, Tensor]) -> None:
    write_torchaudio(path, {name: tensor for name, tensor in tensors.items() if name != "mask_emb"})


def spin_tensors(num_codes: int = 128, dim: int = 128) -> dict[str, Tensor]:
    shapes = affine("pred_head.layers.0", SPIN_WIDTH, dim) | {"loss_module.codebook.weight": (num_codes, SPIN_WIDTH)}
    return random_tensors(shapes, seed=1)


def write_spin(path: Path, tensors: dict[str, Tensor]) -> None:
    encoder = {f"encoder.model.{name}": tensor for name, tensor in tensors.items()}
    encoder["encoder.model.label_embs_concat"] = torch.zeros(9, 4)
    state = encoder | spin_tensors()
    hyper_parameters = {"model": {"encoder": {"type": "HuBERT"}, "config": pickled_settings()}}
    save_with_settings({"epoch": 3, "state_dict": state, "hyper_parameters": hyper_parameters}, path)


class Case(NamedTuple):
    """One kind of file: which entry it is of, how it is written, and what its model is like."""

    entry: str
    write: Callable[[Path, dict[str, Tensor]], None]
    options: dict[str, bool] = {}
    suffix: str = ".pt"

    def tensors(self) -> dict[str, Tensor]:
        return random_tensors(fairseq_shapes(TINY, **self.options))

    def released(self) -> Released:
        return REGISTRY[self.entry]._replace(num_layers=TINY.layers, dim=TINY.dim, head_size=64)


CASES = {
    "fairseq": Case("hubert-base", write_fairseq),
    "fairseq-large": Case("hubert-large", write_fairseq, {"is_large": True, "conv_bias": True}),
    "distributed": Case("hubert-base", write_distributed),
    "s3prl": Case("contentvec", write_s3prl),
    "wavlm": Case("wavlm-base-plus", write_wavlm, {"is_wavlm": True}),
    "wavlm-large": Case("wavlm-large", write_wavlm, {"is_wavlm": True, "is_large": True}),
    "wav2vec2": Case("wav2vec2-base", write_fairseq),
    "ctc": Case("wav2vec2-large-asr", write_ctc, {"is_large": True, "conv_bias": True}),
    "torchaudio": Case("hubert-phoneme", write_torchaudio, suffix=".safetensors"),
    "torchaudio-without-mask": Case("hubert-phoneme", write_torchaudio_without_mask, suffix=".safetensors"),
    "spin-hubert": Case("hubert-spin-128", write_spin, suffix=".ckpt"),
    "spin-wavlm": Case("wavlm-spin-128", write_spin, {"is_wavlm": True}, suffix=".ckpt"),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def write(folder: Path, case: Case, tensors: dict[str, Tensor] | None = None) -> Path:
    path = folder / f"released{case.suffix}"
    case.write(path, case.tensors() if tensors is None else tensors)
    return path


def converted(folder: Path, case: Case) -> Path:
    """The folder of its encoder; of a Spin file, that of its base."""
    convert(write(folder, case), case.released(), folder / "encoder")
    return folder / "encoder" / "base" if "spin" in case.entry else folder / "encoder"


def speech(num_samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(num_samples).normal(0.05, 0.1, (batch, num_samples)).astype(np.float32)


# HuBERT and wav2vec 2.0 once more, from their papers: plain functions of the file's tensors, in double precision.


def norm(t: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * t[f"{name}.weight"] + t[f"{name}.bias"]


def linear(t: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]


def layer_outputs(t: dict[str, Tensor], waveform: np.ndarray, is_large: bool) -> list[np.ndarray]:
    t = {name: tensor.double() for name, tensor in t.items()}
    x = torch.from_numpy(waveform).double()[None]  # (channels, samples)
    for i, stride in enumerate(STRIDES):
        name = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x, t[f"{name}.0.weight"], t.get(f"{name}.0.bias"), stride)
        if is_large:
            x = norm(t, f"{name}.2.1", x.T).T
        elif i == 0:  # as many groups as channels: each is normalised over time
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            x = x * t[f"{name}.2.weight"][:, None] + t[f"{name}.2.bias"][:, None]
        x = F.gelu(x)
    x = linear(t, "post_extract_proj", norm(t, "layer_norm", x.T))  # (frames, dim)
    direction = t["encoder.pos_conv.0.weight_v"]
    weight = t["encoder.pos_conv.0.weight_g"] * direction / direction.square().sum((0, 1), keepdim=True).sqrt()
    positions = F.conv1d(x.T, weight, t["encoder.pos_conv.0.bias"], padding=TINY.kernel // 2, groups=TINY.groups)
    x = x + F.gelu(positions[:, : len(x)]).T
    x = x if is_large else norm(t, "encoder.layer_norm", x)
    outputs = [x]
    for i in range(TINY.layers):
        layer = f"encoder.layers.{i}"
        before = norm(t, f"{layer}.self_attn_layer_norm", x) if is_large else x
        q, k, v = (linear(t, f"{layer}.self_attn.{p}_proj", before).view(len(x), TINY.heads, -1) for p in "qkv")
        scores = torch.einsum("ihd,jhd->hij", q, k) / q.shape[2] ** 0.5
        attended = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).flatten(1)
        x = x + linear(t, f"{layer}.self_attn.out_proj", attended)
        x = x if is_large else norm(t, f"{layer}.self_attn_layer_norm", x)
        before = norm(t, f"{layer}.final_layer_norm", x) if is_large else x
        x = x + linear(t, f"{layer}.fc2", F.gelu(linear(t, f"{layer}.fc1", before)))
        x = x if is_large else norm(t, f"{layer}.final_layer_norm", x)
        outputs.append(x)
    return [output.numpy() for output in outputs]


@torch.inference_mode()
def wavlm_outputs(t: dict[str, Tensor], waveform: np.ndarray, is_large: bool) -> list[np.ndarray]:
    """Transformers' WavLM, the file's tensors put in by hand."""
    config = transformers.WavLMConfig(
        hidden_size=TINY.dim,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        intermediate_size=TINY.ffn,
        conv_dim=[TINY.channels] * 7,
        feat_extract_norm="layer" if is_large else "group",
        do_stable_layer_norm=is_large,
        num_conv_pos_embeddings=TINY.kernel,
        num_conv_pos_embedding_groups=TINY.groups,
    )
    model = transformers.WavLMModel(config).eval().double()

    def put(module: torch.nn.Module, name: str) -> None:
        for kind, parameter in module.named_parameters(recurse=False):
            parameter.copy_(t[f"{name}.{kind}"])

    for i, convolution in enumerate(model.feature_extractor.conv_layers):
        put(convolution.conv, f"feature_extractor.conv_layers.{i}.0")
        if hasattr(convolution, "layer_norm"):
            put(convolution.layer_norm, f"feature_extractor.conv_layers.{i}.2" + (".1" if is_large else ""))
    put(model.feature_projection.layer_norm, "layer_norm")
    put(model.feature_projection.projection, "post_extract_proj")
    positions = model.encoder.pos_conv_embed.conv
    positions.parametrizations.weight.original0.copy_(t["encoder.pos_conv.0.weight_g"])
    positions.parametrizations.weight.original1.copy_(t["encoder.pos_conv.0.weight_v"])
    positions.bias.copy_(t["encoder.pos_conv.0.bias"])
    put(model.encoder.layer_norm, "encoder.layer_norm")
    for i, layer in enumerate(model.encoder.layers):
        name = f"encoder.layers.{i}"
        for projection in PROJECTIONS:
            put(getattr(layer.attention, projection), f"{name}.self_attn.{projection}")
        put(layer.attention.gru_rel_pos_linear, f"{name}.self_attn.grep_linear")
        layer.attention.gru_rel_pos_const.copy_(t[f"{name}.self_attn.grep_a"])
        if i == 0:
            put(layer.attention.rel_attn_embed, f"{name}.self_attn.relative_attention_bias")
        put(layer.layer_norm, f"{name}.self_attn_layer_norm")
        put(layer.feed_forward.intermediate_dense, f"{name}.fc1")
        put(layer.feed_forward.output_dense, f"{name}.fc2")
        put(layer.final_layer_norm, f"{name}.final_layer_norm")
    states = model(torch.from_numpy(waveform).double()[None], output_hidden_states=True).hidden_states
    return [state[0].numpy() for state in states]


def test_features_are_those_of_the_model_in_the_file(tmp_path: Path, case: Case) -> None:
    folder = converted(tmp_path, case)
    outputs = wavlm_outputs if case.options.get("is_wavlm") else layer_outputs
    (waveform,) = speech(5000)
    standard = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    expected = outputs(case.tensors(), standard if case.released().standardize else waveform, "large" in case.entry)
    for layers in ([0, 1, 2, 3], [2]):
        features = load(folder, "cpu", layers).features(waveform[None], layers)
        for layer in layers:
            np.testing.assert_allclose(features[layer][0], expected[layer], rtol=1e-5, atol=1e-5)


def test_the_folder_says_what_it_is_and_where_it_came_from(tmp_path: Path, case: Case) -> None:
    converted(tmp_path, case)
    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    is_spin = "spin" in case.entry
    assert config["family"] == ("spin" if is_spin else "hub")
    assert (config["num_layers"], config["frame_rate_hz"], config["tap"]) == (3, 50.0, "block")
    (source,) = config["provenance"]["inputs"].values()
    assert source["sha256"] == hashlib.sha256((tmp_path / f"released{case.suffix}").read_bytes()).hexdigest()
    assert config["provenance"]["settings"] == {"encoder": case.entry}
    if is_spin:
        assert (config["base"], config["codebook_size"]) == ("base", 128)
        config = json.loads((tmp_path / "encoder" / "base" / "config.json").read_text())
    assert (config["family"], config["source"]) == ("hub", "model")
    assert config["standardize"] is case.released().standardize


def test_frames_and_batches(tmp_path: Path, case: Case) -> None:
    encoder = load(converted(tmp_path, case), "cpu", [0, 3])
    frames = {399: 0, 400: 1, 719: 1, 720: 2, 16000: 49, 16080: 50}
    assert {num_samples: encoder.num_frames(num_samples) for num_samples in frames} == frames
    for num_samples in (400, 719, 720, 16080):
        together = speech(num_samples, batch=2)
        features = encoder.features(together, [0, 3])
        for layer in (0, 3):
            assert features[layer].shape == (2, frames[num_samples], TINY.dim)
            alone = [encoder.features(waveform[None], [layer])[layer][0] for waveform in together]
            np.testing.assert_allclose(features[layer], np.stack(alone), rtol=1e-5, atol=1e-5)


def test_a_folder_may_be_moved_and_read_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = converted(tmp_path, CASES["fairseq"])
    waveforms = speech(1000)
    before = load(folder, "cpu", [1]).features(waveforms, [1])[1]
    folder.rename(tmp_path / "elsewhere")
    (tmp_path / "model").mkdir()  # the source's name, but not in the encoder's folder
    monkeypatch.chdir(tmp_path)
    np.testing.assert_array_equal(load(Path("elsewhere"), "cpu", [1]).features(waveforms, [1])[1], before)


def test_spins_head_and_codebook_are_kept(tmp_path: Path) -> None:
    converted(tmp_path, CASES["spin-hubert"])
    found = load_file(tmp_path / "encoder" / "spin.safetensors")
    theirs = spin_tensors()
    assert found.keys() == {"head.weight", "head.bias", "codebook.weight"}
    assert torch.equal(found["head.weight"], theirs["pred_head.layers.0.weight"])
    assert torch.equal(found["head.bias"], theirs["pred_head.layers.0.bias"])
    assert torch.equal(found["codebook.weight"], theirs["loss_module.codebook.weight"])


@pytest.mark.parametrize("name", ["spin-hubert", "spin-wavlm"])
def test_a_spin_file_has_the_units_of_its_codebook(tmp_path: Path, name: str) -> None:
    pytest.importorskip("units.spin.encoder")
    base = load(converted(tmp_path, CASES[name]), "cpu", [3])
    folder = tmp_path / "encoder"
    encoder = with_codebook(load(folder, "cpu", [3]), folder, [3])
    assert (encoder.codebook_layers, encoder.codebook_size) == ([3], 128)
    waveforms = speech(4000, batch=2)
    features, predictions = encoder.features_and_predictions(waveforms, [3], [3])
    np.testing.assert_array_equal(features[3], base.features(waveforms, [3])[3])
    theirs = spin_tensors()
    head = linear(theirs, "pred_head.layers.0", torch.from_numpy(features[3]))
    codes = theirs["loss_module.codebook.weight"]
    cosines = (head / head.norm(dim=-1, keepdim=True)) @ (codes / codes.norm(dim=1, keepdim=True)).T
    np.testing.assert_allclose(predictions[3], (cosines / 0.1).softmax(-1).numpy(), rtol=1e-4, atol=1e-6)


def test_a_folder_can_be_read_by_others(tmp_path: Path) -> None:
    converted(tmp_path, CASES["spin-hubert"])
    files = [path for path in (tmp_path / "encoder").rglob("*") if path.is_file()]
    assert len(files) == 5
    assert {path.stat().st_mode & 0o777 for path in files} == {0o666 & ~UMASK}


def test_half_precision_becomes_full(tmp_path: Path) -> None:
    case = CASES["fairseq"]
    path = write(tmp_path, case, {name: tensor.half() for name, tensor in case.tensors().items()})
    convert(path, case.released(), tmp_path / "encoder")
    tensors = load_file(tmp_path / "encoder" / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.float32}
    name = "encoder.layers.1.feed_forward.output_dense.weight"
    assert torch.equal(tensors[name], case.tensors()["encoder.layers.1.fc2.weight"].half().float())


# The models of data2vec 2.0 and the Conformer are proved in test_data2vec2 and test_conformer.


def test_a_file_of_data2vec_2_is_converted(tmp_path: Path) -> None:
    content = data2vec2_release(FORMS["two-lists"]) | {"cfg": pickled_settings()}
    save_with_settings(content, tmp_path / "ehmam.pt")
    released = REGISTRY["eh-mam"]._replace(num_layers=4, dim=24)
    convert(tmp_path / "ehmam.pt", released, tmp_path / "encoder")
    config, tensors = data2vec2.from_released(content, tmp_path / "ehmam.pt")
    check_converted(tmp_path / "encoder", config, tensors, "eh-mam")
    with pytest.raises(InputError, match="found 4 layers of width 24, expected 12 of 768: eh-mam has those"):
        convert(tmp_path / "ehmam.pt", REGISTRY["eh-mam"], tmp_path / "other")


def test_the_two_files_of_the_conformer_are_converted(tmp_path: Path) -> None:
    content, normalizer = conformer_release()
    torch.save(content, tmp_path / "asr.ckpt")
    torch.save(normalizer, tmp_path / "normalizer.ckpt")
    released = REGISTRY["conformer-asr"]._replace(num_layers=3, dim=16)
    convert(tmp_path / "asr.ckpt", released, tmp_path / "encoder", tmp_path / "normalizer.ckpt")
    config, tensors = conformer.from_released(content, tmp_path / "asr.ckpt", normalizer)
    check_converted(tmp_path / "encoder", config, tensors, "conformer-asr")
    with pytest.raises(InputError, match="found no tensor glob_mean"):
        convert(tmp_path / "asr.ckpt", released, tmp_path / "other", tmp_path / "asr.ckpt")


def check_converted(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], entry: str) -> None:
    written = load_file(folder / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())
    found = json.loads((folder / "config.json").read_text())
    assert found.pop("provenance")["settings"] == {"encoder": entry}
    assert found == json.loads(json.dumps(config))
    encoder = load(folder, "cpu", [1, 2])
    released = REGISTRY[entry]
    assert (encoder.tap, encoder.frame_rate_hz) == (released.tap, released.frame_rate_hz)
    assert found["standardize"] == released.standardize
    features = encoder.features(speech(4000), [1, 2])
    assert features[2].shape == (1, encoder.num_frames(4000), encoder.dim(2))
    assert not np.array_equal(features[1], features[2])


# What is wrong is named in one line, and no folder is left.


def refuse(path: Path, case: Case, message: str, output: str = "encoder", **changes: Any) -> None:
    with pytest.raises(InputError, match=message) as error:
        convert(path, case.released()._replace(**changes), path.parent / output)
    assert "\n" not in str(error.value)
    assert not [found.name for found in path.parent.iterdir() if "encoder" in found.name]


@pytest.mark.parametrize("name", ["fairseq", "fairseq-large", "wavlm", "ctc", "torchaudio"])
def test_each_tensor_is_needed_whole(name: str) -> None:
    case = CASES[name]
    written: dict[str, Any] = {}
    rename = to_torchaudio if name == "torchaudio" else lambda name: name
    prefix = "w2v_encoder.w2v_model." if name == "ctc" else ""
    written = {prefix + rename(key): tensor for key, tensor in case.tensors().items() if key != "mask_emb"}
    layout = LAYOUTS[case.released().model_type]
    where = Path("file.pt")

    def attempt(tensors: dict[str, Tensor]) -> str:
        try:
            to_transformers({"model": tensors} if layout.containers else tensors, layout, 64, where)
        except InputError as error:
            return str(error)
        return ""

    assert attempt(written) == ""
    for key in written:
        told = attempt({k: v for k, v in written.items() if k != key})
        assert re.match(r"file\.pt: found no tensor (.+), expected one of", told), (key, told)
        assert key in told.split(", expected")[0].removeprefix("file.pt: found no tensor ").split(" or ")
    told = attempt({**written, "decoder.weight": torch.zeros(3)})
    assert told == "file.pt: found a tensor decoder.weight, expected none of this name"
    key = next(key for key in written if "layers.1.final_layer_norm.bias" in key)
    told = attempt({**written, key: torch.zeros(3)})
    assert told == f"file.pt: {key}: found float32 of shape (3,), expected shape (128,)"
    told = attempt({**written, key: torch.zeros(128, dtype=torch.int64)})
    assert told == f"file.pt: {key}: found int64 of shape (128,), expected a tensor of floats"


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    case = CASES["s3prl"]
    path = write(tmp_path, case)
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"no checkpoint", b""):
        path.write_bytes(content)
        refuse(path, case, r"released\.pt: found .*expected a checkpoint that torch.save wrote")
    path.unlink()
    refuse(path, case, r"released\.pt: no such file")
    case = CASES["torchaudio"]
    path = write(tmp_path, case)
    path.write_bytes(path.read_bytes()[:-5])
    refuse(path, case, r"released\.safetensors: cannot be read .*expected a whole safetensors file")


@pytest.mark.parametrize(
    ("written", "asked", "message"),
    [
        ("fairseq", "wavlm", r"found no tensor encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight"),
        ("wavlm", "fairseq", r"found a tensor encoder\.layers\.0\.self_attn\.grep_a, expected none of this name"),
        (
            "fairseq",
            "spin-hubert",
            r"found the keys args, cfg, model, .*expected a dictionary with tensors in state_di",
        ),
        ("spin-hubert", "fairseq", "expected a dictionary with tensors in model or model_weight"),
        ("torchaudio", "s3prl", "expected a dictionary with tensors in model or model_weight"),
        ("fairseq", "torchaudio", r"found .*expected a tensor"),
    ],
)
def test_a_file_of_another_kind_is_refused(tmp_path: Path, written: str, asked: str, message: str) -> None:
    refuse(write(tmp_path, CASES[written]), CASES[asked], message)


def test_a_file_of_another_size_is_refused(tmp_path: Path) -> None:
    case = CASES["fairseq"]
    path = write(tmp_path, case)
    message = "found 3 layers of width 128, expected 12 of 768: hubert-base has those"
    refuse(path, case, message, num_layers=12, dim=768)
    refuse(path, case, "found width 128, expected a multiple of 80", head_size=80)


def test_a_head_or_codebook_of_another_size_is_refused(tmp_path: Path) -> None:
    case = CASES["spin-hubert"]
    encoder = {f"encoder.model.{name}": tensor for name, tensor in case.tensors().items()}
    for name, shape in {key: tuple(tensor.shape) for key, tensor in spin_tensors().items()}.items():
        found = spin_tensors()
        path = tmp_path / "released.ckpt"
        torch.save({"state_dict": encoder | found | {name: torch.zeros(*shape, 2)}}, path)
        refuse(path, case, re.escape(name) + ": found ")
        del found[name]
        torch.save({"state_dict": encoder | found}, path)
        refuse(path, case, f"found no tensor {re.escape(name)}")
    path = write(tmp_path, case)
    message = r"loss_module\.codebook\.weight: found shape \(128, 6\), expected \(256, 6\)"
    refuse(path, case, message, codebook_size=256)


def test_a_folder_in_use_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path, CASES["fairseq"])
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    refuse(path, CASES["fairseq"], "mine: found something there, expected a new folder", output="mine")
    assert [file.name for file in (tmp_path / "mine").iterdir()] == ["notes.txt"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--encoder", "nothing"], "--encoder: found 'nothing', expected a name of python -m units.encoders list"),
        (["--encoder", "spidr-base"], "python -m spidr.released import FILE --layout spidr --output FOLDER"),
        (["--encoder", "data2vec-base"], "facebook/data2vec-audio-base is used by its name"),
        (["--encoder", "conformer-asr"], "--extra: found nothing with conformer-asr, expected normalizer.ckpt"),
        (["--encoder", "contentvec", "--extra", "x"], "--extra: found x with contentvec, expected none"),
        (["--encoder", "contentvec"], "file.pt: no such file"),
    ],
)
def test_the_command_ends_with_one_line(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    file, output = str(tmp_path / "file.pt"), str(tmp_path / "encoder")
    monkeypatch.setattr(sys, "argv", ["encoders", "convert", file, "--output", output, *arguments])
    with pytest.raises(SystemExit) as ended:
        run(main)
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert list(tmp_path.iterdir()) == []


# Full sizes, without weights.

WITH_LAYOUT = {name: released for name, released in REGISTRY.items() if released.model_type in LAYOUTS}
FULL_SIZES = {12: BASE, 24: LARGE, 48: XLARGE}


@pytest.mark.parametrize("name", WITH_LAYOUT)
def test_a_file_of_the_full_size_is_the_entry(name: str) -> None:
    released = WITH_LAYOUT[name]
    sizes = FULL_SIZES[released.num_layers]
    is_wavlm = "wavlm" in name
    options = {"is_large": sizes is not BASE, "conv_bias": sizes is not BASE and not is_wavlm, "is_wavlm": is_wavlm}
    shapes = fairseq_shapes(sizes, **options)
    if name == "hubert-phoneme":
        shapes = {to_torchaudio(key): shape for key, shape in shapes.items()}
    if released.codebook_size is not None:
        shapes |= affine("pred_head.layers.0", 256, 768) | {
            "loss_module.codebook.weight": (released.codebook_size, 256)
        }
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
    layout = LAYOUTS[released.model_type]
    content = {layout.containers[0]: tensors} if layout.containers else tensors
    parts = to_transformers(content, layout, released.head_size, Path("file.pt"))
    assert sum(tensor.numel() for tensor in parts.tensors.values()) == released.num_parameters
    assert (parts.config["num_hidden_layers"], parts.config["hidden_size"]) == (released.num_layers, released.dim)
    config = transformers.AutoConfig.for_model(**parts.config)
    assert config.num_attention_heads == sizes.heads
    assert 16000 / math.prod(config.conv_stride) == released.frame_rate_hz


@pytest.mark.parametrize("name", ["data2vec2-base", "data2vec2-large", "eh-mam"])
def test_data2vec_2_of_the_full_size_is_the_entry(name: str) -> None:
    released = REGISTRY[name]
    sizes = FULL_SIZES[released.num_layers]
    model = {
        "extractor": [[512, kernel, stride] for kernel, stride in zip(KERNELS, STRIDES, strict=True)],
        "hidden_size": released.dim,
        "num_heads": sizes.heads,
        "ffn_size": sizes.ffn,
        "position_layers": 5,
        "position_kernel": 19,
        "position_groups": 16,
    }
    with torch.device("meta"):
        built = data2vec2.Model(data2vec2.Sizes.model_validate(model), released.num_layers)
    assert sum(parameter.numel() for parameter in built.parameters()) == released.num_parameters


def test_the_conformer_of_the_full_size_is_the_entry() -> None:
    released = REGISTRY["conformer-asr"]
    model = {"num_mels": 80, "channels": [64, 32], "hidden_size": 512, "num_heads": 8, "ffn_size": 2048, "kernel": 31}
    with torch.device("meta"):
        built = conformer.Model(conformer.Sizes.model_validate(model), released.num_layers)
    last_norm = 2 * 512  # counted by the release, and of no layer
    assert sum(parameter.numel() for parameter in built.parameters()) + last_norm == released.num_parameters
    assert released.dim == 512


# Converted encoders in an experiment.


def write_experiment(folder: Path, encoder: str) -> Path:
    path = folder / "e.yaml"
    path.write_text(
        "experiment: e\ncorpora: {c: {layout: folder, path: c, annotations: a.csv}}\n"
        f"encoders: {{x: {encoder}}}\nquantizers: {{codes: {{kind: codebook}}}}\n"
        "evaluation: {abx: {corpora: [c]}, quality: {corpora: [c]}}\n"
    )
    return path


def test_an_experiment_knows_the_layers_of_a_converted_encoder(tmp_path: Path) -> None:
    folder = converted(tmp_path, CASES["fairseq"])
    read_experiment(write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [0, 3]}}"))
    with pytest.raises(InputError, match=r"encoders\.x\.layers: found 4, expected 0 to 3"):
        read_experiment(write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [3, 4]}}"))


def test_only_spin_gives_a_converted_encoder_a_codebook(tmp_path: Path) -> None:
    converted(tmp_path, CASES["spin-hubert"])
    for folder in (tmp_path / "encoder", tmp_path / "not there yet"):
        entry = f"{{family: converted, path: {folder}, layers: [3], quantizers: [codes]}}"
        assert list(read_experiment(write_experiment(tmp_path, entry)).all_systems) == ["x-L03-codes"]
    entry = f"{{family: converted, path: {tmp_path / 'encoder' / 'base'}, layers: [3], quantizers: [codes]}}"
    with pytest.raises(
        InputError, match=r"encoders\.x\.quantizers: found codes of kind codebook, .*base has no codebook"
    ):
        read_experiment(write_experiment(tmp_path, entry))


@pytest.mark.parametrize(
    ("source", "command"),
    [
        (
            "contentvec",
            "python -m units.encoders convert FILE --encoder contentvec --output FOLDER, and used with family",
        ),
        ("coml/hubert-phoneme-classification", "convert FILE --encoder hubert-phoneme --output FOLDER"),
        ("conformer-asr", "convert FILE --extra normalizer.ckpt --encoder conformer-asr --output FOLDER"),
        (
            "spidr-base",
            "python -m spidr.released import FILE --layout spidr --output FOLDER, and used with family spidr",
        ),
        ("dinosr-original", "import FILE --layout dinosr-original --output FOLDER, and used with family dinosr"),
    ],
)
def test_an_entry_that_is_a_file_says_what_makes_a_folder_of_it(tmp_path: Path, source: str, command: str) -> None:
    with pytest.raises(InputError, match=rf"encoders\.x: source: found '{source}', expected .*{re.escape(command)}"):
        read_experiment(write_experiment(tmp_path, f"{{family: hub, source: {source}, layers: [1]}}"))


def test_jobs_read_a_converted_encoder_where_it_is(tmp_path: Path) -> None:
    folder = converted(tmp_path, CASES["fairseq"])
    path = write_experiment(tmp_path, f"{{family: converted, path: {folder}, layers: [2]}}")
    (tmp_path / "c").mkdir()
    (tmp_path / "a.csv").write_text("fileid,onset,offset,label,tier,speaker\n")
    target = "results/e/features/x/L02/c"
    done = snakemake(tmp_path, "-n", "-p", target, experiment=path)
    assert done.returncode == 0, done.stderr
    assert f"--encoder {folder} --layer 2" in done.stdout
    assert "describe" not in done.stdout
