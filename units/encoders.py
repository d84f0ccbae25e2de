"""Speech encoders under one face: waveforms in, frames of a layer out.

``python -m units.encoders list`` shows the released encoders. ``convert`` makes an encoder folder of a
released file (`units.conversion`), weights and all; ``describe`` makes that of another encoder that is not
trained here: its ``config.json`` says where the weights are and how it is to be read. SpidR and DinoSR
folders are made by ``spidr.train`` and ``spidr.released``, the phones by ``units.phones``.
"""

import argparse
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import ConfigDict

from artifacts.device import DeviceName, choose_device
from artifacts.errors import InputError, run
from artifacts.files import read_json_object, require_keys, write_json
from artifacts.settings import Settings, load_settings
from corpora.audio import SAMPLE_RATE_HZ
from units.registry import HUB_TYPES, REGISTRY, find, hub_source, table_text
from units.settings import CustomEncoder, HubEncoder, MfccEncoder
from units.weights import source_checksums

if TYPE_CHECKING:
    import torch

GPU_BATCH_SAMPLES = 200 * SAMPLE_RATE_HZ
"""Speech in one batch on a GPU, 200 s: the first convolution of a Base model makes 1.3 GB of it."""
WHISPER_RATE_HZ = 50.0
"""1,500 frames of 30 s: its convolutions' strides are not in its configuration."""


class Encoder(Protocol):
    """What every encoder can do. Layers count from 1; layer 0 is the input of the first block."""

    frame_rate_hz: float
    num_layers: int
    tap: str
    """Where in a layer features are read: ``block`` (its output), ``ffn`` (before residual and norm), ``mfcc``."""
    batch_samples: int
    """Samples that may share a forward pass; 0 where utterances go one at a time."""

    def dim(self, layer: int) -> int:
        """Width of a layer."""

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance; 0 where it is too short for one."""

    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Frames of the layers, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""


@runtime_checkable
class CodebookEncoder(Encoder, Protocol):
    """An encoder with prediction heads: SpidR, DinoSR and what Spin made."""

    codebook_layers: list[int]
    codebook_size: int

    def features_and_predictions(
        self, waveforms: np.ndarray, layers: Sequence[int], codebook_layers: Sequence[int]
    ) -> tuple[dict[int, np.ndarray], dict[int, np.ndarray]]:
        """Frames of `layers`, and soft-max predictions of the heads of `codebook_layers`, from one forward pass.

        Each float32: (batch, frames, dim) and (batch, frames, codes).
        """

    def head_parameters(self, layer: int) -> tuple[np.ndarray, np.ndarray]:
        """Weight (codes, dim) and bias (codes,) of a layer's head."""


def load(folder: Path, device: DeviceName, layers: Sequence[int]) -> Encoder:
    """Load an encoder for some of its layers; blocks above the highest are left out.

    Raises:
        InputError: The folder is no encoder's, its weights cannot be read, or it has no such layer.
    """
    where = folder / "config.json"
    config = read_json_object(where)
    family = config.get("family")
    if family not in LOADERS:
        raise InputError(f"{where}: family: found {family!r}, expected one of {', '.join(LOADERS)}")
    require_keys(config, KEYS[family], where)
    first, last = (1, 1) if family == "mfcc" else (0, config["num_layers"])
    for layer in layers:
        if not first <= layer <= last:
            raise InputError(f"{folder}: found layer {layer}, expected {first} to {last}: the layers it has")
    return LOADERS[family](folder, config, device, max(layers))


def with_codebook(encoder: Encoder, folder: Path, layers: Sequence[int]) -> CodebookEncoder:
    """The same encoder, known to have a prediction head at each of `layers`.

    Args:
        folder: Where it was loaded from, for messages.

    Raises:
        InputError: It has no codebook, or none at one of the layers.
    """
    if not isinstance(encoder, CodebookEncoder):
        raise InputError(f"{folder}: found an encoder without codebook, expected family spidr, dinosr or spin")
    for layer in layers:
        if layer not in encoder.codebook_layers:
            expected = ", ".join(map(str, encoder.codebook_layers))
            raise InputError(f"{folder}: found layer {layer}, expected one that has a codebook: {expected}")
    return encoder


def name_of(folder: Path) -> str:
    """The encoder's name: that of its folder."""
    return Path(os.path.abspath(folder)).name  # noqa: PTH100, resolve() would follow a link to another name


def _choose_exact(name: DeviceName) -> "torch.device":
    """The device, its convolutions in full float32: by default a GPU's are TF32, off by about 1e-3."""
    import torch

    torch.backends.cudnn.allow_tf32 = False
    return choose_device(name)


