"""Released encoders by name: those of tables 1 and 7 of the paper.

One entry is all that is known of a release. Those on the hub are loaded by `units.hub` and
`units.whisper`; the others are files, which one command makes folders of: `Released.command`.

::

    python -m units.encoders list
"""

from typing import NamedTuple

HUB_TYPES = ("hubert", "wav2vec2", "wavlm", "data2vec-audio", "whisper")
"""``model_type`` of what is loaded by its name on the hub."""
HUB = "https://huggingface.co/"
SPIDR_TYPES = ("spidr", "dinosr", "dinosr-original")
"""``model_type`` of what `spidr.released` makes a folder of."""
SPIN_SIZES = (128, 256, 512, 1024, 2048)
"""Codebooks that Spin's encoders are released with."""

APACHE = "Apache-2.0"
UNISPEECH = "CC BY-SA 3.0"
"""The card of WavLM names the licence of microsoft/UniSpeech."""
CC_NC = "CC BY-NC 4.0"
MIT = "MIT"
NO_LICENCE = "none stated"
SEE_CARD = "see its card"


class Released(NamedTuple):
    """A released encoder."""

    name: str
    """How it is asked for."""
    title: str
    """How the paper's tables call it."""
    source: str
    """Its name on the hub, or the address of its file or of the page that links to it."""
    model_type: str
    """One of `HUB_TYPES` or `SPIDR_TYPES`, or what its file is: see `units.conversion`."""
    standardize: bool
    """Whether it was trained on waveforms of mean 0 and variance 1; SpidR and DinoSR see to that themselves."""
    num_layers: int
    dim: int
    num_parameters: int
    """Without heads, decoder and teacher; transformers' models have the mask embedding among theirs."""
    licence: str
    tap: str = "block"
    """Where in a layer features are read, as `units.encoders.Encoder.tap`."""
    frame_rate_hz: float = 50.0
    head_size: int = 64
    """Dimensions of an attention head, which a file of HuBERT's kind does not tell."""
    codebook_size: int | None = None
    """Codes of Spin's codebook."""

    @property
    def is_on_hub(self) -> bool:
        """Whether it is loaded by name."""
        return self.model_type in HUB_TYPES

    @property
    def command(self) -> str:
        """What makes a folder of its file, and how an experiment uses that."""
        if self.model_type in SPIDR_TYPES:
            family = "spidr" if self.model_type == "spidr" else "dinosr"
            making = f"python -m spidr.released import FILE --layout {self.model_type} --output FOLDER"
        else:
            family = "converted"
            extra = " --extra normalizer.ckpt" if self.model_type == "conformer" else ""
            making = f"python -m units.encoders convert FILE{extra} --encoder {self.name} --output FOLDER"
        return f"{making}, and used with family {family} and path: FOLDER"


def _spin(base: str, title: str, num_parameters: int, size: int) -> Released:
    """HuBERT or WavLM Base, fine-tuned by Spin with a codebook of a size."""
    source = f"https://huggingface.co/datasets/vectominist/spin_ckpt/resolve/main/spin_{base}_{size}.ckpt"
    name, title = f"{base}-spin-{size}", f"{title} + Spin {size}"
    return Released(name, title, source, f"{base}-spin", False, 12, 768, num_parameters, MIT, codebook_size=size)


BASE, LARGE = (12, 768), (24, 1024)
"""Layers and their width."""

