"""The experiment: what exists and what is wanted, as one typed model.

An experiment file is YAML in the shape of `Experiment`. Keys, types, names and layer numbers are
checked when the workflow is read (`workflow.reading`); paths are left to the rules that read them, so
that plans and tables need no corpus.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from artifacts.device import DeviceName, Precision
from artifacts.settings import Settings
from corpora.settings import SPEECH_LAYOUTS, TEXT_TIERS, Corpus, has_texts
from slm.settings import Slm
from units.registry import find
from units.settings import (
    ConvertedEncoder,
    Encoder,
    HubEncoder,
    Quantizer,
    SpidrEncoder,
    SpinEncoder,
    TextEncoder,
    Topline,
    layers_by_quantizer,
)
from units.spin.settings import HUB_TYPES
from workflow.drawn import FIGURES, TRAINING_LOG, check_figures
from workflow.evaluation import (
    UNWRITTEN,
    ZEROSHOT_LAYOUTS,
    ZEROSPEECH_TASKS,
    Abx,
    Evaluation,
    Measured,
    Name,
    Zeroshot,
)
from workflow.tabled import TABLES, check_tables


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
    """The paper's tables, made from this experiment's scores; 4 and 5 from its encoders' trainings. Beside them stand
    ``units`` and ``zeroshot``, where metrics are measured that the paper does not have."""
    figures: list[int] = []
    """The paper's figures, likewise; 2 from the logs of the encoders' trainings, 4 from the time and the devices they
    took, 5 and 6 from their recipes, 8 and 9 from features, 10 from counts of phones and units. 8, 9 and 10 show one
    layer: the best of the first encoder that is trained, or what ``select`` says of their ``encoder`` and ``layer``."""
    select: dict[str, dict[str, list[str | int | float]]] = {}
    """Which scores a table or a figure shows, by the fields of scores.csv: ``table_2: {num_units: [256]}``. A score is
    shown if each field that is named is empty or has one of the values."""
    others: list[str] = []
    """Scores from elsewhere, set beside these in tables and figures: CSV files with the fields of scores.csv or some
    of them (source, model, encoder, metric and value at least), or ``published``, the paper's numbers."""
    beside: str | None = None
    """A source among the others, e.g. ``published``: the paper's tables print its numbers, ours and the difference in
    columns side by side, not in blocks."""
    intervals: bool = True
    """Tables print 95% confidence intervals; their CSV has them always."""

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        if self.experiment == "published":
            raise ValueError(
                "experiment: found 'published', expected another name: that folder holds the paper's numbers"
            )
        for key, names, layouts in self._corpus_references():
            suited = [name for name, corpus in self.corpora.items() if corpus.layout in layouts]
            _expect(key, names, suited, f"the corpora of layout {' or '.join(layouts)}")
        for metric, task in ZEROSPEECH_TASKS.items():
            if dataset := self.evaluation.zeroshot.get(metric):
                suited = [name for name, corpus in self.corpora.items() if getattr(corpus, "task", None) == task]
                _expect(f"evaluation.{metric}.set", [dataset], suited, f"the sets of task {task}")
        for name, corpus in self.corpora.items():
            if (source := getattr(corpus, "source", None)) is not None:
                sources = [other for other, c in self.corpora.items() if c.layout == "synthetic"]
                _expect(f"corpora.{name}.source", [source], sources, "the synthetic corpora")
            if (texts := getattr(corpus, "texts", None)) in TEXT_TIERS and not getattr(corpus, "annotations", None):
                raise ValueError(f"corpora.{name}.texts: found {texts!r}, expected annotations to take them from")
        for name, encoder in self.encoders.items():
            if (name in ("phones", "text") or isinstance(encoder, Topline)) and name != encoder.family:
                raise ValueError(
                    f"encoders.{name}: found family {encoder.family}, expected phones to be of family phones, "
                    "and text of family text"
                )
            _expect(f"encoders.{name}.quantizers", list(encoder.quantizers), self.quantizers, "the quantizers")
            if isinstance(encoder, SpinEncoder):
                bases = [other for other, base in self.encoders.items() if _may_be_fine_tuned(base)]
                _expect(f"encoders.{name}.base", [encoder.base], bases, "the HuBERTs, WavLMs and SpidRs")
            may_have_codebook = isinstance(encoder, SpidrEncoder | ConvertedEncoder | SpinEncoder)
            for quantizer, layers in layers_by_quantizer(encoder).items():
                known = getattr(encoder, "layers", ())
                _expect(f"encoders.{name}.quantizers.{quantizer}", layers, known, "the encoder's layers")
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
        for key, names in self._text_references():
            written = [name for name, corpus in self.corpora.items() if has_texts(corpus)]
            _expect(key, names, written, "the corpora with texts")
        _expect("tables", self.tables, TABLES, "the paper's")
        _expect("figures", self.figures, FIGURES, "the paper's")
        for name, slm in self.slms.items():
            combinations = [*self.all_systems, *self._by_best_layer]
            _expect(f"slms.{name}.systems", slm.systems or [], combinations, "the encoders' combinations")
            unheard = [c for c in (*slm.train, slm.validation) if self.corpora[c].layout == "libriheavy"]
            of_speech = [s.name for s in self._may_get_models if s.encoder != "text" and name in self.slms_of(s)]
            if unheard and of_speech:
                raise ValueError(
                    f"slms.{name}.systems: found {of_speech[0]} among them, expected [text]: {unheard[0]} has no speech"
                )
            _expect(f"slms.{name}.follow", slm.follow, self.evaluation.zeroshot, "the zero-shot metrics of evaluation")
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
        lists += [(f"encoders.{name}.quantizers", list(encoder.quantizers)) for name, encoder in self.encoders.items()]
        for name, slm in self.slms.items():
            lists += [(f"slms.{name}.train", slm.train), (f"slms.{name}.seeds", slm.seeds)]
            lists += [(f"slms.{name}.systems", slm.systems or []), (f"slms.{name}.follow", slm.follow)]
        for metric, wanted in self.evaluation:
            if isinstance(wanted, Abx | Measured):
                lists.append((f"evaluation.{metric}.corpora", wanted.corpora))
        if abx := self.evaluation.abx:
            lists.append(("evaluation.abx.conditions", abx.conditions))
            lists += [("evaluation.abx.contexts", abx.contexts), ("evaluation.abx.segments", abx.segments)]
        if words := self.evaluation.map:
            lists.append(("evaluation.map.variants", words.variants))
        return lists

    def _results_have_scores(self) -> None:
        """Tables and figures want scores: better to hear it now than after the training."""
        evaluation = self.evaluation
        if self.has_language_models and not (self.slms and evaluation.zeroshot):
            metrics = ", ".join(ZEROSHOT_LAYOUTS)
            raise ValueError(f"systems: found systems for language models, expected slms and one of {metrics}")
        for system in self.language_systems:
            if not self.slms_of(system):
                raise ValueError(f"systems: found {system.name}, expected it among the systems of one of the slms")
        speech_encoders = [name for name, encoder in self.encoders.items() if not isinstance(encoder, TextEncoder)]
        if speech_encoders and not (evaluation.abx or evaluation.quality or evaluation.map):
            raise ValueError("evaluation: expected at least one of abx, quality, map")
        if self.all_systems.keys() - {"text"} and not (evaluation.abx or evaluation.quality):
            raise ValueError("evaluation: found units, expected abx or quality to measure them")
        check_tables(self)
        if self.candidates and "" not in (evaluation.abx.variants if evaluation.abx else []):
            raise ValueError(
                f"systems: found {next(iter(self.candidates))}, expected evaluation.abx of triphones within context: "
                "it selects the layer"
            )
        check_figures(self)

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
            read = (*speech, "libriheavy")
            named += [(f"slms.{name}.train", slm.train, read), (f"slms.{name}.validation", [slm.validation], read)]
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
            for name, slm in self.slms_of(self.all_systems["phones"]).items():
                named += [(f"slms.{name}.train (for the phone topline)", [*slm.train, slm.validation])]
            named += [
                (f"evaluation.{metric}.set (for the phone topline)", [wanted.set])
                for metric, wanted in self.evaluation
                if isinstance(wanted, Zeroshot)
            ]
        return named

    def _text_references(self) -> list[tuple[str, list[str]]]:
        """Every key that names corpora whose texts are read."""
        text = next((system for system in self.language_systems if system.encoder == "text"), None)
        if text is None:
            return []
        slms = self.slms_of(text).items()
        trained = [(f"slms.{name}.train (for the text topline)", [*slm.train, slm.validation]) for name, slm in slms]
        scored = self.zeroshot_of(text).items()
        return trained + [(f"evaluation.{metric}.set (for the text topline)", [dataset]) for metric, dataset in scored]

    @cached_property
    def all_systems(self) -> dict[str, System]:
        """Every combination the encoders list, by name."""
        systems = {}
        for name, encoder in self.encoders.items():
            if isinstance(encoder, Topline):
                systems[name] = System(name=name, encoder=name)
                continue
            layers_of = layers_by_quantizer(encoder)
            for layer in encoder.layers:
                for quantizer in [name for name, layers in layers_of.items() if layer in layers]:
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

    @cached_property
    def language_systems(self) -> list[System]:
        """The systems that are known to get a language model; one of the `candidates` is another."""
        return [self.all_systems[name] for name in self._named if name in self.all_systems]

    @cached_property
    def candidates(self) -> dict[str, list[System]]:
        """Names of `systems` that leave the layer to be selected -> the systems they may come to mean, one a layer."""
        names = self._named
        best = self._by_best_layer.items()
        return {name: found for name, found in best if name in names and name not in self.all_systems}

    @cached_property
    def _named(self) -> list[str]:
        """The experiment's systems, and those that a language model names for itself."""
        return list(dict.fromkeys(name for slm in [None, *self.slms.values()] for name in self._systems_of(slm)))

    def _systems_of(self, slm: Slm | None) -> list[str]:
        """Names of the systems that a language model is trained for; without one, the experiment's."""
        if slm is not None and slm.systems is not None:
            return slm.systems
        return list(self.all_systems) if self.systems == "all" else self.systems

    @cached_property
    def _by_best_layer(self) -> dict[str, list[System]]:
        """Every name with ``best`` for its layer, and its systems."""
        names: dict[str, list[System]] = {}
        for system in self.all_systems.values():
            if system.quantizer:
                names.setdefault(f"{system.encoder}-best-{system.quantizer}", []).append(system)
        return names

    @property
    def _may_get_models(self) -> list[System]:
        """Every system that gets a language model, or may come to."""
        return [*self.language_systems, *(system for found in self.candidates.values() for system in found)]

    def zeroshot_of(self, system: System) -> dict[str, str]:
        """The evaluation set of each zero-shot metric that a system's language models are scored by."""
        unwritten = UNWRITTEN if system.encoder == "text" else ()
        return {metric: dataset for metric, dataset in self.evaluation.zeroshot.items() if metric not in unwritten}

    def slms_of(self, system: System) -> dict[str, Slm]:
        """The language models that are trained for a system, should it get any."""
        meant = {system.name, *(name for name, found in self.candidates.items() if system in found)}
        return {name: slm for name, slm in self.slms.items() if meant.intersection(self._systems_of(slm))}

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
