"""The experiment: what exists and what is wanted, as one typed model.

An experiment file is YAML in the shape of `Experiment`. Keys, types, names and layer numbers are
checked here, when the workflow is read; paths are left to the rules that read them, so that plans
and tables need no corpus.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, StringConstraints, model_validator

from artifacts.device import DeviceName
from artifacts.errors import InputError
from artifacts.settings import Settings, parse_settings, read_yaml
from corpora.settings import Corpus
from slm.settings import Slm, SlmRecipe
from spidr.settings import Recipe
from units.settings import Encoder, HubertEncoder, Quantizer, SpidrEncoder

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*$")]
"""Letters, digits, ``_`` and single ``-``: names are folders, and ``--`` parts the two of a comparison."""

TABLES = (1, 2)
FIGURES = (7, 11, 12, 13, 14)


class Abx(Settings):
    """ABX discriminability of triphones, on features, codebook predictions and units."""

    corpora: list[Name]
    """Annotated corpora it is measured on."""
    conditions: list[Literal["within", "across"]] = ["within", "across"]
    """Speaker conditions: A, B and X from one speaker, or X from another."""


class Measured(Settings):
    """A metric measured on annotated corpora."""

    corpora: list[Name]
    """Annotated corpora it is measured on."""


class Zeroshot(Settings):
    """A zero-shot metric of the language models."""

    set: Name
    """The evaluation set, one of the corpora."""


class Evaluation(Settings):
    """Which metrics are wanted, on which corpora. A metric that is not named is not computed."""

    abx: Abx | None = None
    """Continuous, codebook and unit ABX."""
    quality: Measured | None = None
    """PNMI, purities, perplexity, bitrate of the units."""
    map: Measured | None = None
    """MAP@R over words of the features."""
    swuggy: Zeroshot | None = None
    """Words against nonwords."""
    sblimp: Zeroshot | None = None
    """Grammatical against ungrammatical sentences."""
    tsc: Zeroshot | None = None
    """Stories with a fitting against an unfitting ending."""


class System(Settings):
    """One encoder-layer-quantizer combination, or the annotated phones."""

    name: str
    encoder: str
    layer: int | None = None
    quantizer: str | None = None


class Experiment(Settings):
    """An experiment file."""

    experiment: Name
    """Its name, and the folder under ``results/``."""
    seed: int = Field(0, ge=0)
    """Every random draw derives from it."""
    device: DeviceName = "auto"
    """Where models are trained and run: ``auto`` takes a GPU where there is one and prints the choice."""
    corpora: dict[Name, Corpus]
    """Speech: name -> layout and place."""
    encoders: dict[Name, Encoder]
    """Speech encoders: name -> family, source or training recipe, layers, quantizers."""
    quantizers: dict[Name, Quantizer] = {}
    """Ways from features to units: name -> kind, size, corpus it is fitted on."""
    slms: dict[Name, Slm] = {}
    """Language models: name -> recipe, training and validation corpora, seeds."""
    systems: list[str] | Literal["all"] = []
    """The encoder-layer-quantizer combinations that get a language model: by name, or ``all``."""
    evaluation: Evaluation = Evaluation()
    """Metrics wanted."""
    tables: list[int] = []
    """The paper's tables, made from this experiment's scores."""
    figures: list[int] = []
    """The paper's figures, likewise."""

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.experiment == "published":
            raise ValueError(
                "experiment: found 'published', expected another name: that folder holds the paper's numbers"
            )
        for key, names in self._corpus_references():
            _expect(key, names, self.corpora)
        for name, corpus in self.corpora.items():
            if corpus.layout != "synthetic" and corpus.source is not None:
                sources = [other for other, c in self.corpora.items() if c.layout == "synthetic"]
                _expect(f"corpora.{name}.source", [corpus.source], sources)
        for name, encoder in self.encoders.items():
            _expect(f"encoders.{name}.quantizers", encoder.quantizers, self.quantizers)
            for quantizer in encoder.quantizers:
                if self.quantizers[quantizer].kind == "codebook" and not isinstance(encoder, SpidrEncoder):
                    raise ValueError(
                        f"encoders.{name}.quantizers: found {quantizer} of kind codebook, expected kmeans: "
                        f"a {encoder.family} encoder has no codebook"
                    )
        if self.systems != "all":
            _expect("systems", self.systems, self.all_systems)
        for key, names in self._annotated_references():
            _expect(
                key,
                names,
                [name for name, c in self.corpora.items() if getattr(c, "annotations", None)],
                "annotated corpora",
            )
        _expect_numbers("tables", self.tables, TABLES)
        _expect_numbers("figures", self.figures, FIGURES)
        if self.language_systems and not self.slms:
            raise ValueError("systems: found systems for language models, but slms is empty")
        return self

    def _corpus_references(self) -> list[tuple[str, list[str]]]:
        """Every key that names corpora, and the names it gives."""
        named: list[tuple[str, list[str]]] = []
        for name, encoder in self.encoders.items():
            if isinstance(encoder, SpidrEncoder) and encoder.recipe:
                named.append((f"encoders.{name}.train", encoder.train))
                named.append((f"encoders.{name}.validation", [encoder.validation] if encoder.validation else []))
        for name, quantizer in self.quantizers.items():
            if quantizer.kind == "kmeans":
                named.append((f"quantizers.{name}.fit", [quantizer.fit]))
        for name, slm in self.slms.items():
            named += [(f"slms.{name}.train", slm.train), (f"slms.{name}.validation", [slm.validation])]
        for metric, wanted in self.evaluation:
            if isinstance(wanted, Zeroshot):
                named.append((f"evaluation.{metric}.set", [wanted.set]))
        return named

    def _annotated_references(self) -> list[tuple[str, list[str]]]:
        """Every key that names corpora which must be annotated."""
        named = [
            (f"evaluation.{metric}.corpora", wanted.corpora)
            for metric, wanted in self.evaluation
            if isinstance(wanted, Abx | Measured)
        ]
        if "phones" in self.encoders and any(s.encoder == "phones" for s in self.language_systems):
            for name, slm in self.slms.items():
                named += [(f"slms.{name}.train (for the phone topline)", [*slm.train, slm.validation])]
            named += [
                (f"evaluation.{metric}.set (for the phone topline)", [wanted.set])
                for metric, wanted in self.evaluation
                if isinstance(wanted, Zeroshot)
            ]
        return named

    @property
    def all_systems(self) -> dict[str, System]:
        """Every combination the encoders list, by name."""
        systems = {}
        for name, encoder in self.encoders.items():
            if encoder.family == "phones":
                systems[name] = System(name=name, encoder=name)
                continue
            for layer in encoder.layers:
                for quantizer in encoder.quantizers:
                    system = f"{name}-L{layer:02d}-{quantizer}"
                    systems[system] = System(name=system, encoder=name, layer=layer, quantizer=quantizer)
        return systems

    @property
    def language_systems(self) -> list[System]:
        """The systems that get a language model."""
        if self.systems == "all":
            return list(self.all_systems.values())
        return [self.all_systems[name] for name in dict.fromkeys(self.systems)]


