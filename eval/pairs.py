"""Pairs of a correct and an incorrect stimulus: which of the two a language model finds more likely (section 4.1).

An item of a set has an id and two stimuli, a correct and an incorrect one, each spoken by one or more voices. The
models give one log-likelihood per file; everything else is computed here from those:

- a log-likelihood is divided by the number of predicted tokens, or not (`Normalization`);
- a pair scores 1 where the correct stimulus has the higher one, 0.5 where both are equal, else 0;
- an item is the mean over its voices, a score the unweighted mean over items.

As an entry point, this scores a set of one's own: any pairs, by the columns that group them.
"""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import read_csv, write_csv
from artifacts.provenance import provenance
from eval.likelihoods import (
    Normalization,
    add_normalization,
    named,
    read_likelihoods,
    read_scoring,
    require_same_files,
)
from eval.resampling import draw_interval
from eval.scores import Subject, add_score_arguments, parse_subject, score_stem, with_training, write_score

type Breakdown = Mapping[str, Mapping[str, Sequence[float]]]
"""Scores of the members of each group, by what groups them: ``{"type": {"agreement": [1.0, 0.5]}}``."""

BREAKDOWN_COLUMNS = ("by", "group", "n", "mean", "std")


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


FILES: dict[str, Callable[[Item], Any]] = {
    "correct": lambda item: item.correct["fileid"],
    "incorrect": lambda item: item.incorrect["fileid"],
}
"""Columns of the table of items of a set that has no text: the files in the first voice."""


def read_pairs(
    items: Path,
    likelihoods: Path,
    *,
    columns: Sequence[str],
    key: Sequence[str],
    normalization: Normalization,
    shared: bool = False,
) -> list[Pair]:
    """Join likelihoods with the evaluation set by file, and pair correct with incorrect by `key`.

    Args:
        items: items.csv of the set: ``fileid``, ``correct`` (1 or 0) and `columns`.
        likelihoods: Log-likelihoods: ``fileid,log_likelihood,num_tokens``.
        columns: Columns the set must have beside those.
        key: Columns that the two stimuli of a pair share, and no other stimulus.
        shared: Whether a file may be of several pairs.

    Returns:
        Pairs in the order in which their first stimulus stands in `items`.

    Raises:
        InputError: A file without a likelihood or a likelihood without a file, a stimulus without its twin.
    """
    scores = read_likelihoods(likelihoods, normalization)
    twins: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    seen: set[str] = set()
    for line, row in read_csv(items, ("fileid", "correct", *columns)):
        if row["fileid"] in seen and not shared:
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
    require_same_files(items, seen, likelihoods, set(scores))
    alone = [row["fileid"] for twin in twins.values() if len(twin) < 2 for row in twin.values()]
    if alone:
        raise InputError(f"{items}: {named(alone)} without a twin of the same {', '.join(key)}")
    if not twins:
        raise InputError(f"{items}: no rows, expected pairs")
    return [_pair(twin["1"], twin["0"], scores) for twin in twins.values()]


def _pair(correct: dict[str, str], incorrect: dict[str, str], scores: dict[str, float]) -> Pair:
    difference = scores[correct["fileid"]] - scores[incorrect["fileid"]]
    return Pair(correct, incorrect, 0.5 if difference == 0 else float(difference > 0))


def require_same_order(items: Path, key: Sequence[str]) -> None:
    """Check that the k-th correct stimulus and the k-th incorrect one are of one pair.

    So the ZeroSpeech tool pairs sentences (sBLIMP, prosAudit): by the order of rows. Both ways must agree.

    Args:
        key: Columns that the two stimuli of a pair share, and no other stimulus.

    Raises:
        InputError: They do not, with the first line that differs.
    """
    order: dict[str, list[tuple[str, ...]]] = {"1": [], "0": []}
    for line, row in read_csv(items, (*key, "correct")):
        own, other = order[row["correct"]], order["0" if row["correct"] == "1" else "1"]
        own.append(tuple(row[column] for column in key))
        if len(own) <= len(other) and own[-1] != other[len(own) - 1]:
            raise InputError(
                f"{items}, line {line}: {row['fileid']} stands beside {' '.join(other[len(own) - 1])} by order, "
                f"but is {' '.join(own[-1])} by {', '.join(key)}; expected both to agree"
            )