def _load_spidr(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.spidr import Spidr

    return Spidr(folder, _choose_exact(device))


def _load_hub(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    if config.get("model_type") == "whisper":
        from units.whisper import WhisperEncoder

        return WhisperEncoder(folder, config, _choose_exact(device), highest)
    from units.hub import HubModel

    return HubModel(folder, config, _choose_exact(device), highest)


def _load_data2vec2(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.data2vec2 import Data2Vec2

    return Data2Vec2(folder, config, _choose_exact(device), highest)


def _load_conformer(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.conformer import Conformer

    return Conformer(folder, config, _choose_exact(device), highest)


def _load_spin(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.spin.encoder import SpinEncoder

    return SpinEncoder(folder, config, _choose_exact(device), highest)


def _load_custom(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.custom import load_custom

    return load_custom(config["loader"], config["options"], str(_choose_exact(device)))


def _load_mfcc(folder: Path, config: dict[str, Any], device: DeviceName, highest: int) -> Encoder:
    from units.mfcc import Mfcc

    return Mfcc()


LOADERS: dict[str, Callable[[Path, dict[str, Any], DeviceName, int], Encoder]] = {
    "spidr": _load_spidr,
    "dinosr": _load_spidr,
    "hub": _load_hub,
    "data2vec2": _load_data2vec2,
    "conformer": _load_conformer,
    "spin": _load_spin,
    "custom": _load_custom,
    "mfcc": _load_mfcc,
}

KEYS: dict[str, dict[str, type]] = {
    "spidr": {"num_layers": int},
    "dinosr": {"num_layers": int},
    "hub": {"num_layers": int, "frame_rate_hz": float, "source": str, "standardize": bool},
    "data2vec2": {"num_layers": int, "frame_rate_hz": float, "standardize": bool},
    "conformer": {"num_layers": int, "frame_rate_hz": float},
    "spin": {"num_layers": int, "frame_rate_hz": float, "base": str, "codebook_size": int},
    "custom": {"num_layers": int, "loader": str, "options": dict},
    "mfcc": {},
}
"""What `load` reads of each family's config.json."""


Described = HubEncoder | CustomEncoder | MfccEncoder
DESCRIBED: dict[str, type[Described]] = {"hub": HubEncoder, "custom": CustomEncoder, "mfcc": MfccEncoder}


class _Family(Settings):
    """The key that says which settings the others are."""

    model_config = ConfigDict(extra="ignore")
    family: Literal["hub", "custom", "mfcc"]


def describe(settings: Described) -> dict[str, Any]:
    """What config.json holds; of a model on the hub, the commit its name stands for now, of a folder's its checksums.

    Raises:
        InputError: The source or loader is not there, is no encoder, or has fewer layers than are wanted.
    """
    if settings.family == "mfcc":
        return {"family": "mfcc", "frame_rate_hz": 50.0, "tap": "mfcc", "num_layers": 1}
    config = _describe_hub(settings) if settings.family == "hub" else _describe_custom(settings)
    if settings.layers[-1] > config["num_layers"]:
        where = settings.source if settings.family == "hub" else settings.loader
        raise InputError(
            f"layers: found {settings.layers[-1]}, expected 0 to {config['num_layers']}: {where} has those"
        )
    return config


def _describe_hub(settings: HubEncoder) -> dict[str, Any]:
    released = find(settings.source)
    source = hub_source(settings.source)
    where, revision = _find_config(source)
    model = read_json_object(where)
    if model.get("model_type") not in HUB_TYPES:
        raise InputError(
            f"{where}: model_type: found {model.get('model_type')!r}, expected one of {', '.join(HUB_TYPES)}"
        )
    is_whisper = model["model_type"] == "whisper"
    layers = "encoder_layers" if is_whisper else "num_hidden_layers"
    for key in (layers,) if is_whisper else (layers, "conv_stride"):
        if key not in model:
            raise InputError(f"{where}: {key}: missing, expected the configuration of a {model['model_type']} model")
    return {
        "family": "hub",
        "model_type": model["model_type"],
        "frame_rate_hz": WHISPER_RATE_HZ if is_whisper else SAMPLE_RATE_HZ / float(np.prod(model["conv_stride"])),
        "tap": "block",
        "num_layers": model[layers],
        "source": source,
        "revision": revision,
        "checksums": source_checksums(source),
        "standardize": released.standardize if released and settings.standardize is None else settings.standardize,
    }


def _describe_custom(settings: CustomEncoder) -> dict[str, Any]:
    from units.custom import load_custom

    encoder = load_custom(settings.loader, settings.options, "cpu")
    return {
        "family": "custom",
        "frame_rate_hz": float(encoder.frame_rate_hz),
        "tap": encoder.tap,
        "num_layers": encoder.num_layers,
        "loader": settings.loader,
        "options": settings.options,
    }


def _find_config(source: str) -> tuple[Path, str | None]:
    """A source's own config.json, and its commit where the source is on the hub."""
    if Path(source).is_dir():
        return Path(source) / "config.json", None
    from transformers.utils.hub import cached_file, extract_commit_hash

    try:
        path = cached_file(source, "config.json")
    except OSError as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"source: found {source!r}, expected a folder or a name on the hub ({reason})") from None
    return Path(path), extract_commit_hash(path, None)


def main() -> None:
    """List the released encoders, or make the folder of an encoder that is not trained here."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="the released encoders that can be used")
    describing = commands.add_parser("describe", help="make the folder of an encoder that is not trained here")
    describing.add_argument("--settings", required=True, help="an experiment's entry: JSON, or a YAML file")
    describing.add_argument("--output", type=Path, required=True, help="encoder folder; config.json is written there")
    converting = commands.add_parser("convert", help="make the folder of an encoder from its released file")
    converting.add_argument("file", type=Path, metavar="FILE", help="checkpoint (.pt, .ckpt, .safetensors)")
    converting.add_argument("--extra", type=Path, help="of conformer-asr: normalizer.ckpt, released beside asr.ckpt")
    converting.add_argument("--encoder", required=True, metavar="NAME", help="what the file is, a name of list")
    converting.add_argument("--output", type=Path, required=True, help="encoder folder, a new one")
    given = parser.parse_args()
    if given.command == "list":
        print(table_text())
        return
    if given.command == "convert":
        from units.conversion import convert

        if given.encoder not in REGISTRY:
            raise InputError(f"--encoder: found {given.encoder!r}, expected a name of python -m units.encoders list")
        convert(given.file, REGISTRY[given.encoder], given.output, given.extra)
        return
    settings = load_settings(DESCRIBED[load_settings(_Family, given.settings).family], given.settings)
    write_json(given.output / "config.json", describe(settings))


if __name__ == "__main__":
    run(main)