def _expect(key: str, found: Sequence[str], known: Any, what: str = "") -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{key}: found {name!r}, expected one of {what or 'them'}: {', '.join(known) or 'none'}")


def _expect_numbers(key: str, found: list[int], known: tuple[int, ...]) -> None:
    for number in found:
        if number not in known:
            raise ValueError(f"{key}: found {number}, expected one of {', '.join(map(str, known))}")


def read_experiment(path: Path) -> Experiment:
    """Read and check an experiment file, its recipes and its layer numbers.

    Recipes are looked for beside the experiment file.

    Raises:
        InputError: One line naming file and key, what was found and what was expected.
    """
    experiment = parse_settings(Experiment, read_yaml(path), str(path))
    for name, encoder in experiment.encoders.items():
        where = f"{path}: encoders.{name}"
        if isinstance(encoder, SpidrEncoder) and encoder.recipe:
            recipe = read_recipe(Recipe, path, encoder.recipe)
            first_codebook = recipe.model.num_layers - recipe.model.num_codebooks + 1
            _check_layers(where, encoder.layers, recipe.model.num_layers)
            for quantizer in encoder.quantizers:
                low = [layer for layer in encoder.layers if layer < first_codebook]
                if experiment.quantizers[quantizer].kind == "codebook" and low:
                    raise InputError(
                        f"{where}.layers: found {low[0]} with quantizer {quantizer}, "
                        f"expected {first_codebook} to {recipe.model.num_layers}: the layers that have a codebook"
                    )
        if isinstance(encoder, HubertEncoder):
            config = Path(encoder.source) / "config.json"
            if config.is_file():
                _check_layers(where, encoder.layers, json.loads(config.read_text())["num_hidden_layers"])
    for slm in experiment.slms.values():
        read_recipe(SlmRecipe, path, slm.recipe)
    return experiment


def read_recipe[S: Settings](kind: type[S], experiment_file: Path, recipe: str) -> S:
    """Read a training recipe that an experiment file names, relative to that file's folder."""
    path = experiment_file.parent / recipe
    return parse_settings(kind, read_yaml(path), str(path))


def _check_layers(where: str, layers: list[int], num_layers: int) -> None:
    for layer in layers:
        if layer > num_layers:
            raise InputError(
                f"{where}.layers: found {layer}, expected 0 to {num_layers}: the encoder has {num_layers} layers"
            )
