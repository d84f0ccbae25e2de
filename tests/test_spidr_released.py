"""Released checkpoints of SpidR and DinoSR load as they are, and ours are written as such."""

import argparse
import collections
import json
import os
import pickle
import sys
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from artifacts.errors import InputError
from spidr.encoder import load_encoder, load_learner, write_encoder
from spidr.layouts import LAYOUTS, released_views
from spidr.learner import SpidR, build_learner
from spidr.released import export_released, import_released, main
from spidr.settings import Convolution, ModelSettings

CPU = torch.device("cpu")
KERNELS, STRIDES = (10, 3, 3, 3, 3, 2, 2), (5, 2, 2, 2, 2, 2, 2)
PROJECTIONS = ("q_proj", "k_proj", "v_proj")


class Sizes(NamedTuple):
    """Of a model whose attention heads have 64 dimensions."""

    channels: int
    dim: int
    layers: int
    ffn: int
    positions: int
    kernel: int
    groups: int
    codebooks: int
    codes: int


BASE = Sizes(channels=512, dim=768, layers=12, ffn=3072, positions=5, kernel=19, groups=16, codebooks=8, codes=256)
TINY = Sizes(channels=6, dim=128, layers=3, ffn=20, positions=2, kernel=3, groups=4, codebooks=2, codes=5)

Shapes = dict[str, tuple[int, ...]]


def affine(name: str, *shape: int) -> Shapes:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


