"""Tensors of a released file under names of ours, and of an encoder folder into a model.

A released file has to hold the tensors of its model, all of them and no others: what is missing,
unexpected or of another shape is named.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from artifacts.errors import MADE_ANEW, InputError

WEIGHTS = "model.safetensors"
"""Of an encoder folder."""


def tensors_of(content: Any, dropped: Iterable[str], where: Path) -> dict[str, Tensor]:
    """A released file's tensors by their names, without those that begin with one of `dropped`.

    Raises:
        InputError: It is no dictionary, or another of its values is no tensor of floats.
    """
    if not isinstance(content, Mapping):
        raise InputError(f"{where}: found {type(content).__name__}, expected a dictionary of tensors")
    prefixes = tuple(dropped)
    kept = {str(name): value for name, value in content.items() if not str(name).startswith(prefixes)}
    for name, value in kept.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise InputError(f"{where}: {name}: found {_describe(value)}, expected a tensor of floats")
    return kept


def shape_of(found: Mapping[str, Tensor], name: str, num_dimensions: int, where: Path) -> tuple[int, ...]:
    """Shape of a tensor that tells a size of the model.

    Raises:
        InputError: There is none of this name, or it has another number of dimensions.
    """
    if name not in found:
        raise InputError(f"{where}: found no tensor {name}, expected one of {num_dimensions} dimensions")
    shape = tuple(found[name].shape)
    if len(shape) != num_dimensions or 0 in shape:
        raise InputError(f"{where}: {name}: found {_describe(found[name])}, expected {num_dimensions} dimensions")
    return shape


def rename(found: Mapping[str, Tensor], names: Mapping[str, str], model: nn.Module, where: Path) -> dict[str, Tensor]:
    """The tensors of `model`, float32, taken from a released file.

    Args:
        found: Tensors of the released file by its names.
        names: Its name of each tensor of ours.
        model: Whose tensors are wanted; on the meta device it costs nothing.

    Raises:
        InputError: A tensor is missing, unexpected or of another shape.
    """
    expected = {names[ours]: tuple(tensor.shape) for ours, tensor in model.state_dict().items()}
    for missing in sorted(expected.keys() - found.keys()):
        raise InputError(f"{where}: found no tensor {missing}, expected one of shape {expected[missing]}")
    for unexpected in sorted(found.keys() - expected.keys()):
        raise InputError(f"{where}: found a tensor {unexpected}, expected none of this name")
    for name, shape in expected.items():
        if tuple(found[name].shape) != shape:
            raise InputError(f"{where}: {name}: found {_describe(found[name])}, expected shape {shape}")
    return {ours: found[names[ours]].to(torch.float32).contiguous() for ours in model.state_dict()}


def fill(model: nn.Module, folder: Path) -> None:
    """Give a model its weights from a folder's model.safetensors; tensors that it has not are not read.

    Raises:
        InputError: The file is not there or damaged, or a tensor is missing or of another shape.
    """
    path = folder / WEIGHTS
    expected = model.state_dict()
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            for name in expected:
                if name not in names:
                    raise InputError(f"{path}: found no tensor {name}, expected one of {_describe(expected[name])}")
            state = {name: file.get_tensor(name) for name in expected}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:150]
        raise InputError(f"{path}: not a whole safetensors file ({reason}): {MADE_ANEW}") from None
    for name, tensor in state.items():
        if tensor.shape != expected[name].shape or tensor.dtype != expected[name].dtype:
            raise InputError(
                f"{path}: {name}: found {_describe(tensor)}, expected {_describe(expected[name])}: config.json says so"
            )
    model.load_state_dict(state, assign=True)


def _describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} of shape {tuple(value.shape)}"
    return type(value).__name__
