"""What Spin made, as an encoder: the layers of its base, and codes of the last one."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch.nn.functional import linear, normalize

from artifacts.errors import MADE_ANEW, InputError
from units.encoders import load
from units.spin.model import WEIGHTS

TEMPERATURE = 0.1
"""Of the soft-max predictions, with which all of Spin's encoders were released; one trained here says its own."""


class SpinEncoder:
    """A fine-tuned encoder with its codebook; see `units.encoders.CodebookEncoder`.

    A frame's unit is the code nearest by angle to its projection.

    Args:
        folder: Its folder: trained here, or converted from a released file.
        config: The folder's config.json.
        highest_layer: Blocks above it are not loaded where the base can do without.

    Raises:
        InputError: A part of the folder is missing or damaged, or does not fit the others.
    """

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, highest_layer: int) -> None:
        self._base = load(folder / config["base"], "cuda" if device.type == "cuda" else "cpu", [highest_layer])
        self._device = device
        self.frame_rate_hz = self._base.frame_rate_hz
        self.num_layers = self._base.num_layers
        self.tap = self._base.tap
        self.batch_samples = self._base.batch_samples
        self.codebook_layers = [self.num_layers]
        self.codebook_size: int = config["codebook_size"]
        self._temperature: float = config.get("temperature", TEMPERATURE)
        self._head = {name: tensor.float().to(device) for name, tensor in self._read_head(folder / WEIGHTS).items()}

    def _read_head(self, path: Path) -> dict[str, torch.Tensor]:
        try:
            found = load_file(path)
        except FileNotFoundError:
            raise InputError(f"{path}: no such file") from None
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path}: not a whole safetensors file ({error}): {MADE_ANEW}") from None
        head_size = len(found["head.weight"]) if "head.weight" in found else None
        expected = {
            "head.weight": (head_size, self.dim(self.num_layers)),
            "head.bias": (head_size,),
            "codebook.weight": (self.codebook_size, head_size),
        }
        for name, shape in expected.items():
            shown = tuple(found[name].shape) if name in found else "no tensor"
            if shown != shape:
                raise InputError(f"{path}: {name}: found {shown}, expected {shape}: config.json and base say so")
        return {name: found[name] for name in expected}

    def dim(self, layer: int) -> int:
        """Width of a layer."""
        return self._base.dim(layer)

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: the base's."""
        return self._base.num_frames(num_samples)

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """The base's frames, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""
        return self._base.features(waveforms, layers)

    def features_and_predictions(
        self, waveforms: np.ndarray, layers: Sequence[int], codebook_layers: Sequence[int]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Features of `layers`, and soft-max predictions of the last layer's frames, float32 (batch, frames, codes)."""
        found = self.features(waveforms, sorted({*layers, *codebook_layers}))
        return {layer: found[layer] for layer in layers}, {
            layer: self._predict(found[layer]) for layer in codebook_layers
        }

    @torch.inference_mode()
    def _predict(self, frames: np.ndarray) -> np.ndarray:
        with torch.autocast(self._device.type, enabled=False):  # bfloat16 makes ties of near ties
            inputs = torch.from_numpy(frames).to(self._device)
            projected = normalize(linear(inputs, self._head["head.weight"], self._head["head.bias"]), dim=-1)
            cosines = linear(projected, normalize(self._head["codebook.weight"], dim=1))
            predictions: np.ndarray = (cosines / self._temperature).softmax(-1).cpu().numpy()
        return predictions

    def head_parameters(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight (codes, dim) and bias (codes,) of one linear map from the last layer's frames to units.

        The length that a projected frame is divided by is the same for all its codes, so the unit is the largest of
        ``codes @ (head @ frame + bias)``, codes of length 1: head and codebook are one matrix. It is
        summed in a fixed order, so that it is the same on every machine, to the last bit.
        """
        head, bias, codes = (tensor.cpu().double().numpy() for tensor in self._head.values())
        codes = codes / np.sqrt(np.square(codes.T.copy()).sum(axis=0))[:, None]
        both = np.concatenate([head, bias[:, None]], axis=1)
        product = np.stack([(code[:, None] * both).sum(axis=0) for code in codes]).astype(np.float32)
        return product[:, :-1].copy(), product[:, -1].copy()
