"""Every zero-shot metric and its breakdowns against plain loops over all rows, with voices, ties and empty bands."""

import csv
import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from eval.metrics import METRICS
from eval.paired import compare
from eval.pairs import PairArguments, score_pairs
from eval.prosaudit import score_prosaudit
from eval.salmon import score_salmon
from eval.sblimp import score_sblimp
from eval.scores import Subject, read_scores
from eval.ssc import score_ssc
from eval.swuggy import score_swuggy
from eval.tsc import score_tsc

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6, quantizer="kmeans256", num_units=256, slm="opt")

type Rows = list[dict[str, str]]
type Values = dict[str, tuple[float, int]]

TASKS = (
    *("bg_alignment", "bg_all_consistency", "bg_domain_consistency", "gender_consistency"),
    *("rir_consistency", "sentiment_alignment", "sentiment_consistency", "speaker_consistency"),
)


def arguments(folder: Path, rows: Rows, values: Values, normalization: Any = "tokens") -> PairArguments:
    folder.mkdir(parents=True, exist_ok=True)
    items, likelihoods = folder / "items.csv", folder / "likelihoods.csv"
    items.write_text("\n".join(",".join(row) for row in (list(rows[0]), *(row.values() for row in rows))) + "\n")
    lines = [f"{fileid},{total},{num}" for fileid, (total, num) in values.items()]
    likelihoods.write_text("\n".join(["fileid,log_likelihood,num_tokens", *lines]) + "\n")
    return PairArguments(items, likelihoods, normalization, "dev", SUBJECT, 0, folder / "scores")


def read(folder: Path, stem: str) -> dict[str, Any]:
    score: dict[str, Any] = json.loads((folder / "scores" / f"{stem}.json").read_text())
    return score


