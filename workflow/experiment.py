"""The experiment: what exists and what is wanted, as one typed model.

An experiment file is YAML in the shape of `Experiment`. Keys, types, names and layer numbers are
checked when the workflow is read (`workflow.reading`); paths are left to the rules that read them, so
that plans and tables need no corpus.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from artifacts.device import DeviceName, Precision
from artifacts.settings import Settings
from corpora.settings import SPEECH_LAYOUTS, Corpus
from slm.settings import Slm
from units.registry import find
from units.settings import ConvertedEncoder, Encoder, HubEncoder, Quantizer, SpidrEncoder, SpinEncoder
from units.spin.settings import HUB_TYPES
from workflow.evaluation import ZEROSHOT_LAYOUTS, Abx, Evaluation, Measured, Name, Zeroshot

TABLES = (1, 2)
TRAINING_FIGURE = 2
"""Drawn from the logs of the encoders' trainings; the others are from scores."""
FIGURES = (TRAINING_FIGURE, 7, 11, 12, 13, 14)
TRAINING_LOG = "training/log.jsonl"
"""Where an encoder's folder has the log of its training."""


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
    precision: Precision = "float32"
    """What encoders compute in where features and units are made. Units of bfloat16 differ at near ties."""
    shards: int = Field(1, ge=1)
    """Jobs that each pass from audio to units is shared out among. Units are the same whatever their number."""
    corpora: dict[Name, Corpus]
    """Speech: name -> layout and place."""
    encoders: dict[Name, Encoder]
    """Speech encoders: name -> family, source or training recipe, layers, quantizers."""
    quantizers: dict[Name, Quantizer] = {}
    """Ways from features to units: name -> kind, size, corpus it is fitted on."""
    slms: dict[Name, Slm] = {}
    """Language models: name -> recipe, training and validation corpora, seeds."""
    systems: list[str] | Literal["all"] = []
    """The encoder-layer-quantizer combinations that get a language model: by name, or ``all``. With ``best`` for the
    layer (``spidr-best-kmeans256``) it is the one with the lowest mean of the encoder's continuous ABX errors."""
    evaluation: Evaluation = Evaluation()
    """Metrics wanted."""
    tables: list[int] = []
    """The paper's tables, made from this experiment's scores."""
    figures: list[int] = []
    """The paper's figures, likewise; figure 2 from the logs of the encoders' trainings."""

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.experiment == "published":
            raise ValueError(
                "experiment: found 'published', expected another name: that folder holds the paper's numbers"
            )
        for key, names, layouts in self._corpus_references():
            suited = [name for name, corpus in self.corpora.items() if corpus.layout in layouts]
            _expect(key, names, suited, f"the corpora of layout {' or '.join(layouts)}")
        for name, corpus in self.corpora.items():
            if corpus.layout != "synthetic" and corpus.source is not None:
                sources = [other for other, c in self.corpora.items() if c.layout == "synthetic"]
                _expect(f"corpora.{name}.source", [corpus.source], sources, "the synthetic corpora")
        for name, encoder in self.encoders.items():
            if (name == "phones") != (encoder.family == "phones"):
                raise ValueError(
                    f"encoders.{name}: found family {encoder.family}, expected phones to be of family phones"
                )
            _expect(f"encoders.{name}.quantizers", encoder.quantizers, self.quantizers, "the quantizers")
            if isinstance(encoder, SpinEncoder):
                bases = [other for other, base in self.encoders.items() if _may_be_fine_tuned(base)]
                _expect(f"encoders.{name}.base", [encoder.base], bases, "the HuBERTs, WavLMs and SpidRs")
            may_have_codebook = isinstance(encoder, SpidrEncoder | ConvertedEncoder | SpinEncoder)
            for quantizer in encoder.quantizers:
                if self.quantizers[quantizer].kind == "codebook" and not may_have_codebook:
                    raise ValueError(
                        f"encoders.{name}.quantizers: found {quantizer} of kind codebook, expected kmeans: "
                        f"a {encoder.family} encoder has no codebook"
                    )
        if self.systems != "all":
            _expect("systems", self.systems, [*self.all_systems, *self._by_best_layer], "the encoders' combinations")
        for key, names in self._annotated_references():
            _expect(
                key,
                names,
                [name for name, c in self.corpora.items() if getattr(c, "annotations", None)],
                "the annotated corpora",
            )
        _expect("tables", self.tables, TABLES, "the paper's")
        _expect("figures", self.figures, FIGURES, "the paper's")
        for name, slm in self.slms.items():
            if slm.validation in slm.train:
                raise ValueError(f"slms.{name}.validation: found {slm.validation!r}, expected a corpus not trained on")
        for key, entries in self._lists():
            if len(set(entries)) < len(entries):
                raise ValueError(f"{key}: found {entries}, expected each once")
        self._results_have_scores()
        return self

    def _lists(self) -> list[tuple[str, Sequence[object]]]:
        """Every list whose entries become files or jobs."""
        lists: list[tuple[str, Sequence[object]]] = [("tables", self.tables), ("figures", self.figures)]
        lists += [(f"encoders.{name}.quantizers", encoder.quantizers) for name, encoder in self.encoders.items()]
        for name, slm in self.slms.items():
            lists += [(f"slms.{name}.train", slm.train), (f"slms.{name}.seeds", slm.seeds)]
        for metric, wanted in self.evaluation:
            if isinstance(wanted, Abx | Measured):
                lists.append((f"evaluation.{metric}.corpora", wanted.corpora))
        if abx := self.evaluation.abx:
            lists.append(("evaluation.abx.conditions", abx.conditions))
            lists += [("evaluation.abx.contexts", abx.contexts), ("evaluation.abx.segments", abx.segments)]
        return lists

    def _results_have_scores(self) -> None:
        """Tables and figures want scores: better to hear it now than after the training."""
        evaluation = self.evaluation
        if self.has_language_models and not (self.slms and evaluation.zeroshot):
            metrics = ", ".join(ZEROSHOT_LAYOUTS)
            raise ValueError(f"systems: found systems for language models, expected slms and one of {metrics}")
        if not (evaluation.abx or evaluation.quality or evaluation.map):
            raise ValueError("evaluation: expected at least one of abx, quality, map")
        if self.all_systems and not (evaluation.abx or evaluation.quality):
            raise ValueError("evaluation: found units, expected abx or quality to measure them")
        if set(self.tables) & {1, 2} and "" not in (evaluation.abx.variants if evaluation.abx else []):
            raise ValueError(
                "tables: found 1 or 2, expected evaluation.abx of triphones within context: it selects the layer"
            )
        wants_models = sorted(set(self.figures) & {12, 13, 14})
        if self.candidates and "" not in (evaluation.abx.variants if evaluation.abx else []):
            raise ValueError(
                f"systems: found {next(iter(self.candidates))}, expected evaluation.abx of triphones within context: "
                "it selects the layer"
            )
        if wants_models and not self.has_language_models:
            raise ValueError(
                f"figures: found {wants_models[0]}, expected systems with a language model to draw it from"
            )
        if TRAINING_FIGURE in self.figures and not self.logged_encoders:
            raise ValueError(
                f"figures: found {TRAINING_FIGURE}, expected an encoder with a recipe that is trained, "
                f"or one made elsewhere with its {TRAINING_LOG}, to draw it from"
            )

    def _corpus_references(self) -> list[tuple[str, list[str], tuple[str, ...]]]:
        """Every key that names corpora, the names it gives, and the layouts it can do with."""
        speech = SPEECH_LAYOUTS
        named: list[tuple[str, list[str], tuple[str, ...]]] = []
        for name, encoder in self.encoders.items():
            if isinstance(encoder, SpidrEncoder) and encoder.recipe:
                named.append((f"encoders.{name}.train", encoder.train, speech))
                named.append((f"encoders.{name}.validation", [encoder.validation or ""], speech))
            if isinstance(encoder, SpinEncoder):
                named.append((f"encoders.{name}.train", encoder.train, speech))
        for name, quantizer in self.quantizers.items():
            if quantizer.kind == "kmeans" and quantizer.fit is not None:
                named.append((f"quantizers.{name}.fit", [quantizer.fit], speech))
        for name, slm in self.slms.items():
            named += [(f"slms.{name}.train", slm.train, speech), (f"slms.{name}.validation", [slm.validation], speech)]
        for metric, dataset in self.evaluation.zeroshot.items():
            named.append((f"evaluation.{metric}.set", [dataset], ZEROSHOT_LAYOUTS[metric]))
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
                    if system in systems:
                        raise ValueError(
                            f"encoders: found two ways to {system}, expected names that tell systems apart"
                        )
                    systems[system] = System(name=system, encoder=name, layer=layer, quantizer=quantizer)
        return systems

    @property
    def logged_encoders(self) -> list[str]:
        """The encoders whose training has a log: those trained here, and those made elsewhere that come with theirs."""
        return [
            name
            for name, encoder in self.encoders.items()
            if isinstance(encoder, SpidrEncoder)
            and (not encoder.untrained if encoder.path is None else Path(encoder.path, TRAINING_LOG).is_file())
        ]

    @property
    def language_systems(self) -> list[System]:
        """The systems that are known to get a language model; one of the `candidates` is another."""
        systems = self.all_systems
        if self.systems == "all":
            return list(systems.values())
        return [systems[name] for name in dict.fromkeys(self.systems) if name in systems]

    @property
    def candidates(self) -> dict[str, list[System]]:
        """Names of `systems` that leave the layer to be selected -> the systems they may come to mean, one a layer."""
        names = self._by_best_layer if self.systems != "all" else {}
        return {name: found for name, found in names.items() if name in self.systems and name not in self.all_systems}

    @property
    def _by_best_layer(self) -> dict[str, list[System]]:
        """Every name with ``best`` for its layer, and its systems."""
        names: dict[str, list[System]] = {}
        for system in self.all_systems.values():
            if system.quantizer:
                names.setdefault(f"{system.encoder}-best-{system.quantizer}", []).append(system)
        return names

    @property
    def has_language_models(self) -> bool:
        """Whether any system gets a language model."""
        return bool(self.language_systems or self.candidates)


def _expect(key: str, found: Sequence[object], known: Any, what: str) -> None:
    for name in found:
        if name not in known:
            raise ValueError(f"{key}: found {name!r}, expected one of {what}: {', '.join(map(str, known)) or 'none'}")


def _may_be_fine_tuned(encoder: Encoder) -> bool:
    """Whether Spin can take an encoder for its base, as far as its entry tells."""
    if isinstance(encoder, HubEncoder):
        released = find(encoder.source)
        return released is None or released.model_type in HUB_TYPES
    return encoder.family in ("spidr", "converted")
