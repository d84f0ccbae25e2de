"""The encoders and quantizers of an experiment: what turns speech into units."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Discriminator, Field, Tag, model_validator

from artifacts.settings import Settings
from units.registry import find


def _is_sorted(layers: list[int]) -> list[int]:
    if layers != sorted(set(layers)):
        raise ValueError(f"found {layers}, expected each layer once, rising: {sorted(set(layers))}")
    return layers


Layers = Annotated[list[Annotated[int, Field(ge=0, le=99)]], Field(min_length=1), AfterValidator(_is_sorted)]
"""Layers count from 1; 0 is the input of the first block."""

Quantizers = Annotated[
    Annotated[list[str], Tag("list")] | Annotated[dict[str, Layers], Tag("layers")],
    # So that a wrong one is told once, not as a wrong list and a wrong mapping.
    Discriminator(lambda value: "layers" if isinstance(value, dict) else "list"),
]
"""Names of quantizers, each for all layers of the encoder, or name -> the layers it makes units of."""


class SpidrEncoder(Settings):
    """SpidR or DinoSR, trained here from a recipe or made elsewhere."""

    family: Literal["spidr", "dinosr"]
    """Which of the two objectives it was trained with."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    recipe: str | None = None
    """Training recipe, a YAML file beside the experiment file. Either this or `path`."""
    train: list[str] = []
    """Corpora it is trained on."""
    validation: str | None = None
    """Corpus its validation loss is measured on."""
    untrained: bool = False
    """Keep the random initialisation: the floor that training is measured against."""
    path: str | None = None
    """Folder of an encoder made elsewhere. Either this or `recipe`."""
    layers: Layers
    """Layers whose features are evaluated."""
    quantizers: Quantizers = []
    """Quantizers that make units of each of these layers, or of some: `{kmeans256: [1, 2, 3], codebook: [3]}`."""

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.recipe is None) == (self.path is None):
            found = "neither" if self.recipe is None else "both"
            raise ValueError(
                f"found {found} recipe {'nor' if found == 'neither' else 'and'} path, expected one of them"
            )
        if self.recipe and not (self.train and self.validation):
            raise ValueError("found recipe without train or validation, expected corpora to train and validate on")
        if self.path and (self.train or self.validation or self.untrained):
            raise ValueError("found path with train, validation or untrained, expected them with a recipe only")
        return self


class HubEncoder(Settings):
    """HuBERT, wav2vec 2.0, WavLM, data2vec or Whisper, from the Hugging Face hub or a local folder."""

    family: Literal["hub"]
    """A model that transformers loads."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    source: str
    """Name in the registry (`hubert-base`; `python -m units.encoders list` shows them all), name on the hub
    (`facebook/hubert-base-ls960`), or a folder in the same form."""
    standardize: bool | None = None
    """Bring each waveform to mean 0 and variance 1 before the model. Null takes the registry's; a source that is not
    there needs a value, which is how the model was trained."""
    layers: Layers
    """Layers whose features are evaluated."""
    quantizers: Quantizers = []
    """Quantizers that make units of each of these layers, or of some: `{kmeans256: [1, 2, 3], codebook: [3]}`."""

    @model_validator(mode="after")
    def _is_known_well_enough(self) -> Self:
        released = find(self.source)
        if released and not released.is_on_hub:
            raise ValueError(
                f"source: found {self.source!r}, expected a model of the hub: its file is made a folder by "
                f"{released.command}"
            )
        if not released and self.standardize is None:
            raise ValueError(
                f"standardize: missing, expected true or false: the registry does not know {self.source!r} "
                "(python -m units.encoders list)"
            )
        return self


class ConvertedEncoder(Settings):
    """An encoder folder made of a released checkpoint, by `python -m units.encoders convert`."""

    family: Literal["converted"]
    """An encoder whose folder says itself what it is."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    path: str
    """The encoder folder."""
    layers: Layers
    """Layers whose features are evaluated."""
    quantizers: Quantizers = []
    """Quantizers that make units of each of these layers, or name -> some of them. One of kind codebook makes them of
    Spin's last layer alone."""


