"""Two systems on everything both were scored on: a page with a verdict, every difference, and how to read them.

python -m eval.compare --a spidr-L06-kmeans256 --b hubert-L11-kmeans256
    --scores-a results/paper/scores/spidr/L06/*.json ... --scores-b ... --output compare.md
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from artifacts.errors import run
from artifacts.files import atomic_file
from eval.metrics import Metric, metric
from eval.paired import SIGNIFICANCE, Comparison, better, compare, holm, out_of_reach
from eval.results import training_label, unit_label
from eval.scores import add_names_argument, parse_names, read_scores
from eval.wording import count_text, listed


def verdict(
    a: str, b: str, winners: Mapping[str, str | None], too_few: Mapping[str, Sequence[str]] | None = None
) -> str:
    """One sentence that claims what the tests show and no more.

    Args:
        winners: The better system by label of each metric that was tested, None where no difference was shown.
        too_few: Labels whose tests could have shown none, by what they are over.
    """
    if not winners:
        return f"Nothing could be tested: {a} and {b} share no metric over the same items."
    won = {name: [label for label, winner in winners.items() if winner == name] for name in (a, b)}
    parts = [f"**{name}** is better on {listed(labels)}" for name, labels in won.items() if labels]
    hidden = too_few or {}
    beyond = {label for labels in hidden.values() for label in labels}
    if undecided := [label for label, winner in winners.items() if winner is None and label not in beyond]:
        parts.append(f"no difference is shown on {listed(undecided)}")
    parts += [f"over {few} no difference can be shown on {listed(labels)}" for few, labels in hidden.items()]
    sentence = "; ".join(parts)
    return sentence[0].upper() + sentence[1:] + "."


def describe(paths: Sequence[Path], names: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a system is and what its language models learnt from, as its scores tell: rows of the page's first table.

    Args:
        paths: Score files of the system.
        names: What models are called, by encoder.
    """
    scores = read_scores(paths, names)
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
interval is a bootstrap over the items that both were scored on, p that of a two-sided sign-flip permutation test over
the same; what n counts (speakers, words, pairs of phones) is drawn and flipped with all its items. One is called better
where p, adjusted for the {{tests}} of this page (Holm), is below {SIGNIFICANCE}; the intervals are not adjusted. Where
no difference is shown there may be one: over n speakers p is 2/2ⁿ at least, and more when adjusted.
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
    too_few: dict[str, list[str]] = {}
    for c, least in out_of_reach(comparisons).items():
        too_few.setdefault(f"{c.drawn}, where p, adjusted, is {least:.2g} at least,", []).append(c.label)
    sentence = verdict(a, b, {c.label: winner for c, winner in winners.items()}, too_few) + _caution(winners)
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
        NOTES.format(a=a, b=b, tests=count_text(sum(c.p_value is not None for c in comparisons), "test")),
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
        comparison.drawn,
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
    add_names_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="Markdown page")
    given = parser.parse_args()
    names = parse_names(given.names)
    about = describe(given.scores_a, names), describe(given.scores_b, names)
    page = to_markdown(given.a, given.b, compare(given.scores_a, given.scores_b), about)
    with atomic_file(given.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
