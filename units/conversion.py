"""Released checkpoints to encoder folders.

::

    python -m units.encoders convert contentvec_km100.pt --encoder contentvec --output encoders/contentvec

A file is read as a stranger's: nothing in it is executed (`artifacts.unpickling`). What it is follows from its
entry in the registry, and it has to hold that encoder whole. The folder has ``config.json``, and

- of HuBERT's kind (`units.layouts`): ``model/``, as transformers saves a model;
- of Spin: ``base/``, an encoder folder of HuBERT's kind by itself, and ``spin.safetensors``: ``head.weight``
  (256, dim), ``head.bias`` (256,) and ``codebook.weight`` (codes, 256);
- of the rest: ``model.safetensors``, under names of `units.data2vec2` or `units.conformer`.

SpidR's and DinoSR's files are `spidr.released`'s matter.
"""

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoConfig, AutoModel

from artifacts.errors import InputError
from artifacts.files import atomic_file, atomic_folder, write_json
from artifacts.provenance import provenance
from artifacts.unpickling import load_untrusted
from corpora.audio import SAMPLE_RATE_HZ
from spidr.settings import TABLE_5_EXTRACTOR
from units import conformer, data2vec2
from units.layouts import (
    DIRECTION,
    LAYOUTS,
    SPIN_HEAD,
    Layout,
    released_names,
    transformers_name,
    without_prefix,
)
from units.registry import SPIDR_TYPES, Released
from units.tensors import WEIGHTS, rename, shape_of, tensors_of

MODEL, BASE, SPIN_WEIGHTS = "model", "base", "spin.safetensors"
"""Parts of an encoder folder."""
KERNELS = [layer.kernel for layer in TABLE_5_EXTRACTOR]
STRIDES = [layer.stride for layer in TABLE_5_EXTRACTOR]
"""Of the convolutions of wav2vec 2.0 and all that followed it: the strides are in no file."""


class HubModelParts(NamedTuple):
    """What a folder of HuBERT's kind is made of."""

    config: dict[str, Any]
    """Of transformers' model."""
    tensors: dict[str, Tensor]
    """By transformers' names."""
    others: dict[str, Tensor]
    """Tensors beside the encoder, by names of ours."""


def convert(file: Path, released: Released, output: Path, extra: Path | None = None) -> None:
    """Make the encoder folder of a released checkpoint.

    Args:
        released: What the file is.
        output: Encoder folder, which must not be there yet, or be empty.
        extra: normalizer.ckpt, which belongs to the Conformer's asr.ckpt and to nothing else.

    Raises:
        InputError: The file is damaged or not that of the encoder, a tensor is missing, unexpected or of another
            shape, or the folder is in use.
    """
    kind = released.model_type
    if kind in SPIDR_TYPES:
        raise InputError(f"--encoder: found {released.name}, expected another: its file is for {released.command}")
    if kind not in LAYOUTS and kind not in ("data2vec2", "conformer"):
        raise InputError(f"--encoder: found {released.name}, expected a file's: {released.source} is used by its name")
    if (extra is None) == (kind == "conformer"):
        expected = "normalizer.ckpt, which is beside its asr.ckpt" if extra is None else "none: conformer-asr needs one"
        raise InputError(f"--extra: found {extra or 'nothing'} with {released.name}, expected {expected}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output}: found something there, expected a new folder")
    content = read_checkpoint(file)
    inputs = {"released": file} | ({"extra": extra} if extra else {})
    made = provenance({"encoder": released.name}, inputs)
    if kind in LAYOUTS:
        parts = to_transformers(content, LAYOUTS[kind], released.head_size, file)
        sizes = (parts.config["num_hidden_layers"], parts.config["hidden_size"])
        _expect_sizes(sizes, released, file)
        if released.codebook_size is None:
            with atomic_folder(output) as folder:
                _write_hub(folder, parts, released, made)
        else:
            _expect_spin(parts.others, released, file)
            with atomic_folder(output) as folder:
                _write_spin(folder, parts, released, made)
        return
    if extra is None:
        config, tensors = data2vec2.from_released(content, file)
    else:
        config, tensors = conformer.from_released(content, file, read_checkpoint(extra))
    _expect_sizes((config["num_layers"], config["model"]["hidden_size"]), released, file)
    with atomic_folder(output) as folder:
        _save(tensors, folder / WEIGHTS)
        write_json(folder / "config.json", config | {"provenance": made})


