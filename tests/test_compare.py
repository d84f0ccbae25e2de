"""Comparisons: the same items, the right direction, and no claim that the data do not carry."""

from collections.abc import Sequence
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from eval.compare import describe, to_markdown, verdict
from eval.paired import Comparison, better, compare, holm, out_of_reach
from eval.scores import Subject, write_score

COLUMNS = {
    "tsc": ("id",),
    "pnmi": ("speaker",),
    "phone_purity": ("speaker",),
    "abx_units": ("phone_a", "phone_b", "speaker"),
    "map_words": ("fileid", "onset", "offset", "label"),
}


def write(folder: Path, metric: str, scores: Sequence[float], *, seed: int | None = 0, **more: Any) -> Path:
    """A score over items 0, 1, ... as the metric writes it; `named` has what they are called, where it matters."""
    slm = "opt" if metric in ("tsc", "sblimp", "swuggy_all") else None
    weights = more.pop("weights", [1.0] * len(scores))
    keys = COLUMNS[metric]
    named = more.pop("named", [dict.fromkeys(keys, f"item{i}") for i in range(len(scores))])
    rows = [
        name | {"score": score, "weight": weight} for name, score, weight in zip(named, scores, weights, strict=True)
    ]
    value = sum(s * w for s, w in zip(scores, weights, strict=True)) / sum(weights)
    subject = Subject(model="SpidR", encoder="spidr", slm=slm, seed=seed if slm else None)
    settings = {"dataset": "dev", "conditions": {}, "provenance": {}} | more
    return write_score(
        folder / f"seed{seed}",
        subject,
        metric=metric,
        value=value,
        n=len(scores),
        items=((*keys, "score", "weight"), rows),
        **settings,
    )


def test_the_difference_is_a_minus_b_with_its_interval_around_it(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "tsc", [1, 1, 1, 0] * 50)
    b = write(tmp_path / "b", "tsc", [1, 0, 1, 0] * 50)
    [found] = compare([a], [b])
    assert found.difference == pytest.approx(0.25)
    assert found.low is not None
    assert found.high is not None
    assert found.low < 0.25 < found.high
    assert found.p_value is not None
    assert found.p_value < 0.001
    assert found.n == 200


def test_items_are_joined_by_name_not_by_order(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "tsc", [1, 0, 1, 0, 0, 1])
    b = write(tmp_path / "b", "tsc", [1, 0, 1, 0, 0, 1])
    table = b.with_suffix(".csv")
    header, *rows = table.read_text().splitlines()
    table.write_text("\n".join([header, *reversed(rows)]) + "\n")
    [found] = compare([a], [b])
    assert (found.low, found.high) == (0.0, 0.0)
    assert found.p_value == 1.0


def test_seeds_are_averaged_item_by_item(tmp_path: Path) -> None:
    a = [write(tmp_path / "a", "tsc", scores, seed=k) for k, scores in enumerate(([1, 0, 1, 1], [0, 1, 1, 1]))]
    b = write(tmp_path / "b", "tsc", [0.5, 0.5, 1, 1])
    [found] = compare(a, [b])
    assert found.seeds == (2, 1)
    assert found.difference == 0
    assert (found.low, found.high) == (0.0, 0.0)


def test_other_items_are_not_tested(tmp_path: Path) -> None:
    [found] = compare([write(tmp_path / "a", "tsc", [1, 0, 1])], [write(tmp_path / "b", "tsc", [1, 0])])
    assert found.p_value is None
    assert found.untested == "not the same items"
    assert found.difference is not None


def test_no_difference_is_taken_across_ways_of_computing(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "tsc", [1, 0], conditions={"normalization": "tokens"})
    b = write(tmp_path / "b", "tsc", [1, 0], conditions={"normalization": "none"})
    [found] = compare([a], [b])
    assert found.difference is None
    assert found.untested == "computed with another normalization"


def test_a_score_of_only_one_system_stands_without_difference(tmp_path: Path) -> None:
    a = [write(tmp_path / "a", "tsc", [1, 0]), write(tmp_path / "a", "pnmi", [0.5, 0.6])]
    b = [write(tmp_path / "b", "tsc", [1, 0])]
    pnmi = next(found for found in compare(a, b) if found.metric == "pnmi")
    assert (pnmi.a, pnmi.b, pnmi.difference) == (pytest.approx(0.55), None, None)


def test_a_lower_abx_is_the_better_one(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "abx_units", [0.05, 0.06, 0.04], condition="within")
    b = write(tmp_path / "b", "abx_units", [0.15, 0.16, 0.14], condition="within")
    [found] = compare([a], [b])
    assert better(found, 0.01, "a", "b") == "a"
    assert better(found, 0.20, "a", "b") is None


def test_nothing_in_common_is_an_input_error(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "tsc", [1, 0]), write(tmp_path / "b", "pnmi", [0.5])
    with pytest.raises(InputError, match="found no score that both systems have"):
        compare([a], [b])


