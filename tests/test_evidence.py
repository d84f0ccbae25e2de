"""What is shown and what is not: against chance, against another system, with and without items to pair."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from eval.claims import choose, contest, texts, verdict_of, which
from eval.evidence import Finding, against, against_chance, score_files
from eval.results import Estimate, Result
from eval.scores import Subject, write_score


def result(metric: str, value: float, low: float | None, high: float | None, **fields: Any) -> Result:
    defaults = {"source": "ours", "model": "SpidR", "encoder": "spidr", "layer": 1, "dataset": "dev"}
    return Result(**(defaults | {"metric": metric, "value": value, "low": low, "high": high} | fields))


@pytest.mark.parametrize(
    ("metric", "condition", "low", "high", "outcome"),
    [
        ("abx_units", "within", 0.30, 0.49, "better"),
        ("abx_units", "within", 0.30, 0.50, "open"),
        ("abx_units", "within", 0.51, 0.60, "worse"),
        ("tsc", None, 0.51, 0.60, "better"),
        ("tsc", None, 0.49, 0.60, "open"),
        ("tsc", None, 0.30, 0.49, "worse"),
        ("tsc", None, None, None, "open"),
    ],
)
def test_a_score_is_shown_where_its_interval_leaves_out_chance(
    metric: str, condition: str | None, low: float | None, high: float | None, outcome: str
) -> None:
    [finding] = against_chance([result(metric, 0.45, low, high, condition=condition)], [metric])
    assert finding.outcome == outcome


def test_a_metric_without_chance_is_not_held_against_it() -> None:
    assert against_chance([result("pnmi", 0.5, 0.4, 0.6)], ["pnmi"]) == []


@pytest.mark.parametrize(
    ("low", "high", "outcome"),
    [(0.20, 0.29, "better"), (0.20, 0.31, "open"), (0.61, 0.70, "worse"), (None, None, "open")],
)
def test_without_items_two_intervals_must_not_touch(low: float | None, high: float | None, outcome: str) -> None:
    a = [result("abx_units", 0.25, low, high, condition="within")]
    b = [result("abx_units", 0.45, 0.30, 0.60, condition="within")]
    [finding] = against(a, b, ["abx_units"], {})
    assert finding.outcome == outcome
    assert finding.difference == pytest.approx(-0.20)
    assert finding.low is None


def write_pairs(folder: Path, encoder: str, scores: Sequence[float], **conditions: Any) -> Result:
    """A tSC score of an encoder's language model, with its table of items; its own interval says nothing."""
    subject = Subject(model=encoder, encoder=encoder, layer=1, quantizer="kmeans100", slm="opt", seed=0)
    value = sum(scores) / len(scores)
    write_score(
        folder / encoder,
        subject,
        metric="tsc",
        dataset="stories",
        value=value,
        low=0.0,
        high=1.0,
        n=len(scores),
        conditions=conditions,
        items=(("id", "score"), [{"id": i, "score": score} for i, score in enumerate(scores)]),
        provenance={},
    )
    fields = subject.model_dump() | {"hours": 1.0}  # as `read_results` may have changed them
    return Result(**fields, source="ours", metric="tsc", dataset="stories", value=value, low=0.0, high=1.0)


def test_items_show_what_two_intervals_do_not(tmp_path: Path) -> None:
    a = write_pairs(tmp_path, "a", [1, 1, 1, 0] * 50)
    b = write_pairs(tmp_path, "b", [1, 0, 1, 0] * 50)
    assert [f.outcome for f in against([a], [b], ["tsc"], {})] == ["open"]
    files = score_files(tmp_path)
    [better], [worse] = against([a], [b], ["tsc"], files), against([b], [a], ["tsc"], files)
    assert (better.outcome, worse.outcome) == ("better", "worse")
    assert better.difference == pytest.approx(0.25)
    assert better.low is not None
    assert better.high is not None
    assert 0.15 < better.low < 0.25 < better.high < 0.35


