"""Paired comparisons of two systems: differences, their intervals and tests, on the items that both were scored on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_csv
from eval.metrics import METRICS, Resampled, metric
from eval.resampling import COLUMNS, clusters, drawn_text
from eval.scores import read_scores
from eval.statistics import least_p_value, paired_difference
from eval.wording import listed

SIGNIFICANCE = 0.05
SEED = 0
AGREEMENT = 1e-3  # how far the items' difference may be from the scores' before they are not the same measurement

COMPUTED_BY = ("distance", "context", "max_size_group", "max_x_across", "normalization", "variant")
"""Conditions of a score that must agree for a difference to mean anything."""
SCORED_BY = ("eos", "precision", "long")
"""What must agree of how its log-likelihoods were made, where that is known."""

type Key = tuple[str, str, str | None, str | None]
type Items = dict[tuple[str, ...], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Comparison:
    """One metric of both systems; differences are `a` minus `b`, and fractions.

    Attributes:
        seeds: Trainings of each that are averaged.
        spreads: Standard deviation of each over its trainings, where there are several.
        n: How many of what `resample` says the interval draws and the test flips.
        untested: Why there is no test; empty where there is one.
    """

    metric: str
    dataset: str
    condition: str | None
    slm: str | None
    a: float | None
    b: float | None
    seeds: tuple[int, int]
    spreads: tuple[float | None, float | None] = (None, None)
    difference: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    n: int | None = None
    resample: Resampled = "items"
    untested: str = ""

    @property
    def label(self) -> str:
        """The metric as printed, with what tells it from others of its name."""
        which = ", ".join(part for part in (self.condition, self.dataset, self.slm) if part)
        return f"{metric(self.metric).label} ({which})"

    @property
    def drawn(self) -> str:
        """What the test is over, counted: ``40 speakers``; empty where there is no test."""
        return "" if self.n is None else drawn_text(self.resample, self.n)


def compare(paths_a: Sequence[Path], paths_b: Sequence[Path]) -> list[Comparison]:
    """Compare two systems on every score that either has.

    Scores that differ only in the training seed are averaged, item by item, before the test.

    Args:
        paths_a: Score files of the one; the tables of items lie beside them.
        paths_b: Score files of the other.

    Raises:
        InputError: The two have no score in common.
    """
    scores_a, scores_b = _by_key(paths_a), _by_key(paths_b)
    if not scores_a.keys() & scores_b.keys():
        raise InputError(f"{paths_a[0]}, {paths_b[0]}, ...: found no score that both systems have, expected some")
    order = list(METRICS)
    keys = sorted(
        scores_a.keys() | scores_b.keys(),
        key=lambda key: (order.index(key[0]) if key[0] in order else len(order), str(key)),
    )
    return [_compare_one(key, scores_a.get(key, []), scores_b.get(key, [])) for key in keys]


def _by_key(paths: Sequence[Path]) -> dict[Key, list[dict[str, Any]]]:
    """Scores by what they measure: several where there are several training seeds."""
    scores: dict[Key, list[dict[str, Any]]] = {}
    for path, score in zip(paths, read_scores(paths), strict=True):
        key = score["metric"], score["dataset"], score["condition"], score["slm"]
        scores.setdefault(key, []).append(score | {"path": path})
    return scores


def _compare_one(key: Key, a: list[dict[str, Any]], b: list[dict[str, Any]]) -> Comparison:
    compared = Comparison(*key, a=_mean(a), b=_mean(b), seeds=(len(a), len(b)), spreads=(_spread(a), _spread(b)))
    if not a or not b:
        return replace(compared, untested="only one has it")
    if differing := _differing([score["conditions"] for score in a + b]):
        return replace(compared, untested=f"computed with another {', '.join(differing)}")
    difference = fmean(score["value"] for score in a) - fmean(score["value"] for score in b)
    compared = replace(compared, difference=difference)
    how = metric(key[0])
    if not how.items or how.better is None:
        return replace(compared, untested="describes, does not rank")
    if [score["path"] for score in a] == [score["path"] for score in b]:
        return replace(compared, untested="the same features")
    drawn = sorted({_resampled(score) for score in a + b})
    if len(drawn) > 1:
        return replace(compared, untested=f"intervals over {listed(drawn)}")
    items_a, items_b = _items(key[0], a), _items(key[0], b)
    if items_a.keys() != items_b.keys():
        return replace(compared, untested="not the same items")
    names = sorted(items_a)
    paired = paired_difference(
        [items_b[name][0] for name in names],
        [items_a[name][0] for name in names],
        weights=[(items_a[name][1] + items_b[name][1]) / 2 for name in names],
        clusters=clusters([dict(zip(how.items, name, strict=True)) for name in names], drawn[0]),
        seed=SEED,
    )
    if abs(paired.difference - difference) > AGREEMENT:
        return replace(compared, untested="the items are weighted differently")
    compared = replace(compared, low=paired.low, high=paired.high, p_value=paired.p_value)
    return replace(compared, n=paired.n, resample=drawn[0])


def _resampled(score: Mapping[str, Any]) -> Resampled:
    """What the interval of a score draws.

    Raises:
        InputError: The score says something that its items have no columns for.
    """
    how = metric(score["metric"])
    found = score["conditions"].get("resample", how.resample)
    known = [name for name, columns in COLUMNS.items() if set(columns) <= set(how.items)]
    for name in known:
        if name == found:
            return name
    raise InputError(f"{score['path']}: conditions: resample: found {found!r}, expected {listed(known, 'or')}")


def _differing(conditions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of conditions that must agree and do not."""
    made = [of_score["scoring"] for of_score in conditions if of_score.get("scoring")]
    of_scores = [name for name in COMPUTED_BY if len({str(of_score.get(name)) for of_score in conditions}) > 1]
    return of_scores + [name for name in SCORED_BY if len({str(how.get(name)) for how in made}) > 1]


