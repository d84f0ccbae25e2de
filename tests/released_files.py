"""Small models of fairseq's kind with random tensors, and the files that they are released in."""

import math
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import save_file
from torch import Tensor

from units.conversion import convert
from units.registry import REGISTRY, Released

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


def write(folder: Path, case: Case, tensors: dict[str, Tensor] | None = None) -> Path:
    path = folder / f"released{case.suffix}"
    case.write(path, case.tensors() if tensors is None else tensors)
    return path


def converted(folder: Path, case: Case) -> Path:
    """The folder of its encoder; of a Spin file, that of its base."""
    convert(write(folder, case), case.released(), folder / "encoder")
    return folder / "encoder" / "base" if "spin" in case.entry else folder / "encoder"
