"""Released checkpoints to encoder folders, and back.

::

    python -m spidr.released import spidr_base.pt --layout spidr --output encoders/spidr-base
    python -m spidr.released export encoders/mine --layout spidr --output mine.pt

The files are read as a stranger's (`artifacts.unpickling`). What their tensors do not tell of the model is
taken from table 5: the extractor's strides, 64 dimensions a head; and dropouts and the like, which
only a further training would ask for. A recipe can say otherwise.
"""

import argparse
from collections.abc import Mapping
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_json_object
from artifacts.provenance import provenance
from artifacts.settings import load_settings, parse_settings
from artifacts.unpickling import load_untrusted
from spidr.encoder import CONFIG, load_learner, write_encoder
from spidr.layouts import LAYOUTS, Layout, released_name, released_views
from spidr.learner import SpidR, build_learner
from spidr.settings import TABLE_5_EXTRACTOR, ModelSettings, Recipe

HEAD_SIZE = 64
"""Dimensions of an attention head in table 5: 768 / 12."""
STEP = "current_step"
"""Of the released files, int64 (1,): the steps of the training."""


def import_released(path: Path, layout: Layout, settings: ModelSettings | None = None) -> tuple[SpidR, int | None]:
    """The model of a released checkpoint, on the CPU, and the steps of its training where the file says them.

    Args:
        settings: The model, which the file has to fit; by default it is inferred from the file.

    Raises:
        InputError: The file is damaged or of another layout, a tensor is missing, unexpected or of
            another shape, or the model cannot be inferred.
    """
    found = _read(path)
    step = _take_step(found, path) if layout.has_step else None
    for key, value in found.items():
        if not isinstance(value, Tensor):
            raise InputError(f"{path}: {key!r}: found {_describe(value)}, expected a tensor")
    if settings is None:
        settings = infer_settings(found, layout, path)
    _require_fit(settings, layout, "--settings")
    learner = build_learner(settings, seed=0)
    views = released_views(layout, learner.state_dict())
    for missing in sorted(views.keys() - found.keys()):
        raise InputError(f"{path}: found no tensor {missing}, expected one of shape {tuple(views[missing].shape)}")
    for unexpected in sorted(found.keys() - views.keys()):
        raise InputError(f"{path}: found a tensor {unexpected!r}, expected none of this name")
    for key, view in views.items():
        if found[key].shape != view.shape or not found[key].is_floating_point():
            raise InputError(
                f"{path}: {key}: found {_describe(found[key])}, expected floats of shape {tuple(view.shape)}"
            )
        view.copy_(found[key])
    return learner, step


def infer_settings(found: Mapping[str, Tensor], layout: Layout, path: Path) -> ModelSettings:
    """The model that tensors of these names and shapes belong to, with table 5's values for the rest.

    Args:
        found: Tensors of a released checkpoint.
        path: Its file, for messages.

    Raises:
        InputError: A tensor to tell from is missing, or strides or attention heads cannot be told.
    """

    def shapes(name: str, num_dimensions: int) -> list[torch.Size]:
        """Shapes of a tensor of ours, one for each layer or codebook."""
        theirs = released_name(layout, name)
        keys = list(takewhile(found.__contains__, (theirs.replace("#", str(index)) for index in count())))
        first = theirs.replace("#", "0")
        if not keys:
            raise InputError(f"{path}: found no tensor {first}, which the layout has")
        if found[first].ndim != num_dimensions or found[first].numel() == 0:
            raise InputError(f"{path}: {first}: found {_describe(found[first])}, expected {num_dimensions} dimensions")
        return [found[key].shape for key in keys]

    convolutions = shapes("student.extractor.conv_layers.#.conv.weight", 3)
    positions = shapes("student.transformer.positions.#.conv.weight", 3)
    feed_forward = shapes("student.transformer.layers.#.feed_forward.fc1.weight", 2)
    heads = shapes("heads.weight", 2)
    ffn_size, hidden_size = feed_forward[0]

    kernels = [shape[2] for shape in convolutions]
    if kernels != [layer.kernel for layer in TABLE_5_EXTRACTOR]:
        raise InputError(
            f"{path}: found an extractor with kernels {kernels}, whose strides the file does not tell: "
            "give the model with --settings recipe.yaml"
        )
    if hidden_size % HEAD_SIZE != 0:
        raise InputError(
            f"{path}: found a width of {hidden_size}, expected a multiple of {HEAD_SIZE}, the size of an attention "
            "head, which the file does not tell: give the model with --settings recipe.yaml"
        )
    strides = [layer.stride for layer in TABLE_5_EXTRACTOR]
    biases = released_name(layout, "student.transformer.layers.#.attention.qkv_proj.bias").replace("#", "0")
    model = {
        "extractor": [[shape[0], shape[2], stride] for shape, stride in zip(convolutions, strides, strict=True)],
        "hidden_size": hidden_size,
        "num_layers": len(feed_forward),
        "num_heads": hidden_size // HEAD_SIZE,
        "ffn_size": ffn_size,
        "position_layers": len(positions),
        "position_kernel": len(positions) * positions[0][2],
        "position_groups": hidden_size // positions[0][1],
        "qkv_bias": layout.needs_qkv_bias or biases in found,
        "num_codebooks": len(heads),
        "codebook_size": heads[0][0],
        "predict_from": layout.predict_from,
    }
    return parse_settings(ModelSettings, model, f"{path}: model")


