"""Released files become encoder folders whose features are those of the model in the file."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from encoder_oracles import linear, norm, speech
from released_files import CASES, PROJECTIONS, STRIDES, TINY, Case, converted, write
from safetensors.torch import load_file
from torch import Tensor

from artifacts.files import UMASK
from units.conversion import convert
from units.encoders import load


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


# HuBERT and wav2vec 2.0 once more, from their papers, in double precision.


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