def mean_over_voices(pairs: Iterable[Pair], key: Sequence[str]) -> list[Item]:
    """Average the pairs that share `key`, i.e. the voices of an item, in order of first appearance."""
    groups: dict[tuple[str, ...], list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(tuple(pair.correct[column] for column in key), []).append(pair)
    return [
        Item(group[0].correct, group[0].incorrect, len(group), fmean(pair.score for pair in group))
        for group in groups.values()
    ]


def scores_by(members: Iterable[Pair | Item], column: str) -> dict[str, list[float]]:
    """Scores of pairs or items by a column of the correct stimulus; groups by length, then alphabet, so 9 before 10."""
    groups: dict[str, list[float]] = {}
    for member in members:
        groups.setdefault(member.correct[column], []).append(member.score)
    return {name: groups[name] for name in sorted(groups, key=lambda name: (len(name), name))}


def describe(scores: Sequence[float]) -> dict[str, Any]:
    """Number, mean and sample standard deviation of a group; None where there are too few."""
    return {
        "n": len(scores),
        "mean": fmean(scores) if scores else None,
        "std": stdev(scores) if len(scores) > 1 else None,
    }


@dataclass(frozen=True, slots=True)
class PairArguments:
    """What every entry point that scores pairs is given."""

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
    add_normalization(parser)
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
    breakdown: Breakdown,
    *,
    condition: str | None = None,
    weights: Sequence[float] | None = None,
    more: Mapping[str, Any] | None = None,
) -> None:
    """Write the mean over items, its bootstrap interval over items, the table of items and that of groups.

    The groups stand with the score's conditions and in ``<score>.breakdown.csv``: ``by, group, n, mean, std``.

    Args:
        columns: Columns of the table before ``num_voices`` and ``score``, and what each shows of an item.
        breakdown: Groups of items, or of pairs.
        condition: Which part of the set it is, where it has several.
        weights: Weight of each item; the same for all where left out.
        more: Further conditions.
    """
    scores = [item.score for item in items]
    groups = {by: {name: describe(of) for name, of in members.items()} for by, members in breakdown.items()}
    if groups:
        path = given.output / f"{score_stem(metric, given.dataset, condition)}.breakdown.csv"
        rows = ({"by": by, "group": name} | found for by, of in groups.items() for name, found in of.items())
        write_csv(path, BREAKDOWN_COLUMNS, rows)
    shown = dict(columns) | {"num_voices": lambda item: item.num_voices, "score": lambda item: item.score}
    table = [{name: show(item) for name, show in shown.items()} for item in items]
    if weights is not None:
        table = [row | {"weight": weight} for row, weight in zip(table, weights, strict=True)]
    low, high, interval = draw_interval(table, scores, "items", seed=given.seed, weights=weights)
    settings = {"normalization": given.normalization, "dataset": given.dataset}
    write_score(
        given.output,
        given.subject,
        metric=metric,
        dataset=given.dataset,
        condition=condition,
        value=fmean(scores, weights),
        low=low,
        high=high,
        n=len(items),
        conditions={
            "normalization": given.normalization,
            "scoring": read_scoring(given.likelihoods),
            "ties": 0.5,
            "item": "mean over its voices",
            **interval,
            **{f"by_{by}": of for by, of in groups.items()},
            **(more or {}),
        },
        items=(tuple(table[0]), table),
        provenance=provenance(settings, {"likelihoods": given.likelihoods, "items": given.items}, given.seed),
    )


def score_pairs(given: PairArguments) -> None:
    """Write ``pairs``, its means by every further column of the items and by voice, and its items.

    A group's mean is over its items; over its pairs where the voices of an item stand in different groups.

    Raises:
        InputError: The two stimuli of a pair stand in different groups.
    """
    header = next((row for _, row in read_csv(given.items, ("fileid", "id", "correct"))), {})
    by = [column for column in header if column not in ("fileid", "id", "correct")]
    key = ("id", "voice") if "voice" in header else ("id",)
    pairs = read_pairs(
        given.items, given.likelihoods, columns=key, key=key, normalization=given.normalization, shared=True
    )
    for pair in pairs:
        if differing := [column for column in by if pair.correct[column] != pair.incorrect[column]]:
            files = f"{pair.correct['fileid']} and {pair.incorrect['fileid']}"
            raise InputError(f"{given.items}: {files} differ in {differing[0]}, expected a pair to be of one group")
    items = mean_over_voices(pairs, ("id",))
    breakdown = {}
    for column in by:
        whole = len({(pair.correct["id"], pair.correct[column]) for pair in pairs}) == len(items)
        breakdown[column] = scores_by(items if whole else pairs, column)
    columns = {"id": lambda item: item.correct["id"], **FILES}
    write_pair_score(given, "pairs", items, columns, breakdown)


def main() -> None:
    """Entry point: log-likelihoods and items in, one score out."""
    score_pairs(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