def read_checkpoint(path: Path) -> Any:
    """Content of a checkpoint: safetensors where it is called so, else what torch.save wrote.

    Raises:
        InputError: It is not there, is damaged, or holds what plain values and tensors do not make.
    """
    if path.suffix != ".safetensors":
        return load_untrusted(path)
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path}: cannot be read ({reason}), expected a whole safetensors file") from None


def to_transformers(content: Any, layout: Layout, head_size: int, where: Path) -> HubModelParts:
    """A checkpoint of HuBERT's kind as a model of transformers, its sizes inferred from its tensors.

    The layer norms of a Transformer stand before its sublayers where the convolutions have layer norms, and after
    them where they have a group norm: so it is in all releases, and no tensor tells.

    Args:
        content: What `read_checkpoint` gives.
        head_size: Dimensions of an attention head.
        where: The file, for messages.

    Raises:
        InputError: It is another file, or a tensor is missing, unexpected or of another shape.
    """
    contained = _contained(content, layout, where)
    wanted = {name: v for name, v in contained.items() if not without_prefix(layout, name).startswith(layout.dropped)}
    found = tensors_of(wanted, (), where)
    others = {layout.others[name]: found.pop(name) for name in layout.others if name in found}
    for theirs, ours in layout.others.items():
        if ours not in others:
            raise InputError(
                f"{where}: found no tensor {theirs}, expected the file of an encoder with head and codebook"
            )
    names = _Names(found, layout)
    config = AutoConfig.for_model(layout.model_type, **_infer(found, names, layout, head_size, where))
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    tensors = rename(found, {ours: names[ours] for ours in model.state_dict()}, model, where)
    return HubModelParts(json.loads(config.to_json_string()), tensors, others)


class _Names(dict[str, str]):
    """A file's names of tensors: transformers' -> theirs; of a missing one, what it would be called."""

    def __init__(self, found: Mapping[str, Tensor], layout: Layout) -> None:
        super().__init__()
        self._layout, self._prefix = layout, ""
        for theirs in found:
            bare = without_prefix(layout, theirs)
            if ours := transformers_name(layout, bare):
                self[ours] = theirs
                self._prefix = theirs.removesuffix(bare)

    def __missing__(self, ours: str) -> str:
        return " or ".join(self._prefix + name for name in released_names(self._layout, ours))

    def count(self, pattern: str) -> int:
        """How many numbers transformers' names have at a place, at least 1: a missing first one is to be named."""
        return max(1, len({match[1] for ours in self if (match := re.match(pattern, ours))}))


def _contained(content: Any, layout: Layout, where: Path) -> Mapping[str, Any]:
    """Where the tensors are in a checkpoint."""
    kind = f"the keys {', '.join(map(str, content))}" if isinstance(content, Mapping) else type(content).__name__
    if not layout.containers:
        if not isinstance(content, Mapping):
            raise InputError(f"{where}: found {kind[:80]}, expected a dictionary of tensors")
        return {str(name): value for name, value in content.items()}
    containers = [content[key] for key in layout.containers if isinstance(content, Mapping) and key in content]
    if not containers or not isinstance(containers[0], Mapping):
        raise InputError(f"{where}: found {kind[:80]}, expected a dictionary with tensors in {_or(layout.containers)}")
    return {str(name): value for name, value in containers[0].items()}


def _or(words: tuple[str, ...]) -> str:
    return " or ".join(words)


