"""HuBERT and WavLM of transformers, as Spin fine-tunes them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm

from artifacts.errors import InputError
from artifacts.files import require_keys, write_json
from units.encoders import KEYS
from units.hub import STANDARDIZE_EPS, HubModel
from units.spin.settings import HUB_TYPES

MODEL = "model"
"""Folder of the model in the encoder's."""


class HubBase(HubModel):
    """HuBERT or WavLM, of family hub: the head reads the output of the last block.

    Of what they were pretrained with, layer drop and masking are left out; dropout is as their configuration has it.
    """

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        require_keys(config, KEYS["hub"], folder / "config.json")
        super().__init__(folder, config, torch.device("cpu"), config["num_layers"])
        found = self._model.config.model_type
        if found not in HUB_TYPES:
            raise InputError(
                f"{folder / 'config.json'}: found a model of type {found}, expected {' or '.join(HUB_TYPES)}"
            )
        self._model.config.layerdrop = 0.0
        self._model.config.apply_spec_augment = False
        self.config = config
        self.network: nn.Module = self._model.train()
        # In training mode it would have gradients of the waveforms computed; it has no dropout.
        self._model.feature_extractor.eval()
        self.width = self.dim(self.num_layers)

    def last_layer(self, waveforms: Tensor) -> Tensor:
        """Output of the last block, (batch, frames, dim), of waveforms (batch, samples)."""
        if self._standardize:
            waveforms = layer_norm(waveforms, waveforms.shape[1:], eps=STANDARDIZE_EPS)
        last: Tensor = self._model(waveforms, output_hidden_states=True).hidden_states[-1]
        return last

    def learnt(self, frozen_blocks: int) -> nn.Module:
        """The blocks above."""
        blocks: nn.Module = self._model.encoder.layers[frozen_blocks:]
        return blocks

    def write(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write an encoder folder of family hub with its model in it."""
        self._model.save_pretrained(folder / MODEL)
        given = {key: value for key, value in self.config.items() if key not in ("revision", "checksums")}
        write_json(folder / "config.json", given | {"source": MODEL, "provenance": provenance})