def test_an_item_that_occurs_twice_is_named(tmp_path: Path) -> None:
    a, b = write(tmp_path / "a", "tsc", [1, 0]), write(tmp_path / "b", "tsc", [1, 0])
    with a.with_suffix(".csv").open("a") as table:
        table.write("item0,1,1\n")
    with pytest.raises(InputError, match=r"tsc.dev.csv, line 4: item0 occurs twice"):
        compare([a], [b])


def test_holm_is_the_step_down_of_its_definition() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_the_verdict_claims_only_what_was_shown() -> None:
    assert verdict("x", "y", {}) == "Nothing could be tested: x and y share no metric over the same items."
    assert verdict("x", "y", {"tSC": None}) == "No difference is shown on tSC."
    mixed = verdict("x", "y", {"tSC": "x", "PNMI": "y", "sBLIMP": "x", "ABX": None})
    assert mixed == "**x** is better on tSC and sBLIMP; **y** is better on PNMI; no difference is shown on ABX."
    few = verdict("x", "y", {"tSC": None, "PNMI": None, "ABX": None}, {"4 speakers": ["PNMI", "ABX"]})
    assert few == "No difference is shown on tSC; over 4 speakers no difference can be shown on PNMI and ABX."


def test_the_page_shows_both_values_the_difference_and_the_verdict(tmp_path: Path) -> None:
    a = write(tmp_path / "a", "tsc", [1, 1, 1, 0] * 50)
    b = write(tmp_path / "b", "tsc", [1, 0, 1, 0] * 50)
    page = to_markdown("spidr", "hubert", compare([a], [b]))
    caution = "Language models were trained once each; trained again, they may compare otherwise."
    assert page.startswith(f"# spidr against hubert\n\n**spidr** is better on tSC (dev, opt). {caution}\n")
    assert "| tSC (dev, opt) | 75.00 | 50.00 | +25.00 | [+19" in page
    assert "1 seed(s) for spidr and 1 for hubert" in page


def test_the_page_says_what_is_compared_and_what_it_was_trained_on(tmp_path: Path) -> None:
    subject = {"model": "SpidR", "encoder": "spidr", "layer": 6, "quantizer": "kmeans256", "num_units": 256}
    training = {"slm": "opt", "corpus": "train", "hours": 577.0}
    common: dict[str, Any] = {"dataset": "dev", "n": 1, "conditions": {}, "provenance": {}}
    items = (("id", "score"), [{"id": "1", "score": 1}])
    paths = [
        write_score(tmp_path / "a", Subject(**subject), metric="pnmi", value=0.6, items=items, **common),
        *(
            write_score(
                tmp_path / f"a{k}", Subject(**subject, **training, seed=k), metric="tsc", value=v, items=items, **common
            )
            for k, v in ((1, 0.7), (0, 0.8))
        ),
    ]
    assert describe(paths) == {
        "model": "SpidR",
        "layer": "6",
        "units": "K-means",
        "number of units": "256",
        "language model": "opt (train, 577 h)",
        "training seeds": "0, 1",
    }
    phones = write_score(
        tmp_path / "b",
        Subject(model="Phones", encoder="phones", slm="opt", corpus="train", seed=0),
        metric="tsc",
        value=0.9,
        items=items,
        **common,
    )
    page = to_markdown("a", "b", compare(paths, [phones]), (describe(paths), describe([phones])))
    assert "| model | SpidR | Phones |" in page
    assert "| language model | opt (train, 577 h) | opt (train) |" in page
    assert "| number of units | 256 |  |" in page
    assert "| tSC (dev, opt) | 75.00 ± 7.07 | 90.00 | −15.00 |" in page  # 70 and 80: their standard deviation is 7.07
    assert "trained once each" not in page


NEW = {
    "prosaudit": ("protosyntax", ("type", "id")),
    "salmon": ("gender_consistency", ("task", "id")),
    "salmon_alignment": (None, ("task", "id")),
    "ssc": (None, ("id",)),
    "pairs": (None, ("id",)),
}


@pytest.mark.parametrize("metric", NEW)
def test_zero_shot_metrics_that_the_paper_does_not_have_are_tested_too(tmp_path: Path, metric: str) -> None:
    condition, columns = NEW[metric]

    def scored(name: str, correct: int) -> Path:
        rows = [dict.fromkeys(columns, f"item{i}") | {"score": float(i < correct)} for i in range(60)]
        return write_score(
            tmp_path / name,
            Subject(model=name, encoder=name, slm="opt", seed=0),
            metric=metric,
            dataset="set",
            condition=condition,
            value=correct / 60,
            n=60,
            conditions={},
            provenance={},
            items=((*columns, "score"), rows),
        )

    [found] = compare([scored("a", 54)], [scored("b", 30)])
    assert found.difference == pytest.approx(0.4)
    assert found.n == 60
    assert found.p_value is not None
    assert better(found, found.p_value, "a", "b") == "a"