# The hub has another wav2vec 2.0 Large, facebook/wav2vec2-large: the paper's is trained on Libri-Light.
# `standardize` follows the trainings, not the hub's preprocessor files, of which some are additions.
_ENTRIES = (
    Released("wav2vec2-base", "wav2vec 2.0", "facebook/wav2vec2-base", "wav2vec2", False, *BASE, 94_371_712, APACHE),
    Released(
        "wav2vec2-large",
        "wav2vec 2.0 LARGE",
        "facebook/wav2vec2-large-lv60",
        "wav2vec2",
        True,
        *LARGE,
        315_438_720,
        APACHE,
    ),
    Released(
        "wav2vec2-base-asr",
        "wav2vec 2.0 ASR",
        "facebook/wav2vec2-base-960h",
        "wav2vec2",
        False,
        *BASE,
        94_371_712,
        APACHE,
    ),
    Released(
        "wav2vec2-large-asr",
        "wav2vec 2.0 LARGE ASR",
        "facebook/wav2vec2-large-960h-lv60",
        "wav2vec2",
        True,
        *LARGE,
        315_438_720,
        APACHE,
    ),
    Released("hubert-base", "HuBERT", "facebook/hubert-base-ls960", "hubert", False, *BASE, 94_371_712, APACHE),
    Released(
        "hubert-large", "HuBERT LARGE", "facebook/hubert-large-ll60k", "hubert", True, *LARGE, 315_438_720, APACHE
    ),
    Released(
        "hubert-xlarge",
        "HuBERT EXTRA LARGE",
        "facebook/hubert-xlarge-ll60k",
        "hubert",
        True,
        48,
        1280,
        962_497_408,
        APACHE,
        head_size=80,
    ),
    Released(
        "hubert-large-asr",
        "HuBERT LARGE ASR",
        "facebook/hubert-large-ls960-ft",
        "hubert",
        True,
        *LARGE,
        315_438_720,
        APACHE,
    ),
    Released("wavlm-base", "WavLM Base", "microsoft/wavlm-base", "wavlm", False, *BASE, 94_381_936, UNISPEECH),
    Released(
        "wavlm-base-plus", "WavLM Base+", "microsoft/wavlm-base-plus", "wavlm", False, *BASE, 94_381_936, UNISPEECH
    ),
    Released("wavlm-large", "WavLM Large", "microsoft/wavlm-large", "wavlm", True, *LARGE, 315_453_120, UNISPEECH),
    Released(
        "data2vec-base", "data2vec", "facebook/data2vec-audio-base", "data2vec-audio", True, *BASE, 93_164_288, APACHE
    ),
    Released(
        "data2vec-large",
        "data2vec LARGE",
        "facebook/data2vec-audio-large",
        "data2vec-audio",
        True,
        *LARGE,
        313_276_416,
        APACHE,
    ),
    Released(
        "dinosr-original",
        "DinoSR",
        "https://data.csail.mit.edu/placesaudio/dinosr/dinosr.ckpt",
        "dinosr-original",
        True,
        *BASE,
        93_163_520,
        NO_LICENCE,
        "ffn",
    ),
    Released(
        "dinosr-base",
        "DinoSR†",
        "https://dl.fbaipublicfiles.com/shared/devai/assets/models/dinosr_base_reproduced.pt",
        "dinosr",
        True,
        *BASE,
        93_135_872,
        CC_NC,
        "ffn",
    ),
    Released(
        "spidr-base",
        "SpidR",
        "https://dl.fbaipublicfiles.com/shared/devai/assets/models/spidr_base.pt",
        "spidr",
        True,
        *BASE,
        93_135_872,
        CC_NC,
        "ffn",
    ),
    Released(
        "data2vec2-base",
        "data2vec 2.0",
        "https://dl.fbaipublicfiles.com/fairseq/data2vec2/base_libri.pt",
        "data2vec2",
        True,
        *BASE,
        93_163_532,
        MIT,
    ),
    Released(
        "data2vec2-large",
        "data2vec 2.0 LARGE",
        "https://dl.fbaipublicfiles.com/fairseq/data2vec2/large_vox.pt",
        "data2vec2",
        True,
        *LARGE,
        313_275_408,
        MIT,
    ),
    Released("eh-mam", "EH-MAM", "https://github.com/cs20s030/ehmam", "data2vec2", True, *BASE, 93_163_532, MIT),
    Released(
        "contentvec",
        "ContentVec",
        "https://huggingface.co/s3prl/converted_ckpts/resolve/main/contentvec_km100.pt",
        "hubert-fairseq",
        False,
        *BASE,
        94_371_712,
        MIT,
    ),
    *(_spin("hubert", "HuBERT", 94_371_712, size) for size in SPIN_SIZES),
    *(_spin("wavlm", "WavLM", 94_381_936, size) for size in SPIN_SIZES),
    Released(
        "hubert-phoneme",
        "HuBERT + phoneme classification",
        "https://huggingface.co/coml/hubert-phoneme-classification",
        "hubert-torchaudio",
        False,
        *BASE,
        94_371_712,
        SEE_CARD,
    ),
    Released(
        "whisper-small-en", "Whisper small.en", "openai/whisper-small.en", "whisper", False, *BASE, 88_154_112, APACHE
    ),
    Released(
        "conformer-asr",
        "Conformer ASR",
        "https://huggingface.co/speechbrain/asr-conformer-transformerlm-librispeech",
        "conformer",
        False,
        12,
        512,
        76_220_832,
        APACHE,
        frame_rate_hz=25.0,
    ),
)

REGISTRY: dict[str, Released] = {released.name: released for released in _ENTRIES}

HOW_TO = """\
A source that is no address is a name on the hub: family hub, `source: NAME`. An address is that of a file, or of a page
that links to it: download it, and make a folder of it.
TYPE spidr, dinosr, dinosr-original: `python -m spidr.released import FILE --layout TYPE --output FOLDER`, then family
spidr or dinosr with `path: FOLDER`.
The others: `python -m units.encoders convert FILE --encoder NAME --output FOLDER`, then family converted with
`path: FOLDER` (conformer-asr: FILE is asr.ckpt, and `--extra normalizer.ckpt` the file beside it). The encoders of TYPE
hubert, wav2vec2 and wavlm can be converted likewise, from a checkpoint of fairseq, s3prl or the authors of WavLM.
SpidR + Spin is not released: it is made here, by the Spin stage, from a SpidR. †: the paper's re-implementation."""


def find(source: str) -> Released | None:
    """The encoder of a name in the registry, or of a source that an entry has: an address, or a name on the hub."""
    by_source = {released.source.removeprefix(HUB): released for released in REGISTRY.values()}
    return REGISTRY.get(source) or by_source.get(source.removeprefix(HUB))


def hub_source(source: str) -> str:
    """Where a model of transformers lies, as an experiment names it: of an entry its name on the hub, else as given."""
    released = find(source)
    return released.source if released else source


def table_text() -> str:
    """The registry as aligned columns, and how an entry is used."""
    rows = [["NAME", "ENCODER", "TYPE", "LAYERS", "DIM", "HZ", "TAP", "STANDARDIZE", "PARAMETERS", "LICENCE", "SOURCE"]]
    for released in REGISTRY.values():
        sizes = [str(released.num_layers), str(released.dim), f"{released.frame_rate_hz:g}", released.tap]
        told = ["true" if released.standardize else "false", f"{released.num_parameters:,}", released.licence]
        rows.append([released.name, released.title, released.model_type, *sizes, *told, released.source])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", HOW_TO])
