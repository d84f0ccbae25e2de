"""A score: one number of one system, with its interval, how it was computed, and its items beside it."""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import ConfigDict, model_validator

from artifacts.errors import InputError
from artifacts.files import read_json, write_csv, write_json
from artifacts.settings import Settings, load_settings, parse_settings

FIELDS = (
    *("source", "model", "encoder", "layer", "quantizer", "num_units", "slm", "corpus", "hours", "seed"),
    *("metric", "dataset", "condition", "value", "low", "high", "n"),
)
IDENTITY = FIELDS[: FIELDS.index("value")]

NAME = re.compile(r"[A-Za-z0-9_]+(-[A-Za-z0-9_]+)*")


class Subject(Settings):
    """What is being scored; a field that does not apply stays empty."""

    model: str
    """Name of the model as tables print it, e.g. ``SpidR``; by default the encoder's."""
    encoder: str
    """Name of the encoder, as in the paths: ``spidr``."""
    layer: int | None = None
    """Layer the features come from, counted from 1."""
    quantizer: str | None = None
    """Name of the quantizer, e.g. ``kmeans256`` or ``codebook``."""
    num_units: int | None = None
    """Vocabulary size V."""
    slm: str | None = None
    """Name of the language model."""
    corpus: str | None = None
    """Corpus the language model was trained on."""
    hours: float | None = None
    """Hours of speech in that corpus."""
    seed: int | None = None
    """Seed of the language model's training."""

    @model_validator(mode="before")
    @classmethod
    def _has_a_name(cls, given: Any) -> Any:
        return {"model": given["encoder"], **given} if isinstance(given, dict) and "encoder" in given else given


class Score(Subject):
    """The content of a score's JSON file."""

    model_config = ConfigDict(allow_inf_nan=False)

    source: str
    """``ours``, or the publication the number is taken from."""
    metric: str
    dataset: str
    condition: str | None
    value: float
    """Fractions stay fractions; percent appears only where a table or a figure is drawn."""
    low: float | None
    high: float | None
    """95% confidence interval."""
    n: int
    """Number of items the value is over; ``conditions`` says what an item is."""
    conditions: dict[str, Any]
    """How the value was computed."""
    provenance: dict[str, Any]


def with_training(subject: Subject, summary: Path) -> Subject:
    """The subject with the language model's name, corpus, hours and seed from its training's summary.json.

    What the subject says itself stands.

    Raises:
        InputError: The file is absent, or not the summary of a training.
    """
    found = read_json(summary)
    if not isinstance(found, dict):
        raise InputError(f"{summary}: found no JSON object, expected the summary of a training")
    keys = ("slm", "corpus", "hours", "seed")
    if missing := [key for key in keys if key not in found]:
        raise InputError(f"{summary}: {', '.join(missing)}: missing, expected the summary of a training")
    trained = {key: found[key] for key in keys}
    return parse_settings(Subject, trained | subject.model_dump(exclude_none=True), str(summary))


def add_score_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments of every metric: ``--dataset``, ``--subject``, ``--seed`` and ``--output``."""
    parser.add_argument("--dataset", required=True, help="name of the corpus or evaluation set, as scores print it")
    parser.add_argument("--subject", required=True, help="what is scored: a JSON object (model, encoder, layer, ...)")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default 0)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the scores")


def parse_subject(text: str) -> Subject:
    """The subject given on the command line."""
    return load_settings(Subject, text, "--subject")


def add_names_argument(parser: argparse.ArgumentParser) -> None:
    """Argument ``--names``, so that another name of a model makes anew what shows it, and no score."""
    parser.add_argument(
        "--names", nargs="*", default=[], metavar="ENCODER=NAME", help="what tables and figures call the encoders"
    )


def parse_names(texts: Iterable[str]) -> dict[str, str]:
    """The names given on the command line, by encoder.

    Raises:
        InputError: One is not of the form ``encoder=name``.
    """
    names = {}
    for text in texts:
        encoder, _, name = text.partition("=")
        if not (encoder and name):
            raise InputError(f"--names: found {text!r}, expected encoder=name")
        names[encoder] = name
    return names


def score_stem(metric: str, dataset: str, condition: str | None = None) -> str:
    """File name of a score without extension: ``abx_units.dev-clean.within``.

    Raises:
        InputError: A part is not made of letters, digits, ``_`` and single ``-``.
    """
    parts = [part for part in (metric, dataset, condition) if part is not None]
    for part in parts:
        if not NAME.fullmatch(part):
            raise InputError(f"score name: found {part!r}, expected letters, digits, _ and single -")
    return ".".join(parts)


def write_score(
    folder: Path,
    subject: Subject,
    *,
    metric: str,
    dataset: str,
    value: float,
    n: int,
    conditions: Mapping[str, Any],
    items: tuple[Sequence[str], Iterable[Mapping[str, Any]]],
    provenance: Mapping[str, Any],
    low: float | None = None,
    high: float | None = None,
    condition: str | None = None,
) -> Path:
    """Write `<metric>.<dataset>[.<condition>].json` and the per-item table of the same stem.

    The table comes first, so that a score that can be read has its items.

    Args:
        value: The score, a fraction where it is one.
        n: Number of items the value is over.
        conditions: How the value was computed: everything that would change the number.
        items: Columns and rows of the per-item table.
        low: Lower end of the 95% confidence interval.
        high: Upper end of it.

    Returns:
        The path of the JSON file.
    """
    path = folder / f"{score_stem(metric, dataset, condition)}.json"
    record = {
        **{"source": "ours", **subject.model_dump(), "metric": metric, "dataset": dataset, "condition": condition},
        **{"value": value, "low": low, "high": high, "n": n},
        **{"conditions": dict(conditions), "provenance": dict(provenance)},
    }
    write_csv(path.with_suffix(".csv"), *items)
    write_json(path, record)
    return path


def read_scores(paths: Iterable[Path], names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """Read score files, in the order given: the fields of `FIELDS`, ``conditions`` and ``provenance``.

    Args:
        names: What models are called, by encoder; others keep the names that their scores have.

    Raises:
        InputError: A file is absent, malformed, or the same score as another one.
    """
    scores = []
    seen: dict[tuple[Any, ...], Path] = {}
    for path in paths:
        score = parse_settings(Score, read_json(path), str(path)).model_dump()
        score["model"] = (names or {}).get(score["encoder"], score["model"])
        identity = tuple(score[field] for field in IDENTITY)
        if identity in seen:
            raise InputError(f"{path}: the same score as {seen[identity]}, expected one of each")
        seen[identity] = path
        scores.append({field: score[field] for field in (*FIELDS, "conditions", "provenance")})
    return scores
