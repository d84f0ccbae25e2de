"""Encoders of the Hugging Face hub through transformers: the block outputs of any layer.

HuBERT, wav2vec 2.0, WavLM and data2vec, pretrained or fine-tuned; of a fine-tuned release the head
is dropped. They lie on the hub or in a folder, which may be in the encoder's own: so `units.conversion`
makes it. Layer k is ``hidden_states[k]``, raw: before the final LayerNorm that the pre-norm models
(Large, XLarge) apply to ``last_hidden_state``. Weights are safetensors, or a pickle that torch reads
without running code (``weights_only``), which is all that some releases have.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from torch.nn.functional import layer_norm
from transformers import AutoModel, logging

from artifacts.errors import InputError
from units.encoders import GPU_BATCH_SAMPLES

# Else transformers asks a service of the hub to convert a release that has no safetensors.
os.environ.setdefault("DISABLE_SAFETENSORS_CONVERSION", "1")

UNREADABLE = (OSError, ValueError, RuntimeError, UnpicklingError, SafetensorError, StrictDataclassError)
"""What transformers raises at a folder that it cannot make a model of."""
STANDARDIZE_EPS = 1e-7
"""As transformers' feature extractor, which the released models are evaluated with."""


class HubModel:
    """A model of the hub as an encoder; see `units.encoders.Encoder`.

    Its class follows from the ``model_type`` of the source, which `units.encoders.describe` has checked.

    Args:
        folder: Its folder; a ``source`` that is a folder in there is meant.
        config: The folder's config.json, as `units.encoders.describe` or `units.conversion` makes it.
        highest_layer: Blocks above it are not loaded. WavLM's relative positions are a tensor of its
            first block, so any number of blocks has them.

    Raises:
        InputError: The weights are missing, incomplete or of another shape.
    """

    tap = "block"

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, highest_layer: int) -> None:
        inside = folder / config["source"]
        source = str(inside) if (inside / "config.json").is_file() else config["source"]
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            # At least one block: transformers records the input of block 1 as that block runs.
            self._model, loading = AutoModel.from_pretrained(
                source,
                revision=config.get("revision") or "main",
                num_hidden_layers=max(1, highest_layer),
                dtype=torch.float32,
                output_loading_info=True,
                trust_remote_code=False,
            )
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{folder / 'config.json'}: source: cannot load {source} ({reason})") from None
        # The mask embedding is read in training only; some fine-tuned releases lack it.
        missing = sorted(set(loading["missing_keys"]) - {"masked_spec_embed"})
        if missing:
            kind = type(self._model).__name__
            raise InputError(f"{source}: found no tensor {missing[0]}, expected the weights of a {kind}")
        self._model = self._model.eval().to(device)
        self._device = device
        self._standardize = config["standardize"]
        self.num_layers: int = config["num_layers"]
        self.frame_rate_hz: float = config["frame_rate_hz"]
        self.batch_samples = GPU_BATCH_SAMPLES if device.type == "cuda" else 0

    def dim(self, layer: int) -> int:
        """Width of every layer."""
        return int(self._model.config.hidden_size)

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: what the strided convolutions leave."""
        config = self._model.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    @torch.inference_mode()
    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Block outputs, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""
        inputs = torch.from_numpy(waveforms).to(self._device)
        if self._standardize:
            inputs = layer_norm(inputs, inputs.shape[1:], eps=STANDARDIZE_EPS)
        hidden_states = self._model(inputs, output_hidden_states=True).hidden_states
        return {layer: hidden_states[layer].float().cpu().numpy() for layer in layers}
