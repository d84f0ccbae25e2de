"""Released checkpoints of SpidR and DinoSR load as they are, and ours are written as such."""

import argparse
import collections
import json
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from released_files import STRIDES
from safetensors.torch import load_file
from spidr_releases import (
    BASE,
    CPU,
    PROJECTIONS,
    TINY,
    call,
    released,
    shapes_of,
    small_model,
    weights_of,
    write_released,
)
from torch import Tensor
from torch.nn import functional as F

from artifacts.errors import InputError
from spidr.encoder import load_encoder, load_learner, write_encoder
from spidr.layouts import LAYOUTS, released_views
from spidr.learner import SpidR, build_learner
from spidr.released import export_released, import_released
from spidr.settings import ModelSettings


def flat(model: dict[str, Any]) -> dict[str, Tensor]:
    teacher = {f"_ema.{name}": tensor for name, tensor in model.get("_ema", {}).items()}
    return {name: tensor for name, tensor in model.items() if name != "_ema"} | teacher


class Names(NamedTuple):
    """Names that differ between the layouts, for the forward pass."""

    conv: str
    conv_norm: str
    frame_norm: str
    projection: str
    transformer: str
    position: str
    out: str
    attention_norm: str
    fc1: str
    fc2: str


SPIDR_NAMES = Names(
    *("conv", "layer_norm", "feature_projection.layer_norm", "feature_projection.projection", "student"),
    *("pos_conv_embed.convs.{}", "attention.proj", "layer_norm"),
    *("feed_forward.intermediate_dense", "feed_forward.output_dense"),
)
ORIGINAL_NAMES = Names(
    *("0", "2.1", "layer_norm", "post_extract_proj", "encoder"),
    *("pos_conv.{}.0", "self_attn.out_proj", "self_attn_layer_norm", "fc1", "fc2"),
)