def export_released(folder: Path, layout: Layout, path: Path) -> None:
    """Write an encoder folder as a file of a released layout: ``{"model": tensors}``, without any code.

    Raises:
        InputError: The folder is incomplete or damaged, or its model is not one that the layout can hold.
    """
    learner = load_learner(folder)
    _require_fit(learner.settings, layout, str(folder / CONFIG))
    views = released_views(layout, learner.state_dict())
    model: dict[str, Any] = {key: view.clone() for key, view in views.items()}  # else a view is stored as its whole
    if layout.has_step:
        model[STEP] = torch.tensor([_step(folder)])
    if layout.nested:
        prefix = f"{layout.nested}."
        inner = {key.removeprefix(prefix): model.pop(key) for key in list(model) if key.startswith(prefix)}
        model[layout.nested] = inner
    with atomic_file(path) as temporary:
        torch.save({"model": model}, temporary)


def _require_fit(settings: ModelSettings, layout: Layout, where: str) -> None:
    if settings.predict_from != layout.predict_from:
        raise InputError(
            f"{where}: model.predict_from: found {settings.predict_from}, expected {layout.predict_from}, "
            "which is what the layout stands for"
        )
    if layout.needs_qkv_bias and not settings.qkv_bias:
        raise InputError(f"{where}: model.qkv_bias: found false, expected true, without which the layout has no file")


def _read(path: Path) -> dict[str, Any]:
    """Everything under ``model``, a dictionary within as ``outer.inner``."""
    content = load_untrusted(path)
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping):
        kind = f"the keys {list(content)}" if isinstance(content, Mapping) else type(content).__name__
        raise InputError(f"{path}: found {kind[:80]}, expected a dictionary whose model is one of tensors")
    found: dict[str, Any] = {}
    for key, value in model.items():
        name = str(key).removeprefix("module.")  # of a model wrapped for several devices
        found |= {f"{name}.{inner}": v for inner, v in value.items()} if isinstance(value, Mapping) else {name: value}
    return found


def _take_step(found: dict[str, Any], path: Path) -> int:
    step = found.pop(STEP, None)
    if not isinstance(step, Tensor) or step.dtype != torch.int64 or step.shape != (1,):
        raise InputError(f"{path}: {STEP}: found {_describe(step)}, expected a tensor of int64 of shape (1,)")
    return int(step)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return "nothing" if value is None else type(value).__name__


def _step(folder: Path) -> int:
    """Steps of an encoder's training: its own, or what was said by the file that it was imported from."""
    made = read_json_object(folder / CONFIG).get("provenance", {})
    summary = folder / "training" / "summary.json"
    steps = read_json_object(summary).get("steps") if summary.exists() else made.get("settings", {}).get(STEP)
    return steps if isinstance(steps, int) else 0


def main() -> None:
    """Parse the command line, import or export."""
    parser = argparse.ArgumentParser(description="Import a released SpidR or DinoSR, or export an encoder as one.")
    commands = parser.add_subparsers(dest="command", required=True)
    importing = commands.add_parser("import", help="a released checkpoint to an encoder folder")
    importing.add_argument("source", type=Path, metavar="FILE", help="checkpoint (.pt, .ckpt)")
    importing.add_argument("--settings", help="recipe whose model it is, where the file does not tell: YAML, or JSON")
    exporting = commands.add_parser("export", help="an encoder folder to a checkpoint of the released layout")
    exporting.add_argument("source", type=Path, metavar="FOLDER", help="encoder folder")
    for command, made in ((importing, "encoder folder"), (exporting, "checkpoint")):
        command.add_argument("--layout", choices=LAYOUTS, required=True)
        command.add_argument("--output", type=Path, required=True, help=made)
    arguments = parser.parse_args()
    layout = LAYOUTS[arguments.layout]
    if arguments.command == "export":
        export_released(arguments.source, layout, arguments.output)
        return
    if (arguments.output / "training").exists():
        raise InputError(f"{arguments.output}: found an encoder trained here, expected a folder of its own")
    settings = load_settings(Recipe, arguments.settings).model if arguments.settings else None
    learner, step = import_released(arguments.source, layout, settings)
    about = {"layout": arguments.layout} | ({} if step is None else {STEP: step})
    write_encoder(arguments.output, learner, provenance(about, {"released": arguments.source}))


if __name__ == "__main__":
    run(main)
