"""Two systems on everything both were scored on: differences, their intervals, paired tests on the same items.

python -m eval.compare --a spidr-L06-kmeans256 --b hubert-L11-kmeans256
    --scores-a results/paper/scores/spidr/L06/*.json ... --scores-b ... --output compare.md
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_csv
from eval.metrics import METRICS, Metric, metric
from eval.results import training_label, unit_label
from eval.scores import read_scores
from eval.statistics import paired_difference
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
        n: Items the test is over.
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
    untested: str = ""

    @property
    def label(self) -> str:
        """The metric as printed, with what tells it from others of its name."""
        which = ", ".join(part for part in (self.condition, self.dataset, self.slm) if part)
        return f"{metric(self.metric).label} ({which})"


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
    items_a, items_b = _items(key[0], a), _items(key[0], b)
    if items_a.keys() != items_b.keys():
        return replace(compared, untested="not the same items")
    names = sorted(items_a)
    paired = paired_difference(
        [items_b[name][0] for name in names],
        [items_a[name][0] for name in names],
        weights=[(items_a[name][1] + items_b[name][1]) / 2 for name in names],
        clusters=[name[how.items.index(how.cluster)] for name in names] if how.cluster else None,
        seed=SEED,
    )
    if abs(paired.difference - difference) > AGREEMENT:
        return replace(compared, untested="the items are weighted differently")
    return replace(compared, low=paired.low, high=paired.high, p_value=paired.p_value, n=paired.n)


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


def better(comparison: Comparison, adjusted_p: float, a: str, b: str) -> str | None:
    """Which of `a` and `b` is shown to be better; None where neither is."""
    if comparison.difference is None or adjusted_p >= SIGNIFICANCE:
        return None
    higher_wins = metric(comparison.metric).better == "higher"
    return a if (comparison.difference > 0) == higher_wins else b


def verdict(a: str, b: str, winners: Mapping[str, str | None]) -> str:
    """One sentence that claims what the tests show and no more.

    Args:
        winners: The better system by label of each metric that was tested, None where no difference was shown.
    """
    if not winners:
        return f"Nothing could be tested: {a} and {b} share no metric over the same items."
    won = {name: [label for label, winner in winners.items() if winner == name] for name in (a, b)}
    parts = [f"**{name}** is better on {listed(labels)}" for name, labels in won.items() if labels]
    if undecided := [label for label, winner in winners.items() if winner is None]:
        parts.append(f"no difference is shown on {listed(undecided)}")
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def describe(paths: Sequence[Path]) -> dict[str, str]:
    """What a system is and what its language models learnt from, as its scores tell: rows of the page's first table.

    Args:
        paths: Score files of the system.
    """
    scores = read_scores(paths)
    of_units = [score for score in scores if score["num_units"] is not None]
    trainings: dict[str, list[int]] = {}
    for score in scores:
        if score["slm"] is not None:
            seeds = trainings.setdefault(training_label(score["slm"], score["corpus"], score["hours"]), [])
            seeds += [score["seed"]] if score["seed"] not in (None, *seeds) else []
    return {
        "model": _each(score["model"] for score in scores),
        "layer": _each(str(score["layer"]) for score in scores if score["layer"] is not None),
        "units": _each(unit_label(score["quantizer"], score["num_units"]) for score in of_units if score["quantizer"]),
        "number of units": _each(str(score["num_units"]) for score in of_units),
        "language model": _each(trainings),
        "training seeds": _each(", ".join(map(str, sorted(seeds))) for seeds in trainings.values()),
    }


def _each(texts: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(texts))


HEADINGS = ("metric", "{a}", "{b}", "difference", "95% interval", "n", "p", "p, adjusted", "better")
NOTES = f"""\
The difference is {{a}} minus {{b}}. ABX, MAP and accuracies are in percent, their differences in points. The
interval is a bootstrap over the items that both were scored on (over their speakers for ABX and for metrics of units);
p is that of a two-sided sign-flip permutation test over the same. One is called better where p, adjusted for the
{{tests}} tests of this page (Holm), is below {SIGNIFICANCE}; the intervals are not adjusted. Where no difference is
shown there may be one.
"""
SEEDS_NOTE = """\
Language models were trained with {seeds_a} seed(s) for {a} and {seeds_b} for {b}: the tests say what other items
would give, not what other trainings would. Where there are several, scores are means over them, with the standard
deviation after the ±.
"""


def judge(a: str, b: str, comparisons: Sequence[Comparison]) -> tuple[str, list[list[str]]]:
    """The verdict on two systems, and a row of text for every metric, as `HEADINGS` has its columns."""
    tested = {c: c.p_value for c in comparisons if c.p_value is not None}
    adjusted = dict(zip(tested, holm(list(tested.values())), strict=True))
    winners = {c: better(c, p, a, b) for c, p in adjusted.items()}
    sentence = verdict(a, b, {c.label: winner for c, winner in winners.items()}) + _caution(winners)
    return sentence, [_row(c, adjusted.get(c), winners.get(c)) for c in comparisons]


def to_markdown(
    a: str, b: str, comparisons: Sequence[Comparison], about: tuple[Mapping[str, str], Mapping[str, str]] = ({}, {})
) -> str:
    """The comparison as a page: the verdict, what is compared, a table of every metric, and how to read it.

    Args:
        about: What `describe` says of each.
    """
    sentence, rows = judge(a, b, comparisons)
    subjects = [[name, about[0].get(name, ""), about[1].get(name, "")] for name in {**about[0], **about[1]}]
    headings = [heading.format(a=a, b=b) for heading in HEADINGS]
    page = [
        f"# {a} against {b}\n",
        f"{sentence}\n",
        *_table([["", a, b], ["---"] * 3, *(row for row in subjects if any(row[1:]))] if subjects else []),
        *_table([headings, ["---", *["---:"] * (len(headings) - 2), "---"], *rows]),
        NOTES.format(a=a, b=b, tests=sum(c.p_value is not None for c in comparisons)),
    ]
    trained = [c for c in comparisons if c.slm]
    if trained:
        seeds = {"seeds_a": max(c.seeds[0] for c in trained), "seeds_b": max(c.seeds[1] for c in trained)}
        page.append(SEEDS_NOTE.format(a=a, b=b, **seeds))
    return "\n".join(page)


def _caution(winners: Mapping[Comparison, str | None]) -> str:
    """What the verdict does not know: how language models trained again would compare."""
    once = any(winner and c.slm and c.seeds == (1, 1) for c, winner in winners.items())
    return " Language models were trained once each; trained again, they may compare otherwise." if once else ""


def _table(rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(row)} |" for row in rows] + [""] * bool(rows)


def _row(comparison: Comparison, adjusted: float | None, winner: str | None) -> list[str]:
    how = metric(comparison.metric)
    interval = ""
    if comparison.low is not None and comparison.high is not None:
        interval = f"[{how.format(comparison.low, sign=True)}, {how.format(comparison.high, sign=True)}]"
    return [
        comparison.label,
        *(_value(how, *of_one) for of_one in zip((comparison.a, comparison.b), comparison.spreads, strict=True)),
        "" if comparison.difference is None else how.format(comparison.difference, sign=True),
        interval,
        "" if comparison.n is None else str(comparison.n),
        "" if comparison.p_value is None else f"{comparison.p_value:.2g}",
        "" if adjusted is None else f"{adjusted:.2g}",
        winner or comparison.untested or "no difference shown",
    ]


def _value(how: Metric, value: float | None, spread: float | None) -> str:
    if value is None:
        return ""
    return how.format(value) + ("" if spread is None else f" ± {how.format(spread)}")


def main() -> None:
    """Entry point: the scores of two systems in, one page out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--a", required=True, help="name of one system")
    parser.add_argument("--b", required=True, help="name of the other")
    parser.add_argument("--scores-a", type=Path, nargs="+", required=True, help="score files (JSON) of the one")
    parser.add_argument("--scores-b", type=Path, nargs="+", required=True, help="score files (JSON) of the other")
    parser.add_argument("--output", type=Path, required=True, help="Markdown page")
    given = parser.parse_args()
    about = describe(given.scores_a), describe(given.scores_b)
    page = to_markdown(given.a, given.b, compare(given.scores_a, given.scores_b), about)
    with atomic_file(given.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