def breakdown(folder: Path, stem: str) -> Rows:
    with (folder / "scores" / f"{stem}.breakdown.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def drawn(seed: int, **columns: Callable[[random.Random, int], str]) -> tuple[Rows, Values]:
    """Rows of 24 items in one to three voices, many of them ties, in any order."""
    draw = random.Random(seed)
    rows: Rows = []
    values: Values = {}
    for i in range(24):
        of_item = {name: make(draw, i) for name, make in columns.items()}
        for voice in sorted(draw.sample("ABC", draw.randint(1, 3))):
            for correct in (1, 0):
                fileid = f"f{i}{voice}{correct}"
                values[fileid] = (float(-draw.randint(2, 4)), draw.randint(1, 2))
                rows.append({"fileid": fileid, "id": str(i), "voice": voice, **of_item, "correct": str(correct)})
    draw.shuffle(rows)
    return rows, values


def won(rows: Rows, values: Values, keep: Callable[[dict[str, str]], bool]) -> tuple[list[float], list[float]]:
    """Scores of the items and of the pairs whose correct stimulus is kept: loops over all rows, twice."""
    of_items: dict[tuple[str, ...], list[float]] = {}
    of_pairs = []
    for a in rows:
        for b in rows:
            fields = [name for name in a if name in ("id", "voice", "type", "subtype", "task")]
            if a["correct"] == "1" and b["correct"] == "0" and all(a[f] == b[f] for f in fields) and keep(a):
                x, y = (values[row["fileid"]][0] / values[row["fileid"]][1] for row in (a, b))
                point = 1.0 if x > y else 0.5 if x == y else 0.0
                of_pairs.append(point)
                of_items.setdefault(tuple(a[f] for f in fields if f != "voice"), []).append(point)
    return [sum(points) / len(points) for points in of_items.values()], of_pairs


def described(scores: list[float]) -> dict[str, Any]:
    n = len(scores)
    mean = sum(scores) / n if n else None
    spread = math.sqrt(sum((s - mean) ** 2 for s in scores) / (n - 1)) if mean is not None and n > 1 else None
    return {"n": n, "mean": mean, "std": spread}


def same(found: dict[str, Any], expected: dict[str, Any]) -> bool:
    return found == (expected if None in expected.values() else pytest.approx(expected))


BANDS = {"oov": (0, 1), "1-5": (1, 5), "5-20": (5, 20), "20-100": (20, 100), "100-": (100, 1e9)}


@pytest.mark.parametrize("seed", range(3))
def test_swuggy_and_its_breakdowns_are_those_of_loops(tmp_path: Path, seed: int) -> None:
    rows, values = drawn(
        seed,
        # No word of 20 to 99: a band is empty.
        frequency=lambda draw, i: str(draw.choice([0, 1, 4, 5, 19, 100, 5000])),
        word=lambda draw, i: f"w{i}",
        phones=lambda draw, i: "P",
        length=lambda draw, i: str(draw.randint(2, 12)),
    )
    score_swuggy(arguments(tmp_path, rows, values))
    for metric, least in (("swuggy_all", 0), ("swuggy_in_vocab", 1)):
        score = read(tmp_path, f"{metric}.dev")
        in_set = [row for row in rows if int(row["frequency"]) >= least]
        items, _ = won(in_set, values, lambda row: True)
        assert score["value"] == pytest.approx(sum(items) / len(items))
        assert score["n"] == len(items)
        found = score["conditions"]
        for band, (low, high) in BANDS.items():
            of_band, _ = won(in_set, values, lambda row, low=low, high=high: low <= int(row["frequency"]) < high)
            assert same(found["by_frequency"][band], described(of_band))
        for length in {row["length"] for row in in_set}:
            of_length, _ = won(in_set, values, lambda row, length=length: row["length"] == length)
            assert same(found["by_length"][length], described(of_length))
        for voice in "ABC":
            _, of_voice = won(in_set, values, lambda row, voice=voice: row["voice"] == voice)
            assert same(found["by_voice"][voice], described(of_voice))
        assert list(found["by_length"]) == sorted(found["by_length"], key=int)
    assert found["by_frequency"]["20-100"] == {"n": 0, "mean": None, "std": None}
    assert {name: found["by_frequency"]["oov"][name] for name in ("n", "mean")} == {"n": 0, "mean": None}


@pytest.mark.parametrize("seed", range(3))
def test_sblimp_and_its_breakdowns_are_those_of_loops(tmp_path: Path, seed: int) -> None:
    rows, values = drawn(
        seed,
        type=lambda draw, i: ("agreement", "islands", "npi")[i % 3],
        subtype=lambda draw, i: "ab"[i % 2],
        transcription=lambda draw, i: f"s{i}",
    )
    rows.sort(key=lambda row: row["fileid"][:-1])
    score_sblimp(arguments(tmp_path, rows, values))
    score = read(tmp_path, "sblimp.dev")
    items, _ = won(rows, values, lambda row: True)
    types = [
        won(rows, values, lambda row, kind=kind: row["type"] == kind)[0] for kind in ("agreement", "islands", "npi")
    ]
    assert score["value"] == pytest.approx(sum(items) / len(items))
    assert score["conditions"]["mean_over_types"] == pytest.approx(sum(sum(t) / len(t) for t in types) / 3)
    for kind, of_type in zip(("agreement", "islands", "npi"), types, strict=True):
        assert same(score["conditions"]["by_type"][kind], described(of_type))
    for voice in "ABC":
        _, of_voice = won(rows, values, lambda row, voice=voice: row["voice"] == voice)
        assert same(score["conditions"]["by_voice"][voice], described(of_voice))


@pytest.mark.parametrize("seed", range(3))
def test_prosaudit_scores_each_type_by_its_own(tmp_path: Path, seed: int) -> None:
    rows, values = drawn(
        seed, type=lambda draw, i: ("protosyntax", "lexical")[i % 2], subtype=lambda draw, i: "xy"[i % 4 // 2]
    )
    # Ids run anew in each type.
    rows = [row | {"id": str(int(row["id"]) // 2)} for row in sorted(rows, key=lambda row: row["fileid"][:-1])]
    score_prosaudit(arguments(tmp_path, rows, values))
    for kind in ("protosyntax", "lexical"):
        score = read(tmp_path, f"prosaudit.dev.{kind}")
        items, _ = won(rows, values, lambda row, kind=kind: row["type"] == kind)
        assert (score["metric"], score["condition"], score["n"]) == ("prosaudit", kind, 12)
        assert score["value"] == pytest.approx(sum(items) / len(items))
        for subtype in "xy":
            of, _ = won(rows, values, lambda row, k=kind, s=subtype: row["type"] == k and row["subtype"] == s)
            assert same(score["conditions"]["by_subtype"][subtype], described(of))
        for voice in "ABC":
            _, of_voice = won(rows, values, lambda row, k=kind, v=voice: row["type"] == k and row["voice"] == v)
            assert same(score["conditions"]["by_voice"][voice], described(of_voice))


def test_prosaudit_wants_both_types_and_rows_in_the_order_of_pairs(tmp_path: Path) -> None:
    rows, values = drawn(0, type=lambda draw, i: "lexical", subtype=lambda draw, i: "x")
    rows.sort(key=lambda row: row["fileid"][:-1])
    with pytest.raises(InputError, match=r"items.csv: found types lexical, expected protosyntax, lexical"):
        score_prosaudit(arguments(tmp_path, rows, values))
    incorrect = [row for row in rows if row["correct"] == "0"]
    correct = [row for row in rows if row["correct"] == "1"]
    with pytest.raises(InputError, match=r"by order, but is lexical .* by type, id, voice; expected both to agree"):
        score_prosaudit(arguments(tmp_path, correct + incorrect[::-1], values))


def salmon(seed: int) -> tuple[Rows, Values]:
    """Tasks of different sizes."""
    draw = random.Random(seed)
    rows, values = [], {}
    for number, task in enumerate(TASKS):
        for i in range(3 + number):
            for correct in (1, 0):
                fileid = f"{task}-sample_{i}_{1 - correct}"
                values[fileid] = (float(-draw.randint(2, 4)), draw.randint(1, 2))
                rows.append({"fileid": fileid, "task": task, "id": str(i), "correct": str(correct)})
    return rows, values


@pytest.mark.parametrize("seed", range(2))
def test_salmon_is_a_score_a_task_and_two_means_over_tasks(tmp_path: Path, seed: int) -> None:
    rows, values = salmon(seed)
    score_salmon(arguments(tmp_path, rows, values))
    accuracy = {}
    for task in TASKS:
        items, _ = won(rows, values, lambda row, task=task: row["task"] == task)
        accuracy[task] = sum(items) / len(items)
        score = read(tmp_path, f"salmon.dev.{task}")
        assert (score["value"], score["n"]) == (pytest.approx(accuracy[task]), len(items))
    for kind in ("consistency", "alignment"):
        tasks = [task for task in TASKS if task.endswith(kind)]
        score = read(tmp_path, f"salmon_{kind}.dev")
        assert len(tasks) == {"consistency": 6, "alignment": 2}[kind]
        assert score["value"] == pytest.approx(sum(accuracy[task] for task in tasks) / len(tasks))
        assert score["low"] <= score["value"] <= score["high"]
        assert {task: of["mean"] for task, of in score["conditions"]["by_task"].items()} == pytest.approx(
            {task: accuracy[task] for task in tasks}
        )


def test_salmon_wants_all_of_its_tasks(tmp_path: Path) -> None:
    rows, values = salmon(0)
    rows = [row for row in rows if row["task"] != "bg_alignment"]
    values = {row["fileid"]: values[row["fileid"]] for row in rows}
    with pytest.raises(InputError, match=r"found other tasks \(bg_alignment\), expected bg_all"):
        score_salmon(arguments(tmp_path, rows, values))


@pytest.mark.parametrize("seed", range(3))
def test_pairs_are_scored_by_every_group(tmp_path: Path, seed: int) -> None:
    rows, values = drawn(seed, kind=lambda draw, i: f"k{i % 11}", half=lambda draw, i: "ab"[i % 2])
    score_pairs(arguments(tmp_path, rows, values))
    score = read(tmp_path, "pairs.dev")
    items, _ = won(rows, values, lambda row: True)
    assert (score["value"], score["n"]) == (pytest.approx(sum(items) / len(items)), 24)
    for column in ("kind", "half"):
        for group in {row[column] for row in rows}:
            of_group, _ = won(rows, values, lambda row, column=column, group=group: row[column] == group)
            assert same(score["conditions"][f"by_{column}"][group], described(of_group))
    for voice in "ABC":
        _, of_voice = won(rows, values, lambda row, voice=voice: row["voice"] == voice)
        assert same(score["conditions"]["by_voice"][voice], described(of_voice))


PAIRS: Rows = [
    {"fileid": "a", "id": "1", "kind": "x", "correct": "1"},
    {"fileid": "b", "id": "1", "kind": "x", "correct": "0"},
    {"fileid": "a", "id": "2", "kind": "y", "correct": "1"},
    {"fileid": "c", "id": "2", "kind": "y", "correct": "0"},
]


def test_a_file_may_be_of_several_pairs_and_the_table_of_groups_lies_beside_the_score(tmp_path: Path) -> None:
    score_pairs(arguments(tmp_path, PAIRS, {"a": (-2, 1), "b": (-3, 1), "c": (-2, 1)}))
    assert read(tmp_path, "pairs.dev")["value"] == 0.75
    assert breakdown(tmp_path, "pairs.dev") == [
        {"by": "kind", "group": "x", "n": "1", "mean": "1.0", "std": ""},
        {"by": "kind", "group": "y", "n": "1", "mean": "0.5", "std": ""},
    ]
    assert (tmp_path / "scores/pairs.dev.csv").read_text() == (
        "id,correct,incorrect,num_voices,score\n1,a,b,1,1.0\n2,a,c,1,0.5\n"
    )


def test_groups_that_part_the_voices_of_an_item_are_of_pairs(tmp_path: Path) -> None:
    rows = [
        {
            "fileid": f"{voice}{correct}",
            "id": "1",
            "voice": voice,
            "accent": accent,
            "all": "x",
            "correct": str(correct),
        }
        for voice, accent in (("A", "us"), ("B", "uk"), ("C", "uk"))
        for correct in (1, 0)
    ]
    values = {"A1": (-1.0, 1), "A0": (-2.0, 1), "B1": (-2.0, 1), "B0": (-1.0, 1), "C1": (-1.0, 1), "C0": (-1.0, 1)}
    score_pairs(arguments(tmp_path, rows, values))
    assert read(tmp_path, "pairs.dev")["value"] == 0.5
    found = {(row["by"], row["group"]): (row["n"], row["mean"]) for row in breakdown(tmp_path, "pairs.dev")}
    assert found == {
        **{("voice", "A"): ("1", "1.0"), ("voice", "B"): ("1", "0.0"), ("voice", "C"): ("1", "0.5")},
        **{("accent", "us"): ("1", "1.0"), ("accent", "uk"): ("2", "0.25"), ("all", "x"): ("1", "0.5")},
    }


def test_a_pair_of_two_groups_is_an_error(tmp_path: Path) -> None:
    rows = [PAIRS[0], PAIRS[1] | {"kind": "y"}]
    with pytest.raises(InputError, match=r"items.csv: a and b differ in kind, expected a pair to be of one group"):
        score_pairs(arguments(tmp_path, rows, {"a": (-2, 1), "b": (-3, 1)}))


def test_normalisation_may_turn_a_pair_around(tmp_path: Path) -> None:
    values = {"a": (-6.0, 3), "b": (-3.0, 1)}
    score_pairs(arguments(tmp_path / "tokens", PAIRS[:2], values, "tokens"))
    score_pairs(arguments(tmp_path / "none", PAIRS[:2], values, "none"))
    assert read(tmp_path / "tokens", "pairs.dev")["value"] == 1.0
    assert read(tmp_path / "none", "pairs.dev")["value"] == 0.0


@pytest.mark.parametrize(("score", "metric"), [(score_tsc, "tsc"), (score_ssc, "ssc")])
def test_stories_are_one_pair_an_item(tmp_path: Path, score: Callable[[PairArguments], None], metric: str) -> None:
    rows, values = drawn(1)
    rows = [{name: row[name] for name in ("fileid", "id", "correct")} for row in rows if row["voice"] == "A"]
    values = {row["fileid"]: values[row["fileid"]] for row in rows}
    score(arguments(tmp_path, rows, values))
    items, _ = won(rows, values, lambda row: True)
    assert read(tmp_path, f"{metric}.dev")["value"] == pytest.approx(sum(items) / len(items))


def test_every_metric_finds_its_items_again_in_a_comparison(tmp_path: Path) -> None:
    rows, values = salmon(0)
    other = {fileid: (total, 1) for fileid, (total, _) in values.items()}
    score_salmon(arguments(tmp_path / "a", rows, values))
    score_salmon(arguments(tmp_path / "b", rows, other))
    paths = [sorted((tmp_path / name / "scores").glob("*.json")) for name in "ab"]
    compared = compare(*paths)
    assert len(compared) == 10
    assert all(one.p_value is not None and not one.untested for one in compared)
    scores = {(s["metric"], s["condition"]): s["value"] for s in read_scores(paths[0])}
    for one in compared:
        assert one.a == pytest.approx(scores[one.metric, one.condition])
        assert one.difference == pytest.approx((one.a or 0) - (one.b or 0))
    assert set(METRICS["salmon"].conditions) == set(TASKS)