def _infer(found: Mapping[str, Tensor], names: _Names, layout: Layout, head_size: int, where: Path) -> dict[str, Any]:
    """Configuration of transformers' model with tensors of these shapes."""

    def shape(name: str, num_dimensions: int) -> tuple[int, ...]:
        return shape_of(found, names[name], num_dimensions, where)

    def has_any(name: str, numbers: range) -> bool:
        return any(f"feature_extractor.conv_layers.{i}.{name}" in names for i in numbers)

    convolutions = [shape(f"feature_extractor.conv_layers.{i}.conv.weight", 3) for i in range(len(KERNELS))]
    kernels = [convolution[2] for convolution in convolutions]
    if kernels != KERNELS:
        raise InputError(f"{where}: found convolutions with kernels {kernels}, expected {KERNELS}")
    hidden_size = shape("feature_projection.projection.weight", 2)[0]
    _, group_size, position_kernel = shape(DIRECTION, 3)
    if hidden_size % head_size or hidden_size % group_size:
        raise InputError(
            f"{where}: found width {hidden_size}, expected a multiple of {head_size}, the size of an attention head, "
            f"and of {group_size}, that of a group of the positional convolution"
        )
    has_layer_norms = has_any("layer_norm.weight", range(1, len(KERNELS)))  # a group norm is the first one's only
    config = {
        "hidden_size": hidden_size,
        "num_hidden_layers": names.count(r"encoder\.layers\.(\d+)\."),
        "num_attention_heads": hidden_size // head_size,
        "intermediate_size": shape("encoder.layers.0.feed_forward.intermediate_dense.weight", 2)[0],
        "conv_dim": [convolution[0] for convolution in convolutions],
        "conv_kernel": KERNELS,
        "conv_stride": STRIDES,
        "conv_bias": has_any("conv.bias", range(len(KERNELS))),
        "feat_extract_norm": "layer" if has_layer_norms else "group",
        "do_stable_layer_norm": has_layer_norms,
        "num_conv_pos_embeddings": position_kernel,
        "num_conv_pos_embedding_groups": hidden_size // group_size,
    }
    if layout.model_type == "wavlm":
        config["num_buckets"] = shape("encoder.layers.0.attention.rel_attn_embed.weight", 2)[0]
    if "masked_spec_embed" not in names:  # read in training only; without masking, the model has none
        config |= {"mask_time_prob": 0.0, "mask_feature_prob": 0.0}
    return config


def _expect_sizes(found: tuple[int, int], released: Released, where: Path) -> None:
    """Check number of layers and width."""
    if found != (released.num_layers, released.dim):
        raise InputError(
            f"{where}: found {found[0]} layers of width {found[1]}, "
            f"expected {released.num_layers} of {released.dim}: {released.name} has those"
        )


def _expect_spin(found: Mapping[str, Tensor], released: Released, where: Path) -> None:
    """Check the shapes of head and codebook."""
    theirs = {ours: name for name, ours in SPIN_HEAD.items()}
    width = shape_of({theirs["head.weight"]: found["head.weight"]}, theirs["head.weight"], 2, where)[0]
    expected = {
        "head.weight": (width, released.dim),
        "head.bias": (width,),
        "codebook.weight": (released.codebook_size, width),
    }
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise InputError(f"{where}: {theirs[name]}: found shape {tuple(found[name].shape)}, expected {shape}")


def _write_hub(folder: Path, parts: HubModelParts, released: Released, made: dict[str, Any]) -> None:
    """Write an encoder folder of family hub, its model in it."""
    model = folder / MODEL
    model.mkdir(parents=True)
    _save(parts.tensors, model / WEIGHTS)
    write_json(model / "config.json", parts.config)
    config = _common(parts, released) | {"source": MODEL, "standardize": released.standardize}
    write_json(folder / "config.json", {"family": "hub", **config, "provenance": made})


def _write_spin(folder: Path, parts: HubModelParts, released: Released, made: dict[str, Any]) -> None:
    """Write an encoder folder of family spin, its base in it."""
    _write_hub(folder / BASE, parts, released, made)
    _save({name: tensor.float().contiguous() for name, tensor in parts.others.items()}, folder / SPIN_WEIGHTS)
    config = {"base": BASE, "codebook_size": released.codebook_size, **_common(parts, released)}
    write_json(folder / "config.json", {"family": "spin", **config, "provenance": made})


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    with atomic_file(path) as temporary:  # which others may read: safetensors lets only the owner
        save_file(tensors, temporary, metadata={"format": "pt"})  # transformers wants to be told


def _common(parts: HubModelParts, released: Released) -> dict[str, Any]:
    return {
        "frame_rate_hz": SAMPLE_RATE_HZ / math.prod(STRIDES),
        "tap": released.tap,
        "num_layers": parts.config["num_hidden_layers"],
    }