def shapes_of_spidr(s: Sizes) -> Shapes:
    """Every tensor of spidr_base.pt and dinosr_base_reproduced.pt, but current_step."""
    shapes: Shapes = {"mask_embedding": (s.dim,)}
    for i, kernel in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{i}"
        shapes[f"{name}.conv.weight"] = (s.channels, 1 if i == 0 else s.channels, kernel)
        shapes |= affine(f"{name}.layer_norm", s.channels)
    shapes |= affine("feature_projection.layer_norm", s.channels)
    shapes |= affine("feature_projection.projection", s.dim, s.channels)
    for k in range(s.codebooks):
        shapes |= affine(f"heads.{k}.0", s.codes, s.dim)
        shapes |= {f"codebooks.{k}.codebook": (s.codes, s.dim), f"codebooks.{k}.counts": (s.codes,)}
    for side in ("student", "teacher"):
        for i in range(s.positions):
            shapes |= affine(f"{side}.pos_conv_embed.convs.{i}", s.dim, s.dim // s.groups, s.kernel)
        shapes |= affine(f"{side}.layer_norm", s.dim)
        for i in range(s.layers):
            layer = f"{side}.layers.{i}"
            shapes[f"{layer}.attention.qkv.weight"] = (3 * s.dim, s.dim)
            shapes |= affine(f"{layer}.attention.proj", s.dim, s.dim)
            shapes |= affine(f"{layer}.layer_norm", s.dim)
            shapes |= affine(f"{layer}.feed_forward.intermediate_dense", s.ffn, s.dim)
            shapes |= affine(f"{layer}.feed_forward.output_dense", s.dim, s.ffn)
            shapes |= affine(f"{layer}.final_layer_norm", s.dim)
    return shapes


def shapes_of_the_original(s: Sizes) -> Shapes:
    """Every tensor of the original dinosr.ckpt, those of the dictionary _ema with its name before theirs."""
    shapes: Shapes = {"mask_emb": (s.dim,)}
    for i, kernel in enumerate(KERNELS):
        name = f"feature_extractor.conv_layers.{i}"
        shapes[f"{name}.0.weight"] = (s.channels, 1 if i == 0 else s.channels, kernel)
        shapes |= affine(f"{name}.2.1", s.channels)
    shapes |= affine("layer_norm", s.channels)
    shapes |= affine("post_extract_proj", s.dim, s.channels)
    for k in range(s.codebooks):
        shapes |= affine(f"heads.{k}", s.codes, s.dim)
        shapes |= {f"_codebook{k}": (s.codes, s.dim), f"_codebook_cnts{k}": (s.codes,)}
    for side in ("encoder", "_ema"):
        for i in range(s.positions):
            shapes |= affine(f"{side}.pos_conv.{i}.0", s.dim, s.dim // s.groups, s.kernel)
        shapes |= affine(f"{side}.layer_norm", s.dim)
        for i in range(s.layers):
            layer = f"{side}.layers.{i}"
            for projection in (*PROJECTIONS, "out_proj"):
                shapes |= affine(f"{layer}.self_attn.{projection}", s.dim, s.dim)
            shapes |= affine(f"{layer}.self_attn_layer_norm", s.dim)
            shapes |= affine(f"{layer}.fc1", s.ffn, s.dim)
            shapes |= affine(f"{layer}.fc2", s.dim, s.ffn)
            shapes |= affine(f"{layer}.final_layer_norm", s.dim)
    return shapes


def shapes_of(layout: str, sizes: Sizes) -> Shapes:
    return shapes_of_the_original(sizes) if layout == "dinosr-original" else shapes_of_spidr(sizes)


def weights_of(layout: str, seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = shapes_of(layout, TINY)
    return {name: torch.randn(shape, generator=generator) * 0.3 for name, shape in shapes.items()}


def released(layout: str, weights: dict[str, Tensor]) -> dict[str, Any]:
    """What is under model in a file: flat with the step, or with the teacher in a dictionary of its own."""
    if layout != "dinosr-original":
        return {**weights, "current_step": torch.tensor([400_000])}
    teacher = {name.removeprefix("_ema."): weights[name] for name in weights if name.startswith("_ema.")}
    return {name: weights[name] for name in weights if not name.startswith("_ema.")} | {"_ema": teacher}


def write_released(path: Path, layout: str, cfg: Any = None, **changed: Any) -> Path:
    torch.save({"model": released(layout, weights_of(layout)) | changed, "cfg": cfg}, path)
    return path


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


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["spidr.released", *map(str, arguments)])
    main()


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


def small_model(**changed: Any) -> ModelSettings:
    extractor = tuple(Convolution(4, kernel, stride) for kernel, stride in zip(KERNELS, STRIDES, strict=True))
    sizes = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "ffn_size": 8, "position_groups": 2}
    return ModelSettings.model_validate(
        {"extractor": extractor, **sizes, "num_codebooks": 2, "codebook_size": 3, **changed}
    )


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


def test_strides_that_are_not_those_of_table_5_are_asked_for(tmp_path: Path) -> None:
    extractor = [Convolution(4, 10, 5), Convolution(4, 8, 8), Convolution(4, 8, 8)]
    settings = small_model(extractor=extractor, hidden_size=64, num_heads=4)
    write_encoder(tmp_path, build_learner(settings, 0), {})
    export_released(tmp_path, LAYOUTS["spidr"], tmp_path / "ours.pt")
    with pytest.raises(InputError, match=r"an extractor with kernels \[10, 8, 8\], whose strides .* --settings"):
        import_released(tmp_path / "ours.pt", LAYOUTS["spidr"])
    learner, _ = import_released(tmp_path / "ours.pt", LAYOUTS["spidr"], settings)
    assert learner.settings == settings


def test_a_model_the_layout_does_not_stand_for_is_refused(tmp_path: Path) -> None:
    write_encoder(tmp_path, build_learner(small_model(), 0), {})
    with pytest.raises(InputError, match=r"config\.json: model\.predict_from: found same_layer, expected last_layer"):
        export_released(tmp_path, LAYOUTS["dinosr"], tmp_path / "no.pt")
    write_encoder(tmp_path, build_learner(small_model(predict_from="last_layer"), 0), {})
    with pytest.raises(InputError, match=r"config\.json: model\.qkv_bias: found false, expected true"):
        export_released(tmp_path, LAYOUTS["dinosr-original"], tmp_path / "no.pt")
    source = write_released(tmp_path / "released.pt", "spidr")
    with pytest.raises(InputError, match=r"--settings: model\.predict_from: found last_layer"):
        import_released(source, LAYOUTS["spidr"], small_model(predict_from="last_layer"))
    with pytest.raises(InputError, match=r"released\.pt: found no tensor student\.layers\.3\."):
        import_released(source, LAYOUTS["spidr"], small_model(num_layers=4))


def test_an_import_does_not_replace_a_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "training").mkdir()
    source = write_released(tmp_path / "released.pt", "spidr")
    with pytest.raises(InputError, match="found an encoder trained here, expected a folder of its own"):
        call(monkeypatch, "import", source, "--layout", "spidr", "--output", tmp_path)