def forward(layout: str, w: dict[str, Tensor], waveforms: Tensor) -> tuple[list[Tensor], Tensor]:
    """What the paper describes, from the file's tensors: feed-forward outputs of layers 0 to L, and the last block."""
    names = ORIGINAL_NAMES if layout == "dinosr-original" else SPIDR_NAMES

    def norm(x: Tensor, name: str) -> Tensor:
        return F.layer_norm(x, x.shape[-1:], w[f"{name}.weight"], w[f"{name}.bias"])

    def linear(x: Tensor, name: str) -> Tensor:
        return F.linear(x, w[f"{name}.weight"], w[f"{name}.bias"])

    x = ((waveforms - waveforms.mean(1, True)) / (waveforms.var(1, correction=0, keepdim=True) + 1e-5).sqrt())[:, None]
    for i, stride in enumerate(STRIDES):
        layer = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x, w[f"{layer}.{names.conv}.weight"], stride=stride)
        x = F.gelu(norm(x.mT, f"{layer}.{names.conv_norm}")).mT
    frames = linear(norm(x.mT, names.frame_norm), names.projection)
    positions = frames.mT
    for i in range(TINY.positions):
        position = f"{names.transformer}.{names.position.format(i)}"
        weight, bias = w[f"{position}.weight"], w[f"{position}.bias"]
        positions = F.conv1d(positions, weight, bias, padding=TINY.kernel // 2, groups=TINY.groups).mT
        positions = F.gelu(F.layer_norm(positions, positions.shape[-1:])).mT
    block = norm(frames + positions.mT, f"{names.transformer}.layer_norm")
    outputs = [block]
    for i in range(TINY.layers):
        layer = f"{names.transformer}.layers.{i}"
        if layout == "dinosr-original":
            query, key, value = (linear(block, f"{layer}.self_attn.{name}") for name in PROJECTIONS)
        else:
            query, key, value = (block @ w[f"{layer}.attention.qkv.weight"].T).chunk(3, dim=-1)
        attended = torch.cat(
            [
                (q @ k.mT / 8).softmax(-1) @ v
                for q, k, v in zip(query.chunk(2, -1), key.chunk(2, -1), value.chunk(2, -1), strict=True)
            ],
            dim=-1,
        )
        hidden = norm(block + linear(attended, f"{layer}.{names.out}"), f"{layer}.{names.attention_norm}")
        outputs.append(linear(F.gelu(linear(hidden, f"{layer}.{names.fc1}")), f"{layer}.{names.fc2}"))
        block = norm(hidden + outputs[-1], f"{layer}.final_layer_norm")
    return outputs, block


@pytest.mark.parametrize(
    ("layout", "num_student"), [("spidr", 93_135_872), ("dinosr", 93_135_872), ("dinosr-original", 93_163_520)]
)
def test_the_layouts_hold_every_tensor_of_the_released_models(layout: str, num_student: int) -> None:
    settings = ModelSettings(qkv_bias=layout == "dinosr-original", predict_from=LAYOUTS[layout].predict_from)
    with torch.device("meta"):
        views = released_views(LAYOUTS[layout], SpidR(settings).state_dict())
    shapes = shapes_of(layout, BASE)
    assert {name: tuple(view.shape) for name, view in views.items()} == shapes

    def size(*prefixes: str) -> int:
        return sum(prod(shape) for name, shape in shapes.items() if name.startswith(prefixes))

    front = ("feature_", "layer_norm.", "post_extract_proj.")
    assert size("student.", "encoder.", *front) == num_student
    assert size("heads.") == 1_574_912
    if layout != "dinosr-original":
        assert size("student.", "teacher.", "heads.", "mask_emb", *front) == 183_245_824


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_imported_model_computes_what_the_paper_describes(layout: str, tmp_path: Path) -> None:
    learner, _ = import_released(write_released(tmp_path / "released.pt", layout), LAYOUTS[layout])
    write_encoder(tmp_path / "encoder", learner, {})
    encoder = load_encoder(tmp_path / "encoder", CPU)
    waveforms = torch.randn(2, 6000, generator=torch.Generator().manual_seed(1)) * 0.05 + 0.01
    weights = weights_of(layout)
    expected, last = forward(layout, weights, waveforms)
    features = encoder.features(waveforms, [0, 1, 2, 3])
    for layer in range(TINY.layers + 1):
        torch.testing.assert_close(features[layer], expected[layer], atol=1e-4, rtol=1e-4)
    for k, layer in enumerate(encoder.codebook_layers):
        head = f"heads.{k}" if layout == "dinosr-original" else f"heads.{k}.0"
        read = expected[layer] if layout == "spidr" else last
        probabilities = (read @ weights[f"{head}.weight"].T + weights[f"{head}.bias"]).softmax(-1)
        torch.testing.assert_close(encoder.predictions(waveforms, [layer])[layer], probabilities, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_import_and_export_give_back_the_same_file(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_released(tmp_path / "released.pt", layout)
    call(monkeypatch, "import", source, "--layout", layout, "--output", tmp_path / "encoder")
    call(monkeypatch, "export", tmp_path / "encoder", "--layout", layout, "--output", tmp_path / "again.pt")
    found = torch.load(tmp_path / "again.pt", weights_only=True)
    assert list(found) == ["model"]
    expected, found = flat(released(layout, weights_of(layout))), flat(found["model"])
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == tensor.dtype
        assert torch.equal(found[name], tensor)
    assert (tmp_path / "again.pt").stat().st_size < 1.1 * source.stat().st_size

    config = json.loads((tmp_path / "encoder" / "config.json").read_text())
    assert config["family"] == ("spidr" if layout == "spidr" else "dinosr")
    assert config["model"]["num_heads"] == 2
    assert config["provenance"]["settings"]["layout"] == layout
    assert len(config["provenance"]["inputs"]["released"]["sha256"]) == 64


def test_an_encoder_trained_here_is_exported_with_its_steps(tmp_path: Path) -> None:
    learner = build_learner(small_model(), 3)
    write_encoder(tmp_path / "encoder", learner, {"settings": {"model": {}}})
    export_released(tmp_path / "encoder", LAYOUTS["spidr"], tmp_path / "untrained.pt")
    (tmp_path / "encoder" / "training").mkdir()
    (tmp_path / "encoder" / "training" / "summary.json").write_text('{"steps": 70}')
    export_released(tmp_path / "encoder", LAYOUTS["spidr"], tmp_path / "trained.pt")
    steps = [torch.load(tmp_path / f"{name}.pt")["model"]["current_step"].tolist() for name in ("untrained", "trained")]
    assert steps == [[0], [70]]
    with pytest.raises(InputError, match=r"released\.pt: found a width of 24, expected a multiple of 64.*--settings"):
        import_released((tmp_path / "trained.pt").rename(tmp_path / "released.pt"), LAYOUTS["spidr"])
    again, step = import_released(tmp_path / "released.pt", LAYOUTS["spidr"], small_model())
    assert step == 70
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, learner.state_dict()[name])


def test_an_encoder_folder_holds_the_teacher_apart(tmp_path: Path) -> None:
    learner = build_learner(small_model(), 3)
    with torch.no_grad():
        learner.teacher.layer_norm.bias.fill_(7)
    write_encoder(tmp_path, learner, {})
    assert load_file(tmp_path / "teacher.safetensors").keys() == learner.teacher.state_dict().keys()
    assert not any(name.startswith("teacher.") for name in load_file(tmp_path / "model.safetensors"))
    for name, tensor in load_learner(tmp_path).state_dict().items():
        assert torch.equal(tensor, learner.state_dict()[name])
    (tmp_path / "teacher.safetensors").unlink()
    assert load_encoder(tmp_path, CPU).num_layers == 2
    with pytest.raises(InputError, match=r"teacher\.safetensors: no such file"):
        export_released(tmp_path, LAYOUTS["spidr"], tmp_path / "no.pt")
    assert not (tmp_path / "no.pt").exists()


def test_a_model_wrapped_for_several_devices_or_in_half_precision_is_the_same(tmp_path: Path) -> None:
    model = released("dinosr", weights_of("dinosr"))
    wrapped = {f"module.{name}": t.half() if t.is_floating_point() else t for name, t in model.items()}
    torch.save({"model": collections.OrderedDict(wrapped)}, tmp_path / "wrapped.pt")
    learner, step = import_released(tmp_path / "wrapped.pt", LAYOUTS["dinosr"])
    assert step == 400_000
    assert torch.equal(learner.mask_embedding.detach(), weights_of("dinosr")["mask_embedding"].half().float())


def test_fairseqs_configuration_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "fairseq.pt"
    extra = {"args": argparse.Namespace(arch="dinosr"), "optimizer_history": [{"num_updates": 3}]}
    torch.save({**extra, "model": released("dinosr-original", weights_of("dinosr-original"))}, path)
    learner, step = import_released(path, LAYOUTS["dinosr-original"])
    assert (step, learner.settings.qkv_bias) == (None, True)
