"""The trained encoder as others use it: a folder with `model.safetensors` and `config.json`.

Features are the feed-forward outputs of the student's layers before residual and layer norm (tap
``ffn``), which is what the prediction heads of SpidR read and what the paper evaluates.
"""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional

from artifacts.errors import InputError
from artifacts.files import atomic_file, read_json_object, write_json
from artifacts.settings import parse_settings
from spidr.learner import Heads, SpidR
from spidr.model import Encoder, LayerOutput
from spidr.settings import ModelSettings

FAMILIES = {"same_layer": "spidr", "last_layer": "dinosr"}


def write_encoder(folder: Path, learner: SpidR, provenance: dict[str, Any]) -> None:
    """Write student, mask embedding, heads and codebooks (not the teacher), the configuration last."""
    settings = learner.settings
    state = {
        name: tensor.cpu().contiguous()
        for name, tensor in learner.state_dict().items()
        if not name.startswith("teacher.")
    }
    with atomic_file(folder / "model.safetensors") as temporary:
        save_file(state, temporary)
    config = {
        "family": FAMILIES[settings.predict_from],
        "frame_rate_hz": settings.frame_rate_hz,
        "tap": "ffn",
        "num_layers": settings.num_layers,
        "hidden_size": settings.hidden_size,
        "codebook_layers": settings.codebook_layers,
        "codebook_size": settings.codebook_size,
        "model": settings.model_dump(mode="json"),
        "provenance": provenance,
    }
    write_json(folder / "config.json", config)


class PretrainedEncoder:
    """An encoder that only reads: features and codebook predictions of any layer.

    Waveforms are (batch, samples) at 16 kHz, all of one length and not standardised; there is no
    padding. No layer above the highest wanted is computed.
    """

    def __init__(self, settings: ModelSettings, encoder: Encoder, heads: Heads) -> None:
        self.settings = settings
        self._encoder = encoder.eval().requires_grad_(False)
        self._heads = heads.eval().requires_grad_(False)

    @property
    def num_layers(self) -> int:
        """Number of Transformer layers; layer 0 is the input of the first."""
        return self.settings.num_layers

    @property
    def frame_rate_hz(self) -> float:
        """Frames per second."""
        return self.settings.frame_rate_hz

    @property
    def hidden_size(self) -> int:
        """Dimension of the features."""
        return self.settings.hidden_size

    @property
    def codebook_layers(self) -> list[int]:
        """Layers that have a prediction head, counted from 1."""
        return self.settings.codebook_layers

    @property
    def codebook_size(self) -> int:
        """V, the number of classes that a head predicts."""
        return self.settings.codebook_size

    def num_frames(self, num_samples: int) -> int:
        """Frames of a waveform; 0 where it is shorter than the receptive field."""
        return self.settings.num_frames(num_samples)

    @torch.inference_mode()
    def features(self, waveforms: Tensor, layers: list[int]) -> dict[int, Tensor]:
        """Feed-forward outputs of `layers` (0 to num_layers), each float32 (batch, frames, dim)."""
        outputs = self._encoder(waveforms, max(layers))
        return {layer: outputs[layer].ffn for layer in layers}

    @torch.inference_mode()
    def predictions(self, waveforms: Tensor, layers: list[int]) -> dict[int, Tensor]:
        """Soft-max outputs of the heads of `layers`, each float32 (batch, frames, V) (equation 1).

        SpidR's head k reads layer k's feed-forward output; DinoSR's heads all read the last layer's
        full output.
        """
        same_layer = self.settings.predict_from == "same_layer"
        outputs = self._encoder(waveforms, max(layers) if same_layer else None)

        def read(layer: int) -> Tensor:
            output: LayerOutput = outputs[layer] if same_layer else outputs[-1]
            return output.ffn if same_layer else output.block

        return {layer: functional.linear(read(layer), *self.head_parameters(layer)).softmax(-1) for layer in layers}

    def head_parameters(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weight (V, dim) and bias (V,) of the head of a layer in `codebook_layers`."""
        index = self.codebook_layers.index(layer)
        return self._heads.weight[index], self._heads.bias[index]


def load_encoder(folder: Path, device: torch.device) -> PretrainedEncoder:
    """Load an encoder folder of family ``spidr`` or ``dinosr``.

    Raises:
        InputError: The folder is incomplete, or its weights are damaged or do not fit its configuration.
    """
    config = read_json_object(folder / "config.json")
    settings = parse_settings(ModelSettings, config.get("model"), f"{folder / 'config.json'}: model")
    weights = folder / "model.safetensors"
    try:
        state = load_file(weights)
    except FileNotFoundError:
        raise InputError(f"{weights}: no such file") from None
    except SafetensorError as error:
        raise InputError(f"{weights}: not a safetensors file ({error})") from None
    # Random weights first, then ours. On the meta device they would be free, but torch imports its compiler for them,
    # which takes longer.
    with torch.random.fork_rng(devices=[]):
        encoder = Encoder(settings)
        heads = Heads(settings.num_codebooks, settings.codebook_size, settings.hidden_size)
    try:
        for module, prefix in ((encoder, "student."), (heads, "heads.")):
            part = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            module.load_state_dict(part, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{weights}: does not fit config.json ({reason})") from None
    return PretrainedEncoder(settings, encoder.to(device), heads.to(device))
