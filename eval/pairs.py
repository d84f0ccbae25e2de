"""Minimal pairs: which of two stimuli a language model finds more likely (sWUGGY, sBLIMP, tSC).

An item of a set has an id and two stimuli, a correct and an incorrect one, each spoken by one or more voices.
The models give one log-likelihood per file; everything else is computed here from those.
"""

import argparse
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, Literal, get_args

from artifacts.errors import InputError
from artifacts.files import read_csv
from artifacts.provenance import provenance
from eval.scores import Subject, add_score_arguments, parse_subject, with_training, write_score
from eval.statistics import NUM_RESAMPLES, bootstrap_interval

Normalization = Literal["tokens", "none"]

NAMED = 3  # how many of many a message names


@dataclass(frozen=True, slots=True)
class Pair:
    """The two stimuli of one item in one voice, and 1, 0.5 or 0 for the more likely one."""

    correct: dict[str, str]
    incorrect: dict[str, str]
    score: float


@dataclass(frozen=True, slots=True)
class Item:
    """One item: its rows in the first voice, and its score averaged over voices."""

    correct: dict[str, str]
    incorrect: dict[str, str]
    num_voices: int
    score: float


def read_likelihoods(path: Path, normalization: Normalization) -> dict[str, float]:
    """Log-likelihood of each file, in nats: a token where normalised by ``tokens``, the sum for ``none``.

    Raises:
        InputError: A duplicate file, or a value that is not a finite number, with its line.
    """
    likelihoods: dict[str, float] = {}
    for line, row in read_csv(path, ("fileid", "log_likelihood", "num_tokens")):
        fileid = row["fileid"]
        if fileid in likelihoods:
            raise InputError(f"{path}, line {line}: {fileid} occurs twice, expected one log-likelihood a file")
        num_tokens = number(path, line, row, "num_tokens")
        if num_tokens < 1 or not num_tokens.is_integer():
            raise InputError(f"{path}, line {line}: num_tokens of {fileid} is {num_tokens:g}, expected 1 or more")
        log_likelihood = number(path, line, row, "log_likelihood")
        likelihoods[fileid] = log_likelihood / num_tokens if normalization == "tokens" else log_likelihood
    return likelihoods


def number(path: Path, line: int, row: dict[str, str], column: str) -> float:
    """The finite number in `column` of a row."""
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{path}, line {line}: {column} of {row['fileid']} is {row[column]!r}, expected a finite number"
        )
    return value


def read_pairs(
    items: Path, likelihoods: Path, *, columns: Sequence[str], key: Sequence[str], normalization: Normalization
) -> list[Pair]:
    """Join likelihoods with the evaluation set by file, and pair correct with incorrect by `key`.

    Args:
        items: items.csv of the set: ``fileid``, ``correct`` (1 or 0) and `columns`.
        likelihoods: Log-likelihoods: ``fileid,log_likelihood,num_tokens``.
        columns: Columns the set must have beside those.
        key: Columns that the two stimuli of a pair share, and no other stimulus.

    Returns:
        Pairs in the order in which their first stimulus stands in `items`.

    Raises:
        InputError: A file without a likelihood or a likelihood without a file, a stimulus without its twin.
    """
    scores = read_likelihoods(likelihoods, normalization)
    twins: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    seen: set[str] = set()
    for line, row in read_csv(items, ("fileid", "correct", *columns)):
        if row["fileid"] in seen:
            raise InputError(f"{items}, line {line}: {row['fileid']} occurs twice, expected each file once")
        seen.add(row["fileid"])
        if row["correct"] not in ("0", "1"):
            raise InputError(f"{items}, line {line}: correct of {row['fileid']} is {row['correct']!r}, expected 0 or 1")
        twin = twins.setdefault(tuple(row[column] for column in key), {})
        if row["correct"] in twin:
            other = twin[row["correct"]]["fileid"]
            raise InputError(
                f"{items}, line {line}: {row['fileid']} and {other} have the same {', '.join(key)} and correct"
            )
        twin[row["correct"]] = row
    _require_same_files(items, seen, likelihoods, set(scores))
    alone = [row["fileid"] for twin in twins.values() if len(twin) < 2 for row in twin.values()]
    if alone:
        raise InputError(f"{items}: {_named(alone)} without a twin of the same {', '.join(key)}")
    if not twins:
        raise InputError(f"{items}: no rows, expected pairs")
    return [_pair(twin["1"], twin["0"], scores) for twin in twins.values()]