def _mean(scores: list[dict[str, Any]]) -> float | None:
    return fmean(score["value"] for score in scores) if scores else None


def _spread(scores: list[dict[str, Any]]) -> float | None:
    return stdev(score["value"] for score in scores) if len(scores) > 1 else None


def _items(name: str, scores: list[dict[str, Any]]) -> Items:
    """Score and weight of each item, the mean over training seeds; only items that every seed has."""
    identity = metric(name).items
    seeds = [_read_items(score["path"].with_suffix(".csv"), identity) for score in scores]
    shared = [item for item in seeds[0] if all(item in seed for seed in seeds)]
    return {item: (fmean(seed[item][0] for seed in seeds), seeds[0][item][1]) for item in shared}


def _read_items(path: Path, identity: Sequence[str]) -> Items:
    items: Items = {}
    for line, row in read_csv(path, (*identity, "score")):
        item = tuple(row[column] for column in identity)
        if item in items:
            raise InputError(f"{path}, line {line}: {' '.join(item)} occurs twice, expected each item once")
        try:
            items[item] = float(row["score"]), float(row.get("weight", 1.0))
        except ValueError:
            found = f"score {row['score']!r}, weight {row.get('weight')!r}"
            raise InputError(f"{path}, line {line}: found {found}, expected numbers") from None
    return items


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that any false claim among them is as rare as one alone (Holm 1979)."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def out_of_reach(comparisons: Sequence[Comparison]) -> dict[Comparison, float]:
    """Tests that could show no difference, however large, and the least that p, adjusted, can be of each.

    It is that of a page on which every test gives its least p: adjusted ones do not fall where any other rises.
    """
    tested = {comparison: least_p_value(comparison.n) for comparison in comparisons if comparison.n is not None}
    least = zip(tested, holm(list(tested.values())), strict=True)
    return {comparison: p for comparison, p in least if p >= SIGNIFICANCE}


def better(comparison: Comparison, adjusted_p: float, a: str, b: str) -> str | None:
    """Which of `a` and `b` is shown to be better; None where neither is."""
    if comparison.difference is None or adjusted_p >= SIGNIFICANCE:
        return None
    higher_wins = metric(comparison.metric).better == "higher"
    return a if (comparison.difference > 0) == higher_wins else b
