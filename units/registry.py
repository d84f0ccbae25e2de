"""Released encoders by name: those of tables 1 and 7 of the paper that can be used here.

One entry is all that is known of a release. Those on the hub are loaded by `units.hub`; the
checkpoints of SpidR and DinoSR are files, which ``python -m spidr.released import`` makes folders of.

::

    python -m units.encoders list
"""

from typing import NamedTuple

HUB_TYPES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio")
"""``model_type`` of what `units.hub` loads."""

APACHE = "Apache-2.0"
UNISPEECH = "CC BY-SA 3.0"
"""The card of WavLM names the licence of microsoft/UniSpeech."""
CC_NC = "CC BY-NC 4.0"
NO_LICENCE = "none stated"


class Released(NamedTuple):
    """A released encoder."""

    title: str
    """How the paper's tables call it."""
    source: str
    """Its name on the hub, or the address of its file."""
    model_type: str
    """One of `HUB_TYPES`, or the layout of its file: a key of `spidr.layouts.LAYOUTS`."""
    standardize: bool
    """Whether it was trained on waveforms of mean 0 and variance 1; SpidR and DinoSR see to that themselves."""
    num_layers: int
    dim: int
    num_parameters: int
    """Without heads and teacher; transformers' models have the mask embedding among theirs."""
    licence: str
    tap: str = "block"
    """Where in a layer features are read, as `units.encoders.Encoder.tap`."""
    frame_rate_hz: float = 50.0

    @property
    def is_on_hub(self) -> bool:
        """Whether it is loaded by name."""
        return self.model_type in HUB_TYPES


# The hub has another wav2vec 2.0 Large, facebook/wav2vec2-large: the paper's is trained on Libri-Light.
# `standardize` follows the trainings, not the hub's preprocessor files, of which some are additions.
REGISTRY: dict[str, Released] = {
    "wav2vec2-base": Released("wav2vec 2.0", "facebook/wav2vec2-base", "wav2vec2", False, 12, 768, 94_371_712, APACHE),
    "wav2vec2-large": Released(
        "wav2vec 2.0 LARGE", "facebook/wav2vec2-large-lv60", "wav2vec2", True, 24, 1024, 315_438_720, APACHE
    ),
    "wav2vec2-base-asr": Released(
        "wav2vec 2.0 ASR", "facebook/wav2vec2-base-960h", "wav2vec2", False, 12, 768, 94_371_712, APACHE
    ),
    "wav2vec2-large-asr": Released(
        "wav2vec 2.0 LARGE ASR", "facebook/wav2vec2-large-960h-lv60", "wav2vec2", True, 24, 1024, 315_438_720, APACHE
    ),
    "hubert-base": Released("HuBERT", "facebook/hubert-base-ls960", "hubert", False, 12, 768, 94_371_712, APACHE),
    "hubert-large": Released(
        "HuBERT LARGE", "facebook/hubert-large-ll60k", "hubert", True, 24, 1024, 315_438_720, APACHE
    ),
    "hubert-xlarge": Released(
        "HuBERT EXTRA LARGE", "facebook/hubert-xlarge-ll60k", "hubert", True, 48, 1280, 962_497_408, APACHE
    ),
    "hubert-large-asr": Released(
        "HuBERT LARGE ASR", "facebook/hubert-large-ls960-ft", "hubert", True, 24, 1024, 315_438_720, APACHE
    ),
    "wavlm-base": Released("WavLM Base", "microsoft/wavlm-base", "wavlm", False, 12, 768, 94_381_936, UNISPEECH),
    "wavlm-base-plus": Released(
        "WavLM Base+", "microsoft/wavlm-base-plus", "wavlm", False, 12, 768, 94_381_936, UNISPEECH
    ),
    "wavlm-large": Released("WavLM Large", "microsoft/wavlm-large", "wavlm", True, 24, 1024, 315_453_120, UNISPEECH),
    "data2vec-base": Released(
        "data2vec", "facebook/data2vec-audio-base", "data2vec-audio", True, 12, 768, 93_164_288, APACHE
    ),
    "data2vec-large": Released(
        "data2vec LARGE", "facebook/data2vec-audio-large", "data2vec-audio", True, 24, 1024, 313_276_416, APACHE
    ),
    "dinosr-original": Released(
        "DinoSR",
        "https://data.csail.mit.edu/placesaudio/dinosr/dinosr.ckpt",
        "dinosr-original",
        True,
        12,
        768,
        93_163_520,
        NO_LICENCE,
        "ffn",
    ),
    "dinosr-base": Released(
        "DinoSR†",
        "https://dl.fbaipublicfiles.com/shared/devai/assets/models/dinosr_base_reproduced.pt",
        "dinosr",
        True,
        12,
        768,
        93_135_872,
        CC_NC,
        "ffn",
    ),
    "spidr-base": Released(
        "SpidR",
        "https://dl.fbaipublicfiles.com/shared/devai/assets/models/spidr_base.pt",
        "spidr",
        True,
        12,
        768,
        93_135_872,
        CC_NC,
        "ffn",
    ),
}

HOW_TO = """\
With family hub an experiment says `source: NAME`. A checkpoint at an address is downloaded, imported by
`python -m spidr.released import FILE --layout TYPE --output FOLDER` and used with family spidr or dinosr and
`path: FOLDER`. †: the paper's re-implementation."""


def find(source: str) -> Released | None:
    """The encoder of a name in the registry, or of a source that an entry has."""
    by_source = {released.source: released for released in REGISTRY.values()}
    return REGISTRY.get(source) or by_source.get(source)


def table_text() -> str:
    """The registry as aligned columns, and how an entry is used."""
    rows = [["NAME", "ENCODER", "TYPE", "LAYERS", "DIM", "HZ", "TAP", "STANDARDIZE", "PARAMETERS", "LICENCE", "SOURCE"]]
    for name, released in REGISTRY.items():
        sizes = [str(released.num_layers), str(released.dim), f"{released.frame_rate_hz:g}", released.tap]
        told = ["true" if released.standardize else "false", f"{released.num_parameters:,}", released.licence]
        rows.append([name, released.title, released.model_type, *sizes, *told, released.source])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", HOW_TO])
