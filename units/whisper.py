"""Whisper's encoder through transformers: the block outputs of any layer.

Layer k is the output of block k as it is; the LayerNorm after the last block, which the decoder reads
through, is left out.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from transformers import WhisperFeatureExtractor, logging
from transformers.models.whisper import modeling_whisper

from artifacts.errors import InputError
from corpora.audio import SAMPLE_RATE_HZ
from units.encoders import GPU_BATCH_SAMPLES
from units.hub import UNREADABLE

HOP = 160
"""Samples from a log-mel frame to the next; a frame of the encoder is two of them."""
WINDOW_SAMPLES = 30 * SAMPLE_RATE_HZ
ENCODER_NAMES = {r"^(model\.)?encoder\.": ""}
"""How tensors of a whole Whisper are called in its encoder, as a pattern and its replacement."""


class WhisperEncoder:
    """Whisper's encoder as an encoder; see `units.encoders.Encoder`.

    Whisper hears 30 seconds. Shorter speech is followed by silence until there are so many, and only
    the speech's own frames are kept: as many as it has pairs of log-mel frames, a last one alone
    counting as a pair. Longer speech is cut into consecutive windows of 30 seconds, each heard by
    itself, and their frames are joined.

    Args:
        folder: Its folder, for messages.
        config: The folder's config.json, as `units.encoders.describe` makes it.
        highest_layer: Blocks above it are not loaded; nor is the decoder.

    Raises:
        InputError: The weights are missing, incomplete or of another shape, or hear another length.
    """

    tap = "block"

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, highest_layer: int) -> None:
        source = config["source"]
        logging.set_verbosity_error()
        logging.disable_progress_bar()
        try:
            # At least one block: transformers records the input of block 1 as that block runs.
            self._model, loading = modeling_whisper.WhisperEncoder.from_pretrained(
                source,
                revision=config.get("revision") or "main",
                encoder_layers=max(1, highest_layer),
                dtype=torch.float32,
                key_mapping=ENCODER_NAMES,
                output_loading_info=True,
            )
        except UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(f"{folder / 'config.json'}: source: cannot load {source} ({reason})") from None
        if loading["missing_keys"]:
            missing = min(loading["missing_keys"])
            raise InputError(f"{source}: found no tensor encoder.{missing}, expected the weights of a Whisper model")
        sizes = self._model.config
        if 2 * HOP * sizes.max_source_positions != WINDOW_SAMPLES:
            raise InputError(
                f"{source}: max_source_positions: found {sizes.max_source_positions}, expected 1500: 30 seconds"
            )
        # Else it would be applied to the highest layer, and to no other.
        self._model.layer_norm = nn.Identity()
        self._model = self._model.eval().to(device)
        self._log_mel = WhisperFeatureExtractor(feature_size=sizes.num_mel_bins)
        self._device = device
        self.num_layers: int = config["num_layers"]
        self.frame_rate_hz: float = config["frame_rate_hz"]
        self.batch_samples = GPU_BATCH_SAMPLES if device.type == "cuda" else 0

    def dim(self, layer: int) -> int:
        """Width of every layer."""
        return int(self._model.config.d_model)

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: two log-mel frames each, the last one perhaps alone."""
        return (num_samples // HOP + 1) // 2

    @torch.inference_mode()
    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Block outputs, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""
        windows: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
        for start in range(0, waveforms.shape[1], WINDOW_SAMPLES):
            outputs = self._window(waveforms[:, start : start + WINDOW_SAMPLES], layers)
            for layer, frames in outputs.items():
                windows[layer].append(frames)
        return {layer: np.concatenate(parts, axis=1) for layer, parts in windows.items()}

    def _window(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Block outputs of at most 30 seconds; a few waveforms at a time, since each counts as 30 seconds."""
        num_frames = self.num_frames(waveforms.shape[1])
        group = GPU_BATCH_SAMPLES // WINDOW_SAMPLES
        found: dict[int, list[np.ndarray]] = {layer: [] for layer in layers}
        for first in range(0, len(waveforms), group):
            inputs = self._log_mel(
                list(waveforms[first : first + group]),
                sampling_rate=SAMPLE_RATE_HZ,
                return_tensors="pt",
                device=str(self._device),
            ).input_features
            hidden_states = self._model(inputs.to(self._device), output_hidden_states=True).hidden_states
            for layer in layers:
                found[layer].append(hidden_states[layer][:, :num_frames].float().cpu().numpy())
        return {layer: np.concatenate(parts) for layer, parts in found.items()}
