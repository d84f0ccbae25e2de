"""What Spin trains: the upper blocks of an encoder, a head on its last layer, a codebook."""

from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from artifacts.errors import InputError
from artifacts.files import atomic_file, atomic_folder, read_json_object, write_json
from artifacts.seeds import seed_for
from units.spin.settings import ModelSettings
from units.spin.spidr import SpidrBase

BASE, WEIGHTS = "base", "spin.safetensors"
"""Parts of an encoder folder of family spin."""


class Base(Protocol):
    """An encoder that can be fine-tuned."""

    config: dict[str, Any]
    """Its folder's config.json."""
    network: nn.Module
    """What makes frames of waveforms, in training mode."""
    width: int
    """Of the last layer."""

    def last_layer(self, waveforms: Tensor) -> Tensor:
        """Frames of the last layer at the encoder's tap, (batch, frames, dim), of waveforms (batch, samples)."""

    def learnt(self, frozen_blocks: int) -> nn.Module:
        """The part that is fine-tuned where so many blocks are not."""

    def write(self, folder: Path, provenance: dict[str, Any]) -> None:
        """Write its encoder folder."""


def load_base(folder: Path) -> Base:
    """Load the encoder to fine-tune, on the CPU.

    Raises:
        InputError: Its folder is incomplete, or it is none that is fine-tuned here.
    """
    where = folder / "config.json"
    config = read_json_object(where)
    family = config.get("family")
    if family == "hub":
        from units.spin.hub import HubBase  # transformers takes seconds to import

        return HubBase(folder, config)
    if family == "spidr":
        return SpidrBase(folder, config)
    raise InputError(f"{where}: family: found {family!r}, expected hub or spidr: a HuBERT, a WavLM or a SpidR")


class Spin(nn.Module):
    """A base with its head and codebook; all that is not learnt is frozen.

    Raises:
        InputError: The base has no block above the frozen ones.
    """

    def __init__(self, base: Base, settings: ModelSettings, seed: int) -> None:
        super().__init__()
        num_layers, frozen_blocks = base.config["num_layers"], settings.frozen_blocks
        if frozen_blocks >= num_layers:
            raise InputError(
                f"model.frozen_blocks: found {frozen_blocks}, expected at most {num_layers - 1}: "
                f"the encoder has {num_layers} blocks"
            )
        self.base, self.temperature = base, settings.temperature
        self.encoder = base.network.requires_grad_(False)
        base.learnt(frozen_blocks).requires_grad_(True)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed_for(seed, "spin"))
            self.head = nn.Linear(base.width, settings.head_size)
            self.codebook = nn.Linear(settings.head_size, settings.codebook_size, bias=False)

    def learnt(self) -> dict[str, nn.Parameter]:
        """What is learnt, by name."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    @torch.no_grad()
    def normalize_codebook(self) -> None:
        """Bring every code to length 1."""
        self.codebook.weight.copy_(normalize(self.codebook.weight, dim=1))

    def forward(self, waveforms: Tensor) -> Tensor:
        """Cosines of frames and codes, (batch * frames, codes), of waveforms (batch, samples); codes have length 1."""
        if not len(waveforms):  # another worker has all of the batch
            return self.codebook(self.head.weight.new_zeros(0, self.head.out_features))  # type: ignore[no-any-return]
        frames = self.base.last_layer(waveforms).flatten(0, 1)
        with torch.autocast(waveforms.device.type, enabled=False):
            cosines: Tensor = self.codebook(normalize(self.head(frames.float()), dim=1))
        return cosines


def write_spin(folder: Path, spin: Spin, provenance: dict[str, Any]) -> None:
    """Write an encoder folder of family spin, the configuration last.

    ``base/`` is the encoder folder of the fine-tuned base; ``spin.safetensors`` holds ``head.weight`` (256, dim),
    ``head.bias`` (256,) and ``codebook.weight`` (codes, 256), its rows of length 1.
    """
    spin.normalize_codebook()
    with atomic_folder(folder / BASE) as base:
        spin.base.write(base, provenance)
    tensors = {"head.weight": spin.head.weight, "head.bias": spin.head.bias, "codebook.weight": spin.codebook.weight}
    with atomic_file(folder / WEIGHTS) as path:
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
    config = {
        "family": "spin",
        "base": BASE,
        "codebook_size": spin.codebook.out_features,
        "temperature": spin.temperature,
        **{key: spin.base.config[key] for key in ("num_layers", "frame_rate_hz", "tap")},
        "provenance": provenance,
    }
    write_json(folder / "config.json", config)