def test_likelihoods_made_in_other_ways_are_not_compared(tmp_path: Path) -> None:
    how = {"model": "x", "eos": True, "precision": "float32", "long": "error"}
    a = write(tmp_path / "a", "tsc", [1, 0], conditions={"scoring": how})
    b = write(tmp_path / "b", "tsc", [1, 1], conditions={"scoring": how | {"model": "y", "precision": "bfloat16"}})
    elsewhere = write(tmp_path / "c", "tsc", [1, 1], conditions={"scoring": None})
    assert compare([a], [b])[0].untested == "computed with another precision"
    assert compare([a], [elsewhere])[0].untested == ""


def test_fewer_than_six_speakers_show_no_difference_however_large(tmp_path: Path) -> None:
    for speakers, is_shown in ((5, False), (6, True)):
        a, b = (
            write(tmp_path / f"{name}{speakers}", "pnmi", [value] * speakers)
            for name, value in (("a", 0.9), ("b", 0.1))
        )
        [found] = compare([a], [b])
        assert found.p_value == pytest.approx(2 / 2**speakers)
        assert (found.p_value < 0.05) == is_shown


WORDS = [{"fileid": f"f{i}", "onset": "0", "offset": "1", "label": f"word{i % 4}"} for i in range(80)]
PAIRS = [
    {"phone_a": a, "phone_b": b, "speaker": speaker} for a, b in permutations("abcde", 2) for speaker in ("s0", "s1")
]


def test_the_queries_of_a_word_are_no_more_evidence_than_the_word(tmp_path: Path) -> None:
    """Four words of 20 queries, all better: 2 of 16 ways to flip four signs are as far from zero."""
    a, b = (write(tmp_path / name, "map_words", [value] * 80, named=WORDS) for name, value in (("a", 0.9), ("b", 0.1)))
    [found] = compare([a], [b])
    assert (found.n, found.drawn) == (4, "4 words")
    assert found.p_value == pytest.approx(2 / 16)


def test_abx_is_compared_over_what_its_interval_was_drawn_from(tmp_path: Path) -> None:
    """Ten pairs of five phones, each both ways and by two speakers."""

    def scored(name: str, value: float, **conditions: str) -> Path:
        values = {"named": PAIRS, "condition": "within", "conditions": conditions}
        return write(tmp_path / name, "abx_units", [value] * 40, **values)

    [by_speakers] = compare([scored("a", 0.1)], [scored("b", 0.3)])
    assert (by_speakers.drawn, by_speakers.p_value) == ("2 speakers", pytest.approx(2 / 4))
    by_pairs = [scored("c", 0.1, resample="pairs"), scored("d", 0.3, resample="pairs")]
    [found] = compare(by_pairs[:1], by_pairs[1:])
    assert (found.drawn, found.p_value) == ("10 pairs of phones", pytest.approx(2 / 2**10))
    assert "| 10 pairs of phones | 0.002 |" in to_markdown("c", "d", [found])
    [mixed] = compare(by_pairs[:1], [scored("e", 0.3, resample="speakers")])
    assert (mixed.difference, mixed.p_value) == (pytest.approx(-0.2), None)
    assert mixed.untested == "intervals over pairs and speakers"
    with pytest.raises(InputError, match="conditions: resample: found 'words', expected items, speakers or pairs"):
        compare(by_pairs[:1], [scored("f", 0.3, resample="words")])


def of_speakers(number: int, name: str) -> Comparison:
    return Comparison(name, "dev", None, None, 0.9, 0.1, (1, 1), p_value=0.5, n=number, resample="speakers")


def test_a_page_says_what_too_few_speakers_could_not_show(tmp_path: Path) -> None:
    """Six speakers, all alike: p = 2/64 of each of two tests, 4/64 adjusted; of seven speakers 4/128."""
    for speakers, is_shown in ((6, False), (7, True)):
        a, b = (
            [write(tmp_path / f"{name}{speakers}", metric, [value] * speakers) for metric in ("pnmi", "phone_purity")]
            for name, value in (("a", 0.9), ("b", 0.1))
        )
        page = to_markdown("a", "b", compare(a, b))
        none = (
            "Over 6 speakers, where p, adjusted, is 0.062 at least, no difference can be shown on PNMI (dev) and phone"
        )
        assert (none in page) != is_shown
        assert ("**a** is better on PNMI (dev) and phone purity (dev)" in page) == is_shown


@pytest.mark.parametrize(("speakers", "reached"), [(6, False), (8, False), (9, True), (40, True)])
def test_twelve_tests_need_nine_speakers(speakers: int, reached: bool) -> None:
    hidden = out_of_reach([of_speakers(speakers, f"metric{i}") for i in range(12)])
    assert hidden == {} if reached else set(hidden.values()) == {12 * 2 / 2**speakers}


@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=8))
def test_adjusted_p_values_do_not_fall_where_others_rise(p_values: list[tuple[float, float]]) -> None:
    least, more = holm([min(pair) for pair in p_values]), holm([max(pair) for pair in p_values])
    assert all(a <= b for a, b in zip(least, more, strict=True))