def test_a_model_wrapped_for_several_devices_or_in_half_precision_is_the_same(tmp_path: Path) -> None:
    model = released("dinosr", weights_of("dinosr"))
    wrapped = {f"module.{name}": t.half() if t.is_floating_point() else t for name, t in model.items()}
    torch.save({"model": collections.OrderedDict(wrapped)}, tmp_path / "wrapped.pt")
    learner, step = import_released(tmp_path / "wrapped.pt", LAYOUTS["dinosr"])
    assert step == 400_000
    assert torch.equal(learner.mask_embedding.detach(), weights_of("dinosr")["mask_embedding"].half().float())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"surplus": torch.ones(2)}, r"found a tensor 'surplus', expected none of this name"),
        (
            {"mask_embedding": torch.ones(7)},
            r"mask_embedding: found float32 of shape \(7,\), expected floats of shape \(128,\)",
        ),
        ({"mask_embedding": torch.ones(128).int()}, r"mask_embedding: found int32 .*, expected floats"),
        ({"mask_embedding": [1.0]}, r"'mask_embedding': found list, expected a tensor"),
        (
            {"heads.1.0.weight": torch.ones(5)},
            r"heads\.1\.0\.weight: found float32 of shape \(5,\), expected floats of",
        ),
        ({"heads.0.0.weight": torch.ones(5)}, r"heads\.0\.0\.weight: found float32 .*, expected 2 dimensions"),
        ({"current_step": torch.ones(1)}, r"current_step: found float32 of shape \(1,\), expected a tensor of int64"),
        ({"current_step": None}, r"current_step: found nothing, expected"),
        ({"student.layers.0.attention.qkv.bias": torch.ones(384)}, r"found no tensor student\.layers\.1.*qkv\.bias"),
    ],
)
def test_a_file_of_another_model_is_refused_in_one_line(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    refuse(write_released(tmp_path / "released.pt", "spidr", **changed), message)


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("mask_embedding", r"found no tensor mask_embedding, expected one of shape \(128,\)"),
        ("teacher.layers.2.layer_norm.bias", r"found no tensor teacher\.layers\.2\.layer_norm\.bias"),
        ("feature_extractor.conv_layers.0.conv.weight", r"found no tensor feature_extractor\.conv_layers\.0\.conv"),
        ("current_step", r"current_step: found nothing"),
    ],
)
def test_a_missing_tensor_is_named(tmp_path: Path, missing: str, message: str) -> None:
    model = released("spidr", weights_of("spidr"))
    del model[missing]
    torch.save({"model": model}, tmp_path / "released.pt")
    refuse(tmp_path / "released.pt", message)


def test_the_file_of_another_layout_is_refused(tmp_path: Path) -> None:
    refuse(write_released(tmp_path / "a.pt", "dinosr-original"), "current_step: found nothing")
    first = r"feature_extractor\.conv_layers\.0\.0\.weight"
    refuse(write_released(tmp_path / "b.pt", "spidr"), f"found no tensor {first}, which the layout", "dinosr-original")
    torch.save(weights_of("spidr"), tmp_path / "c.pt")
    refuse(
        tmp_path / "c.pt", "found the keys .'mask_embedding', .*, expected a dictionary whose model is one of tensors"
    )
    torch.save([1], tmp_path / "d.pt")
    refuse(tmp_path / "d.pt", "found list, expected a dictionary")


def refuse(path: Path, message: str, layout: str = "spidr") -> None:
    with pytest.raises(InputError, match=message) as error:
        import_released(path, LAYOUTS[layout])
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = write_released(tmp_path / "released.pt", "spidr")
    path.write_bytes(path.read_bytes()[:-1000])
    refuse(path, "found a damaged or truncated archive .*, expected a checkpoint that torch.save wrote")


class Call:
    """A pickle of it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


def test_a_malicious_file_executes_nothing(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    attack = Call(eval, f"open({str(trace)!r}, 'w').close()")
    learner, _ = import_released(write_released(tmp_path / "a.pt", "spidr", cfg=attack), LAYOUTS["spidr"])
    assert torch.equal(learner.mask_embedding.detach(), weights_of("spidr")["mask_embedding"])
    refuse(write_released(tmp_path / "b.pt", "spidr", mask_embedding=attack), "'mask_embedding': found Inert, expected")
    refuse(write_released(tmp_path / "c.pt", "spidr", cfg=Call(os.system, f"touch {trace}")), r"GLOBAL posix\.system")
    assert not trace.exists()
    pickle.loads(pickle.dumps(attack))  # whoever reads it so is attacked
    assert trace.exists()


def test_fairseqs_configuration_does_not_matter(tmp_path: Path) -> None:
    path = tmp_path / "fairseq.pt"
    extra = {"args": argparse.Namespace(arch="dinosr"), "optimizer_history": [{"num_updates": 3}]}
    torch.save({**extra, "model": released("dinosr-original", weights_of("dinosr-original"))}, path)
    learner, step = import_released(path, LAYOUTS["dinosr-original"])
    assert (step, learner.settings.qkv_bias) == (None, True)