def test_scores_computed_in_different_ways_are_not_compared(tmp_path: Path) -> None:
    a = write_pairs(tmp_path, "a", [1, 0] * 20, normalization="tokens")
    b = write_pairs(tmp_path, "b", [0, 0] * 20, normalization="none")
    assert against([a], [b], ["tsc"], score_files(tmp_path)) == []


def finding(condition: str, low: float, high: float, metric: str = "abx_continuous") -> Finding:
    """A difference from a score of 51%."""
    difference = (low + high) / 2
    value = Estimate(0.51 + difference, 0.0, 1.0)
    return Finding(metric, "", condition, value, Estimate(0.51, 0.0, 1.0), difference, low, high)


ACROSS = finding("across", -0.40, -0.34)
WITHIN = finding("within", -0.10, 0.02)
WORDS = finding("strict", -0.2, -0.1, "map_words")


def test_figures_are_said_with_the_way_they_differ() -> None:
    assert texts([ACROSS, WITHIN]) == (
        "ABX error across speakers 14.0% against 51.0%, 37.0 points [34.0,\N{NO-BREAK SPACE}40.0] lower; "
        "within speaker 47.0% against 51.0%, 4.0 points [−2.0,\N{NO-BREAK SPACE}10.0] lower"
    )
    chance = against_chance([result("tsc", 0.6, 0.55, 0.65)], ["tsc"])
    assert texts(chance) == "tSC 60.0% [55.0,\N{NO-BREAK SPACE}65.0]"


def test_several_datasets_are_named_and_one_is_not() -> None:
    scores = [result("abx_units", 0.2, 0.1, 0.3, condition="within", dataset=dataset) for dataset in ("clean", "other")]
    two = texts(against_chance(scores, ["abx_units"]))
    assert two.startswith("unit ABX error within speaker (clean) 20.0%")
    assert ", within speaker (other) 20.0%" in two
    assert "clean" not in texts(against_chance(scores[:1], ["abx_units"]))


def test_a_claim_is_what_its_findings_amount_to() -> None:
    assert verdict_of(["better", "better"]) == "shown"
    assert verdict_of(["better", "worse"]) == "in part"
    assert verdict_of(["open", "worse"]) == "opposite"
    assert which([ACROSS, WITHIN, WORDS]) == (
        "shown for ABX error across speakers, not shown for ABX error within speaker, the opposite for MAP of words"
    )
    headlines: Any = {"shown": "Yes.", "in part": "Partly: {which}.", "not shown": "Not shown.", "opposite": "No."}
    assert choose([ACROSS], headlines, "X").headline == "Yes."
    assert choose([WITHIN], headlines, "X").headline == "Not shown."
    assert choose([WORDS], headlines, "X").headline == "No."
    partly = choose([WITHIN, ACROSS], headlines, "X", "So it is.")
    assert partly.badge == "in part"
    assert partly.headline == "Partly: shown for ABX error across speakers, not shown for ABX error within speaker."
    assert partly.figures == f"X: {texts([WITHIN, ACROSS])}. So it is."
    assert partly.gist == f"X: {texts([ACROSS])}."


@pytest.mark.parametrize(
    ("findings", "badge", "headline"),
    [
        ([ACROSS], "better", "A is better than B."),
        ([WORDS], "worse", "A is worse than B."),
        ([WITHIN], "not shown", "A is not shown to be better or worse than B."),
        (
            [ACROSS, WITHIN, WORDS],
            "mixed",
            "A is better than B in ABX error across speakers, and worse in MAP of words; "
            "no difference is shown in ABX error within speaker.",
        ),
        (
            [WITHIN, WORDS],
            "mixed",
            "A is worse than B in MAP of words; no difference is shown in ABX error within speaker.",
        ),
    ],
)
def test_a_contest_says_who_is_better_in_what(findings: list[Finding], badge: str, headline: str) -> None:
    claim = contest("A is", "B", findings, "A against B")
    assert (claim.badge, claim.headline) == (badge, headline)
