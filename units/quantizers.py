"""Quantizers: from the frames of one layer to one unit a frame.

A folder ``quantizers/<encoder>/L06/<quantizer>/`` holds ``quantizer.safetensors`` and
``config.json`` with kind, num_units, encoder, layer, tap, frame_rate_hz and where it came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from artifacts.errors import MADE_ANEW, InputError
from artifacts.files import atomic_folder, read_json_object, require_keys, write_json

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Kind = Literal["kmeans", "codebook"]
TENSORS: dict[Kind, tuple[str, ...]] = {"kmeans": ("centroids",), "codebook": ("weight", "bias")}
TYPES = {"num_units": int, "encoder": str, "layer": int, "frame_rate_hz": float}


@dataclass(frozen=True, slots=True)
class Quantizer:
    """A quantizer of one layer of one encoder.

    K-means has `centroids` (units, dim). A codebook has the encoder's own prediction head, `weight`
    (units, dim) and `bias` (units,): the encoder applies it, since SpidR's heads read the layer
    itself and DinoSR's the last layer.
    """

    folder: Path
    kind: Kind
    num_units: int
    encoder: str
    layer: int
    frame_rate_hz: float
    tensors: dict[str, np.ndarray]


def write_quantizer(folder: Path, config: Mapping[str, Any], tensors: dict[str, np.ndarray]) -> None:
    """Write a quantizer's folder.

    Args:
        config: Kind, num_units, encoder, layer, tap, frame_rate_hz and where it came from.
        tensors: Those of its kind (`TENSORS`): ``centroids`` (units, dim), or ``weight`` (units, dim) and ``bias``
            (units,).
    """
    with atomic_folder(folder) as temporary:
        save_file(tensors, temporary / "quantizer.safetensors")
        write_json(temporary / "config.json", config)


def load_quantizer(folder: Path) -> Quantizer:
    """Load a quantizer.

    Raises:
        InputError: A file is missing or damaged, or what it holds does not fit config.json.
    """
    where = folder / "config.json"
    config = read_json_object(where)
    kind: Any = config.get("kind")
    if kind not in get_args(Kind):
        raise InputError(f"{where}: kind: found {kind!r}, expected one of {', '.join(get_args(Kind))}")
    require_keys(config, TYPES, where)
    weights = folder / "quantizer.safetensors"
    try:
        tensors = load_file(weights)
    except FileNotFoundError:
        raise InputError(f"{weights}: no such file") from None
    except (SafetensorError, OSError, TypeError, AttributeError) as error:  # the last two: types that numpy has not
        raise InputError(f"{weights}: not a whole safetensors file ({error}): {MADE_ANEW}") from None
    for name in TENSORS[kind]:
        if name not in tensors or len(tensors[name]) != config["num_units"]:
            found = tensors[name].shape if name in tensors else "none"
            raise InputError(f"{weights}: {name}: found {found}, expected {config['num_units']} rows")
        if tensors[name].dtype.kind != "f":
            raise InputError(f"{weights}: {name}: found {tensors[name].dtype}, expected floats")
    return Quantizer(folder, kind, **{key: config[key] for key in TYPES}, tensors=tensors)


class Assigner:
    """The unit of each frame by one quantizer.

    Args:
        device: Where distances to centroids are computed: on a GPU where the encoder is on one. Those of two K-means at
            each of 12 layers are 4% of a forward pass's operations, and cores have less than 4% of a GPU's speed.
    """

    def __init__(self, quantizer: Quantizer, device: "torch.device | str" = "cpu") -> None:
        self.quantizer = quantizer
        self._means: Tensor | None = None
        if quantizer.kind == "kmeans":
            import torch

            self._means = torch.as_tensor(quantizer.tensors["centroids"], dtype=torch.float32, device=device)
            self._offsets = self._means.square().sum(dim=1) / 2

    def __call__(self, frames: "np.ndarray | Tensor") -> np.ndarray:
        """The unit of each frame, int64 (..., frames), the first where two are equally good.

        Args:
            frames: Features (..., frames, dim) for K-means, predictions (..., frames, units) for a codebook.

        Raises:
            InputError: The frames are not of the quantizer's width.
        """
        width = self.quantizer.num_units if self._means is None else self._means.shape[1]
        if frames.shape[-1] != width:
            raise InputError(f"{self.quantizer.folder}: expects frames of dimension {width}, found {frames.shape[-1]}")
        units: np.ndarray = np.argmax(frames, axis=-1) if self._means is None else self._nearest(frames, self._means)
        return units

    def _nearest(self, frames: "np.ndarray | Tensor", means: "Tensor") -> np.ndarray:
        """The nearest centroid: |x|^2 is the same for all, so the largest x.c - |c|^2 / 2 decides.

        By torch, as the encoders: numpy's products have threads of their own, which still wait on the cores for their
        next one when the encoder's have work. On two cores tokenization took 1.4 times as long.
        """
        import torch

        points = torch.as_tensor(frames, dtype=torch.float32, device=means.device)
        with torch.autocast(means.device.type, enabled=False):  # bfloat16 makes other units of frames near no tie
            scores = points @ means.T - self._offsets
        nearest: np.ndarray = scores.argmax(dim=-1).cpu().numpy()
        return nearest
