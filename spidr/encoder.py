"""The trained encoder as others use it: a folder with `config.json`, `model.safetensors`, `teacher.safetensors`.

The first two are all that features and units need. The teacher, a Transformer by itself, lies apart,
so that the model can also be taken up whole, and whoever only reads features need not read it.

Features are the feed-forward outputs of the student's layers before residual and layer norm (tap
``ffn``), which is what the prediction heads of SpidR read and what the paper evaluates.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from artifacts.errors import MADE_ANEW, InputError
from artifacts.files import atomic_file, read_json_object, write_json
from artifacts.settings import parse_settings
from spidr.learner import Heads, SpidR, build_learner
from spidr.model import Encoder, LayerOutput
from spidr.settings import ModelSettings

FAMILIES = {"same_layer": "spidr", "last_layer": "dinosr"}
CONFIG, WEIGHTS, TEACHER = "config.json", "model.safetensors", "teacher.safetensors"
TEACHER_PREFIX = "teacher."
"""Of the teacher's tensors in the whole model; in their file they go without."""


def write_encoder(folder: Path, learner: SpidR, provenance: dict[str, Any]) -> None:
    """Write an encoder folder, the configuration last.

    ``model.safetensors`` holds student, mask embedding, heads and codebooks under the names they have
    in `SpidR`; ``teacher.safetensors`` the teacher, under those of a `Transformer`.
    """
    settings = learner.settings
    weights: dict[str, Tensor] = {}
    teacher: dict[str, Tensor] = {}
    for name, tensor in learner.state_dict().items():
        part = teacher if name.startswith(TEACHER_PREFIX) else weights
        part[name.removeprefix(TEACHER_PREFIX)] = tensor.cpu().contiguous()
    for file, part in ((TEACHER, teacher), (WEIGHTS, weights)):
        with atomic_file(folder / file) as temporary:
            save_file(part, temporary)
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
    write_json(folder / CONFIG, config)


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

    def features(self, waveforms: Tensor, layers: list[int]) -> dict[int, Tensor]:
        """Feed-forward outputs of `layers` (0 to num_layers), each float32 (batch, frames, dim)."""
        return self.features_and_predictions(waveforms, layers, [])[0]

    def predictions(self, waveforms: Tensor, layers: list[int]) -> dict[int, Tensor]:
        """Soft-max outputs of the heads of `layers`, each float32 (batch, frames, V) (equation 1)."""
        return self.features_and_predictions(waveforms, [], layers)[1]

    @torch.inference_mode()
    def features_and_predictions(
        self, waveforms: Tensor, layers: list[int], codebook_layers: list[int]
    ) -> tuple[dict[int, Tensor], dict[int, Tensor]]:
        """Features of `layers` and predictions of the heads of `codebook_layers`, from one forward pass.

        SpidR's head k reads layer k's feed-forward output; DinoSR's heads all read the last layer's
        full output.
        """
        same_layer = self.settings.predict_from == "same_layer"
        to_the_last = bool(codebook_layers) and not same_layer
        outputs = self._encoder(waveforms, None if to_the_last else max([*layers, *codebook_layers]))

        def read(layer: int) -> Tensor:
            output: LayerOutput = outputs[layer] if same_layer else outputs[-1]
            return output.ffn if same_layer else output.block

        features = {layer: outputs[layer].ffn.float() for layer in layers}
        with torch.autocast(waveforms.device.type, enabled=False):  # bfloat16 makes ties of near ties
            heads = {
                layer: functional.linear(read(layer).float(), *self.head_parameters(layer)) for layer in codebook_layers
            }
        return features, {layer: logits.softmax(-1) for layer, logits in heads.items()}

    def head_parameters(self, layer: int) -> tuple[Tensor, Tensor]:
        """Weight (V, dim) and bias (V,) of the head of a layer in `codebook_layers`."""
        index = self.codebook_layers.index(layer)
        return self._heads.weight[index], self._heads.bias[index]


def load_encoder(folder: Path, device: torch.device) -> PretrainedEncoder:
    """Load an encoder folder of family ``spidr`` or ``dinosr``; the teacher is not read.

    Raises:
        InputError: The folder is incomplete, or its weights are damaged or do not fit its configuration.
    """
    settings = _read_settings(folder)
    path = folder / WEIGHTS
    state = _read_tensors(path)
    # Random weights first, then ours. On the meta device they would be free, but torch imports its compiler for them,
    # which takes longer.
    with torch.random.fork_rng(devices=[]):
        encoder = Encoder(settings)
        heads = Heads(settings.num_codebooks, settings.codebook_size, settings.hidden_size)
    for module, prefix in ((encoder, "student."), (heads, "heads.")):
        _fill(module, {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}, path)
    return PretrainedEncoder(settings, encoder.to(device), heads.to(device))


def load_learner(folder: Path) -> SpidR:
    """Load the whole model of an encoder folder, teacher included, on the CPU.

    Raises:
        InputError: The folder is incomplete, or its weights are damaged or do not fit its configuration.
    """
    learner = build_learner(_read_settings(folder), seed=0)  # random weights first, as in `load_encoder`
    teacher = {TEACHER_PREFIX + name: tensor for name, tensor in _read_tensors(folder / TEACHER).items()}
    _fill(learner, _read_tensors(folder / WEIGHTS) | teacher, folder)
    return learner


def _read_settings(folder: Path) -> ModelSettings:
    path = folder / CONFIG
    return parse_settings(ModelSettings, read_json_object(path).get("model"), f"{path}: model")


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return dict(load_file(path))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a whole safetensors file ({error}): {MADE_ANEW}") from None


def _fill(module: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    try:
        module.load_state_dict(state, assign=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: does not fit {CONFIG} ({reason})") from None
