"""Small models with random tensors in the files that SpidR and DinoSR are released in."""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from released_files import KERNELS, STRIDES, Shapes, affine
from torch import Tensor

from spidr.released import main
from spidr.settings import Convolution, ModelSettings

CPU = torch.device("cpu")
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


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> None:
    monkeypatch.setattr(sys, "argv", ["spidr.released", *map(str, arguments)])
    main()


def small_model(**changed: Any) -> ModelSettings:
    extractor = tuple(Convolution(4, kernel, stride) for kernel, stride in zip(KERNELS, STRIDES, strict=True))
    sizes = {"hidden_size": 24, "num_layers": 2, "num_heads": 3, "ffn_size": 8, "position_groups": 2}
    return ModelSettings.model_validate(
        {"extractor": extractor, **sizes, "num_codebooks": 2, "codebook_size": 3, **changed}
    )
