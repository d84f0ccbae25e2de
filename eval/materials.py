"""What an experiment was made of: its speech, its encoders and its language models, from the files they left."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_json_object, read_jsonl, require_keys
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import read_manifest
from eval.results import TOPLINE, TOPLINES

TRAINED_HERE = ("spidr", "dinosr")
"""Families that learn from speech, and leave the summary of their training beside their weights."""


@dataclass(frozen=True, slots=True)
class Speech:
    """A corpus: how much of it there is and who speaks."""

    name: str
    utterances: int
    duration_s: float
    speakers: frozenset[str]
    uses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder and how it came to be.

    Attributes:
        learned: Whether training made it what it is.
        untrained: Whether it is a network as it was before its first step.
        model: Settings of its network, where it was built here: equal for a network and itself before training.
        steps: Updates of its training; None where it was not trained here, as are the next three.
        heard_s: Seconds of audio in all its batches.
        seconds: Wall-clock seconds of its training.
    """

    name: str
    family: str
    learned: bool = False
    untrained: bool = False
    model: str | None = None
    steps: int | None = None
    heard_s: float | None = None
    seconds: float | None = None
    device: str | None = None

    @property
    def manner(self) -> str:
        """How it was made, in a few words."""
        if self.untrained:
            return "with random weights"
        if not self.learned:
            return {TOPLINE: "the annotation itself", "text": "what is said"}.get(self.family, "nothing learned")
        return "trained without labels" if self.steps is not None else "trained elsewhere"


@dataclass(frozen=True, slots=True)
class LanguageModel:
    """One training of a language model on the units of one system.

    Attributes:
        validation: Steps and loss, in nats a token, of every validation that its log has.
    """

    system: str
    slm: str
    corpus: str
    seed: int
    steps: int
    seconds: float
    device: str
    num_parameters: int
    validation: Sequence[tuple[int, float]] = ()


@dataclass(frozen=True, slots=True)
class Materials:
    """Everything that went into an experiment, in the order of its file."""

    speech: Sequence[Speech] = ()
    encoders: Sequence[Encoder] = ()
    language_models: Sequence[LanguageModel] = ()

    def named(self, corpus: str) -> Speech | None:
        """The corpus of that name."""
        return next((speech for speech in self.speech if speech.name == corpus), None)


def read_speech(manifest: Path, experiment: Mapping[str, Any]) -> Speech:
    """A corpus from its manifest, named by its folder.

    Args:
        experiment: The experiment file as it was read, which says what the corpus is for; may be empty.
    """
    utterances = read_manifest(manifest)
    name = manifest.parent.name
    return Speech(
        name=name,
        utterances=len(utterances),
        duration_s=sum(utterance.num_samples for utterance in utterances) / SAMPLE_RATE_HZ,
        speakers=frozenset(utterance.speaker for utterance in utterances),
        uses=tuple(corpus_uses(experiment).get(name, ())),
    )


def corpus_uses(experiment: Mapping[str, Any]) -> dict[str, list[str]]:
    """What each corpus of an experiment file is for."""
    uses: dict[str, dict[str, None]] = {}

    def use(corpora: Iterable[str], what: str) -> None:
        for corpus in corpora:
            uses.setdefault(corpus, {})[what] = None

    for encoder in experiment.get("encoders", {}).values():
        if encoder.get("recipe") and not encoder.get("untrained"):
            use(encoder.get("train", []), "trains encoders")
            use([encoder["validation"]] if "validation" in encoder else [], "validation")
    for quantizer in experiment.get("quantizers", {}).values():
        use([quantizer["fit"]] if "fit" in quantizer else [], "fits K-means")
    if experiment.get("systems"):
        for slm in experiment.get("slms", {}).values():
            use(slm.get("train", []), "trains language models")
            use([slm["validation"]] if "validation" in slm else [], "validation")
    names = {"abx": "ABX", "quality": "PNMI", "map": "MAP", "swuggy": "sWUGGY", "sblimp": "sBLIMP", "tsc": "tSC"}
    names |= {"ssc": "sSC", "prosaudit": "prosAudit", "salmon": "SALMon", "pairs": "pairs"}
    for metric, wanted in experiment.get("evaluation", {}).items():
        if wanted and metric in names:
            use(wanted.get("corpora") or [wanted["set"]], names[metric])
    return {corpus: list(those) for corpus, those in uses.items()}


def read_encoder(name: str, folder: Path) -> Encoder:
    """An encoder from its folder: config.json, and training/summary.json where it was trained there.

    Raises:
        InputError: A file is malformed, or lacks what the report shows.
    """
    path = folder / "config.json"
    config = read_json_object(path)
    require_keys(config, {"family": str}, path)
    family: str = config["family"]
    if family not in TRAINED_HERE:
        return Encoder(name, family, learned=family not in ("mfcc", *TOPLINES))
    network = json.dumps(config.get("model"), sort_keys=True)
    summary = folder / "training" / "summary.json"
    if not summary.exists():
        made = config.get("provenance")
        # A network written before its first step has seen no manifest.
        untrained = isinstance(made, dict) and made.get("inputs") == {}
        return Encoder(name, family, learned=not untrained, untrained=untrained, model=network)
    training = read_json_object(summary)
    require_keys(training, {"steps": int, "hours": float, "seconds": float, "device": str}, summary)
    return Encoder(
        name,
        family,
        learned=True,
        model=network,
        steps=training["steps"],
        heard_s=3600 * training["hours"],
        seconds=training["seconds"],
        device=training["device"],
    )


def read_language_model(summary: Path) -> LanguageModel:
    """A language model from ``slm/<system>/<slm>/seed<seed>/summary.json``.

    Raises:
        InputError: The file is malformed, or lacks what the report shows.
    """
    if len(summary.parts) < 4:
        raise InputError(f"{summary}: found no system in its path, expected slm/<system>/<slm>/seed<seed>/summary.json")
    found = read_json_object(summary)
    kinds = {"slm": str, "corpus": str, "seed": int, "steps": int, "seconds": float, "device": str}
    require_keys(found, {**kinds, "num_parameters": int}, summary)
    numbers = {key: found[key] for key in (*kinds, "num_parameters")}
    log = summary.with_name("log.jsonl")
    lines = [line for _, line in read_jsonl(log, growing=True)] if log.exists() else []
    validation = tuple((line["step"], line["loss"]) for line in lines if line.get("split") == "validation")
    return LanguageModel(system=summary.parts[-4], **numbers, validation=validation)