def _pair(correct: dict[str, str], incorrect: dict[str, str], scores: dict[str, float]) -> Pair:
    difference = scores[correct["fileid"]] - scores[incorrect["fileid"]]
    return Pair(correct, incorrect, 0.5 if difference == 0 else float(difference > 0))


def _require_same_files(items: Path, expected: set[str], likelihoods: Path, found: set[str]) -> None:
    if missing := sorted(expected - found):
        raise InputError(f"{likelihoods}: no log-likelihood for {_named(missing)} of {items}")
    if extra := sorted(found - expected):
        raise InputError(f"{likelihoods}: log-likelihood for {_named(extra)} not in {items}")


def _named(names: Sequence[str]) -> str:
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} file(s) ({', '.join(names[:NAMED])}{more})"


def mean_over_voices(pairs: Iterable[Pair], key: Sequence[str]) -> list[Item]:
    """Average the pairs that share `key`, i.e. the voices of an item, in order of first appearance."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(tuple(pair.correct[column] for column in key), []).append(pair)
    return [
        Item(group[0].correct, group[0].incorrect, len(group), fmean(pair.score for pair in group))
        for group in groups.values()
    ]


def describe(scores: Sequence[float]) -> dict[str, Any]:
    """Number, mean and sample standard deviation of a group of items; None where there are too few."""
    return {
        "n": len(scores),
        "mean": fmean(scores) if scores else None,
        "std": stdev(scores) if len(scores) > 1 else None,
    }


@dataclass(frozen=True, slots=True)
class PairArguments:
    """What every one of the three entry points is given."""

    items: Path
    likelihoods: Path
    normalization: Normalization
    dataset: str
    subject: Subject
    seed: int
    output: Path


def parse_arguments(description: str) -> PairArguments:
    """Parse the command line of an entry point that scores pairs."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--likelihoods", type=Path, required=True, help="CSV: fileid,log_likelihood,num_tokens")
    parser.add_argument("--items", type=Path, required=True, help="items.csv of the evaluation set")
    parser.add_argument(
        "--training", type=Path, help="summary.json of the language model: its name, corpus, hours, seed"
    )
    parser.add_argument(
        "--normalization",
        choices=get_args(Normalization),
        default="tokens",
        help="divide log-likelihoods by the number of predicted tokens, or not (default tokens)",
    )
    add_score_arguments(parser)
    given = parser.parse_args()
    subject = parse_subject(given.subject)
    if given.training is not None:
        subject = with_training(subject, given.training)
    return PairArguments(
        given.items, given.likelihoods, given.normalization, given.dataset, subject, given.seed, given.output
    )


def write_pair_score(
    given: PairArguments,
    metric: str,
    items: Sequence[Item],
    columns: Mapping[str, Callable[[Item], Any]],
    breakdown: Mapping[str, Any],
) -> None:
    """Write the mean over items, its bootstrap interval over items, and the table of items.

    Args:
        columns: Columns of the table before ``num_voices`` and ``score``, and what each shows of an item.
        breakdown: Means of groups of items, stored with the conditions.
    """
    scores = [item.score for item in items]
    low, high = bootstrap_interval(scores, seed=given.seed)
    settings = {"normalization": given.normalization, "dataset": given.dataset}
    rows = (
        {name: show(item) for name, show in columns.items()} | {"num_voices": item.num_voices, "score": item.score}
        for item in items
    )
    write_score(
        given.output,
        given.subject,
        metric=metric,
        dataset=given.dataset,
        value=fmean(scores),
        low=low,
        high=high,
        n=len(items),
        conditions={
            "normalization": given.normalization,
            "ties": 0.5,
            "item": "mean over its voices",
            "interval": f"percentile bootstrap over items, {NUM_RESAMPLES} resamples",
            **breakdown,
        },
        items=((*columns, "num_voices", "score"), rows),
        provenance=provenance(settings, {"likelihoods": given.likelihoods, "items": given.items}, given.seed),
    )