class SpinEncoder(Settings):
    """Another encoder of the experiment, fine-tuned here by Spin: a HuBERT, a WavLM or a SpidR."""

    family: Literal["spin"]
    """Spin: speaker-invariant clustering."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    recipe: str
    """Recipe of the fine-tuning, a YAML file beside the experiment file."""
    base: str
    """The encoder that is fine-tuned, of family hub, spidr or converted."""
    train: list[str] = Field(min_length=1)
    """Corpora it is fine-tuned on."""
    layers: Layers
    """Layers whose features are evaluated."""
    quantizers: Quantizers = []
    """Quantizers that make units of each of these layers, or name -> some of them. One of kind codebook makes them of
    the last layer alone."""


class CustomEncoder(Settings):
    """An encoder of one's own, named by import path."""

    family: Literal["custom"]
    """An encoder that is loaded by code from elsewhere."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    loader: str = Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")
    """Callable that takes `options` and `device`, and returns an object that can do what `units.encoders.Encoder` says:
    `mypackage.mymodule:load`. The module lies in the working directory or on PYTHONPATH."""
    options: dict[str, str | int | float | bool] = {}
    """Keywords of the loader."""
    layers: Layers
    """Layers whose features are evaluated."""
    quantizers: Quantizers = []
    """Quantizers that make units of each of these layers, or of some: `{kmeans256: [1, 2, 3], codebook: [3]}`."""


class MfccEncoder(Settings):
    """Mel-frequency cepstral coefficients: 13, with deltas and delta-deltas, at 50 Hz."""

    family: Literal["mfcc"]
    """MFCC, the baseline without learning."""
    name: str | None = None
    """How tables and figures call it."""
    group: str | None = Field(None, min_length=1)
    """Block of table 7 it stands in, e.g. self-supervised."""
    layers: tuple[Literal[1]] = (1,)
    """They have one layer."""
    quantizers: list[str] = []
    """Quantizers that make units of them."""


class PhonesEncoder(Settings):
    """The annotated phones themselves, at 100 Hz: the topline of any unit."""

    family: Literal["phones"]
    """Phones of the annotation; their units need no quantizer."""
    name: str | None = None
    """How tables and figures call it."""
    quantizers: tuple[()] = ()
    """None: a phone is a unit."""


class TextEncoder(Settings):
    """What is said, as a tokenizer writes it: the topline of language models, which hears nothing."""

    family: Literal["text"]
    """Texts of the corpora; a token is a unit."""
    name: str | None = None
    """How tables and figures call it."""
    tokenizer: str
    """Local folder or name on the hub of a tokenizer of text (`facebook/opt-125m`, the paper's)."""
    quantizers: tuple[()] = ()
    """None: a token is a unit."""


Topline = PhonesEncoder | TextEncoder
"""What is no encoder: its units are not of features, and it is named as its family."""

Encoder = Annotated[
    SpidrEncoder
    | HubEncoder
    | ConvertedEncoder
    | SpinEncoder
    | CustomEncoder
    | MfccEncoder
    | PhonesEncoder
    | TextEncoder,
    Field(discriminator="family"),
]
"""One encoder of an experiment."""


def layers_by_quantizer(encoder: Encoder) -> dict[str, list[int]]:
    """Each quantizer of an encoder, and the layers it makes units of; none of a topline."""
    if isinstance(encoder, Topline):
        return {}
    if isinstance(encoder.quantizers, dict):
        return encoder.quantizers
    return {quantizer: list(encoder.layers) for quantizer in encoder.quantizers}


class KmeansQuantizer(Settings):
    """K-means over the features of one layer: fitted here, or made elsewhere."""

    kind: Literal["kmeans"]
    """K-means."""
    num_units: int = Field(ge=2, le=65000)
    """Number of centroids."""
    fit: str | None = None
    """Corpus it is fitted on. Either this or `path`."""
    path: str | None = None
    """Folder of a quantizer made elsewhere (`python -m units.kmeans convert`), of the one layer of the one encoder
    that its configuration names. Either this or `fit`."""
    max_frames: int = Field(1_000_000, ge=2)
    """Frames it is fitted on, drawn uniformly where the corpus has more, all held in memory: 4 bytes a value, and 24 a
    frame beside them. A million of dimension 768 take 3.1 GB."""
    init: Literal["random", "kmeans++"] = "random"
    """First centroids of each start: frames drawn uniformly, or one after the other by their squared distance to
    those already drawn, which costs about as much as an iteration or two."""
    iterations: int = Field(50, ge=1)
    """Lloyd iterations of each start."""
    restarts: int = Field(3, ge=1)
    """Starts; the one with the lowest inertia is kept."""

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> Self:
        if (self.fit is None) == (self.path is None):
            found = "neither fit nor path" if self.fit is None else "both fit and path"
            raise ValueError(f"found {found}, expected one of them")
        if self.path is not None:
            fields = type(self).model_fields
            fitting = ("max_frames", "init", "iterations", "restarts")
            given = [key for key in fitting if getattr(self, key) != fields[key].default]
            if given:
                raise ValueError(f"found path with {', '.join(given)}, expected them with fit only")
        return self


class CodebookQuantizer(Settings):
    """The codebook predictions of SpidR, DinoSR and Spin: the most probable code of the prediction head."""

    kind: Literal["codebook"]
    """Prediction heads of the encoder itself, nothing to fit."""


Quantizer = Annotated[KmeansQuantizer | CodebookQuantizer, Field(discriminator="kind")]
"""One quantizer of an experiment."""
