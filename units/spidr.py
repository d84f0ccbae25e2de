"""SpidR and DinoSR, trained by ``spidr.train``: features of the feed-forward tap, and codebook predictions."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from spidr.encoder import load_encoder
from units.encoders import GPU_BATCH_SAMPLES


class Spidr:
    """SpidR or DinoSR as an encoder; see `units.encoders.CodebookEncoder`.

    It standardises waveforms itself. A layer's feature is the output of its feed-forward network,
    before residual and LayerNorm.

    Raises:
        InputError: The folder's weights are missing or damaged.
    """

    tap = "ffn"

    def __init__(self, folder: Path, device: torch.device) -> None:
        self._encoder = load_encoder(folder, device)
        self._device = device
        self.frame_rate_hz = self._encoder.frame_rate_hz
        self.num_layers = self._encoder.num_layers
        self.codebook_layers = self._encoder.codebook_layers
        self.codebook_size = self._encoder.codebook_size
        self.batch_samples = GPU_BATCH_SAMPLES if device.type == "cuda" else 0

    def dim(self, layer: int) -> int:
        """Width of every layer."""
        return self._encoder.hidden_size

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: what the strided convolutions leave."""
        return self._encoder.num_frames(num_samples)

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Feed-forward outputs, float32 (batch, frames, dim), of waveforms (batch, samples)."""
        return _to_numpy(self._encoder.features(self._from_numpy(waveforms), list(layers)))

    def features_and_predictions(
        self, waveforms: np.ndarray, layers: Sequence[int], codebook_layers: Sequence[int]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Features of `layers` and soft-max predictions, float32 (batch, frames, codes), of `codebook_layers`."""
        found = self._encoder.features_and_predictions(self._from_numpy(waveforms), list(layers), list(codebook_layers))
        return _to_numpy(found[0]), _to_numpy(found[1])

    def head_parameters(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight (codes, dim) and bias (codes,) of the head of a layer in `codebook_layers`."""
        weight, bias = self._encoder.head_parameters(layer)
        return weight.cpu().numpy(), bias.cpu().numpy()

    def _from_numpy(self, waveforms: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(waveforms).to(self._device)


def _to_numpy(tensors: dict[int, torch.Tensor]) -> dict[int, np.ndarray]:
    return {layer: tensor.cpu().numpy() for layer, tensor in tensors.items()}
