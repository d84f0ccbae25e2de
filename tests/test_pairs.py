"""sWUGGY, sBLIMP and tSC against cases worked by hand, and against a slow oracle."""

import csv
import json
import random
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import InputError
from eval.pairs import PairArguments, read_pairs
from eval.sblimp import score_sblimp
from eval.scores import Subject
from eval.swuggy import score_swuggy
from eval.tsc import score_tsc

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6, quantizer="kmeans256", num_units=256)

LEXICAL = """\
fileid,id,voice,frequency,word,phones,length,correct
w1a,1,A,7,brick,B R IH K,4,1
n1a,1,A,7,,B L IH K,4,0
w1b,1,B,7,brick,B R IH K,4,1
n1b,1,B,7,,B L IH K,4,0
w2a,2,A,0,zorp,Z AO R P,4,1
n2a,2,A,0,,Z AO R T,4,0
w3a,3,A,1,it,IH T,2,1
n3a,3,A,1,,IH D,2,0
"""

# Per token: 1a -1 against -2 (won), 1b -2 against -1 (lost), 2a equal, 3a -3 against -4 (won).
LIKELIHOODS = {
    **{"w1a": (-10, 10), "n1a": (-20, 10), "w1b": (-20, 10), "n1b": (-8, 8)},
    **{"w2a": (-5, 5), "n2a": (-7, 7), "w3a": (-6, 2), "n3a": (-4, 1)},
}


def write_likelihoods(path: Path, values: dict[str, tuple[float, float]]) -> Path:
    rows = [f"{fileid},{total},{num}" for fileid, (total, num) in values.items()]
    path.write_text("\n".join(["fileid,log_likelihood,num_tokens", *rows]) + "\n")
    return path


def arguments(
    folder: Path, items: str, values: dict[str, tuple[float, float]], normalization: str = "tokens"
) -> PairArguments:
    (folder / "items.csv").write_text(items)
    likelihoods = write_likelihoods(folder / "likelihoods.csv", values)
    return PairArguments(folder / "items.csv", likelihoods, normalization, "dev", SUBJECT, 0, folder / "scores")


def read(folder: Path, metric: str) -> tuple[dict, list[dict[str, str]]]:
    stem = folder / "scores" / f"{metric}.dev"
    with stem.with_suffix(".dev.csv").open() as file:
        return json.loads(stem.with_suffix(".dev.json").read_text()), list(csv.DictReader(file))


def test_swuggy_averages_voices_then_items_and_counts_a_tie_as_half(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL, LIKELIHOODS))
    score, items = read(tmp_path, "swuggy_all")
    assert [float(item["score"]) for item in items] == [0.5, 0.5, 1.0]
    assert [item["num_voices"] for item in items] == ["2", "1", "1"]
    assert score["value"] == pytest.approx(2 / 3)
    assert score["n"] == 3
    assert score["low"] <= score["value"] <= score["high"]


def test_swuggy_in_vocab_leaves_out_words_of_frequency_zero(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL, LIKELIHOODS))
    score, items = read(tmp_path, "swuggy_in_vocab")
    assert (score["value"], score["n"]) == (0.75, 2)
    assert [item["id"] for item in items] == ["1", "3"]


def test_swuggy_shows_phones_where_no_nonword_is_spelt(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL, LIKELIHOODS))
    items = read(tmp_path, "swuggy_all")[1]
    assert (items[0]["word"], items[0]["nonword"]) == ("brick", "B L IH K")


def test_swuggy_shows_spellings_where_any_nonword_has_one(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL.replace(",,Z AO R T", ",zort,Z AO R T"), LIKELIHOODS))
    assert [item["nonword"] for item in read(tmp_path, "swuggy_all")[1]] == ["", "zort", ""]


def test_swuggy_breaks_down_by_frequency_and_length(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL, LIKELIHOODS))
    conditions = read(tmp_path, "swuggy_all")[0]["conditions"]
    assert conditions["by_frequency"] == {
        "oov": {"n": 1, "mean": 0.5, "std": None},
        "1-5": {"n": 1, "mean": 1.0, "std": None},
        "5-20": {"n": 1, "mean": 0.5, "std": None},
        "20-100": {"n": 0, "mean": None, "std": None},
        "100-": {"n": 0, "mean": None, "std": None},
    }
    assert conditions["by_length"] == {
        "2": {"n": 1, "mean": 1.0, "std": None},
        "4": {"n": 2, "mean": 0.5, "std": 0.0},
    }


def test_without_normalisation_the_sums_are_compared(tmp_path: Path) -> None:
    score_swuggy(arguments(tmp_path, LEXICAL, LIKELIHOODS, normalization="none"))
    score, items = read(tmp_path, "swuggy_all")
    assert [float(item["score"]) for item in items] == [0.5, 1.0, 0.0]
    assert score["conditions"]["normalization"] == "none"


SYNTACTIC = """\
fileid,id,voice,type,subtype,transcription,correct
a+,1,A,agreement,noun,dogs bark,1
a-,1,A,agreement,noun,dogs barks,0
b+,1,B,agreement,noun,dogs bark,1
b-,1,B,agreement,noun,dogs barks,0
c+,1,A,agreement,verb,cats sleep,1
c-,1,A,agreement,verb,cats sleeps,0
d+,1,A,islands,wh,who left,1
d-,1,A,islands,wh,left who,0
"""


def test_sblimp_pairs_by_type_and_subtype_and_reports_both_means(tmp_path: Path) -> None:
    values = {"a+": -1, "a-": -2, "b+": -2, "b-": -1, "c+": -1, "c-": -1, "d+": -1, "d-": -3}
    score_sblimp(arguments(tmp_path, SYNTACTIC, {fileid: (value, 1) for fileid, value in values.items()}))
    score, items = read(tmp_path, "sblimp")
    assert [float(item["score"]) for item in items] == [0.5, 0.5, 1.0]
    assert score["value"] == pytest.approx(2 / 3)
    assert score["n"] == 3
    assert score["conditions"]["mean_over_types"] == pytest.approx(0.75)
    assert score["conditions"]["by_type"]["islands"]["mean"] == 1.0
    assert (items[0]["sentence"], items[0]["incorrect_sentence"]) == ("dogs bark", "dogs barks")


def test_sblimp_refuses_an_order_that_would_pair_other_sentences(tmp_path: Path) -> None:
    lines = SYNTACTIC.splitlines()
    lines[1], lines[5] = lines[5], lines[1]
    values = {line.split(",")[0]: (-1.0, 1.0) for line in lines[1:]}
    with pytest.raises(InputError, match=r"items\.csv, line 3: a- stands beside agreement verb 1 A by order"):
        score_sblimp(arguments(tmp_path, "\n".join(lines), values))


@st.composite
def sentences(draw: st.DrawFn) -> tuple[list[dict[str, str]], dict[str, tuple[float, float]]]:
    """Items in some voices each, correct beside incorrect, and log-likelihoods that are often equal."""
    rows, values = [], {}
    for item in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["agreement", "islands"]))
        for voice in draw(st.lists(st.sampled_from("ABC"), min_size=1, max_size=3, unique=True)):
            for correct in draw(st.permutations("10")):
                fileid = f"{item}{voice}{correct}"
                row = {"fileid": fileid, "id": str(item), "voice": voice, "type": kind, "subtype": kind[0]}
                rows.append(row | {"transcription": fileid, "correct": correct})
                values[fileid] = (-float(draw(st.integers(1, 6))), draw(st.integers(1, 3)))
    return rows, values


@settings(max_examples=60, deadline=None)
@given(sentences(), st.sampled_from(["tokens", "none"]))
def test_pairs_are_those_of_the_loops_whatever_the_voices_and_ties(
    drawn: tuple[list[dict[str, str]], dict[str, tuple[float, float]]], normalization: str
) -> None:
    rows, values = drawn
    won: dict[str, list[Fraction]] = {}
    for a in rows:
        for b in rows:
            if (a["id"], a["voice"]) == (b["id"], b["voice"]) and (a["correct"], b["correct"]) == ("1", "0"):
                first, second = (
                    Fraction(total) / (num if normalization == "tokens" else 1)
                    for total, num in (values[a["fileid"]], values[b["fileid"]])
                )
                score = Fraction(1, 2) if first == second else Fraction(first > second)
                won.setdefault(a["id"], []).append(score)
    expected = [sum(scores) / len(scores) for scores in won.values()]
    text = "\n".join([",".join(rows[0]), *(",".join(row.values()) for row in rows)]) + "\n"
    with TemporaryDirectory() as name:
        score_sblimp(arguments(Path(name), text, values, normalization))
        found, items = read(Path(name), "sblimp")
    assert [float(item["score"]) for item in items] == pytest.approx([float(score) for score in expected])
    assert found["value"] == pytest.approx(float(sum(expected) / len(expected)))


TSC = "fileid,id,correct\n0_7_correct,7,1\n1_7_incorrect,7,0\n2_9_correct,9,1\n3_9_incorrect,9,0\n"


def test_tsc_is_the_share_of_true_endings_that_win(tmp_path: Path) -> None:
    values = {"0_7_correct": (-8, 4), "1_7_incorrect": (-9, 4), "2_9_correct": (-8, 4), "3_9_incorrect": (-8, 4)}
    score_tsc(arguments(tmp_path, TSC, values))
    score, items = read(tmp_path, "tsc")
    assert (score["value"], score["n"]) == (0.75, 2)
    assert items[0] == {
        **{"id": "7", "correct": "0_7_correct", "incorrect": "1_7_incorrect", "num_voices": "1", "score": "1.0"}
    }


def swuggy_by_loops(rows: list[dict[str, str]], values: dict[str, tuple[float, float]]) -> float:
    total, items = 0.0, []
    for row in rows:
        if row["id"] not in items:
            items.append(row["id"])
    for item in items:
        points = []
        for word in rows:
            for nonword in rows:
                same = word["id"] == nonword["id"] == item and word["voice"] == nonword["voice"]
                if same and word["correct"] == "1" and nonword["correct"] == "0":
                    a, b = (values[row["fileid"]][0] / values[row["fileid"]][1] for row in (word, nonword))
                    points.append(1 if a > b else 0 if a < b else 0.5)
        total += sum(points) / len(points)
    return total / len(items)


@pytest.mark.parametrize("seed", range(5))
def test_swuggy_agrees_with_loops_over_all_rows_in_any_order(tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    header = ("fileid", "id", "voice", "frequency", "word", "phones", "length", "correct")
    rows = [
        dict(zip(header, (f"{i}{v}{c}", str(i), v, str(i), f"w{i}", "P", "1", str(c)), strict=True))
        for i in range(12)
        for v in draw.sample("ABCD", draw.randint(1, 4))
        for c in (1, 0)
    ]
    draw.shuffle(rows)
    values = {row["fileid"]: (float(-draw.randint(1, 6)), float(draw.randint(1, 3))) for row in rows}
    table = "\n".join([",".join(header), *(",".join(row.values()) for row in rows)])
    score_swuggy(arguments(tmp_path, table, values))
    assert read(tmp_path, "swuggy_all")[0]["value"] == pytest.approx(swuggy_by_loops(rows, values))


def dropped(fileid: str) -> dict[str, tuple[float, float]]:
    return {name: value for name, value in LIKELIHOODS.items() if name != fileid}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (dropped("n2a"), r"likelihoods\.csv: no log-likelihood for 1 file\(s\) \(n2a\)"),
        (LIKELIHOODS | {"x": (-1, 1)}, r"likelihoods\.csv: log-likelihood for 1 file\(s\) \(x\) not in"),
        (LIKELIHOODS | {"w1a": (float("nan"), 1)}, r"line 2: log_likelihood of w1a is 'nan', expected a finite number"),
        (LIKELIHOODS | {"w1a": (float("-inf"), 1)}, r"line 2: log_likelihood of w1a is '-inf'"),
        (LIKELIHOODS | {"w1a": (-1, 0)}, r"line 2: num_tokens of w1a is 0, expected 1 or more"),
    ],
)
def test_a_missing_extra_or_unusable_likelihood_is_an_error_naming_the_file(
    tmp_path: Path, values: dict[str, tuple[float, float]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        score_swuggy(arguments(tmp_path, LEXICAL, values))


def test_a_likelihood_given_twice_is_an_error(tmp_path: Path) -> None:
    of_set = arguments(tmp_path, LEXICAL, LIKELIHOODS)
    with of_set.likelihoods.open("a") as file:
        file.write("w1a,-1,1\n")
    with pytest.raises(InputError, match=r"likelihoods\.csv, line 10: w1a occurs twice"):
        score_swuggy(of_set)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("n3a,3,A", "n3a,3,B", r"items\.csv: 2 file\(s\) \(w3a, n3a\) without a twin of the same voice, id"),
        ("n3a,3", "n1a,3", r"items\.csv, line 9: n1a occurs twice"),
        ("IH D,2,0", "IH D,2,1", r"items\.csv, line 9: n3a and w3a have the same voice, id and correct"),
        ("IH D,2,0", "IH D,2,no", r"items\.csv, line 9: correct of n3a is 'no', expected 0 or 1"),
        ("w3a,3,A,1", "w3a,3,A,often", r"items\.csv: frequency of w3a is 'often', expected a count"),
    ],
)
def test_a_malformed_set_is_an_error_naming_line_and_file(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        score_swuggy(arguments(tmp_path, LEXICAL.replace(old, new), LIKELIHOODS))


def test_an_empty_set_is_an_error(tmp_path: Path) -> None:
    of_set = arguments(tmp_path, LEXICAL.splitlines()[0], {})
    with pytest.raises(InputError, match="no rows, expected pairs"):
        read_pairs(of_set.items, of_set.likelihoods, columns=(), key=("id",), normalization="tokens")


def test_the_entry_point_writes_both_scores_and_repeats_itself(tmp_path: Path) -> None:
    of_set = arguments(tmp_path, LEXICAL, LIKELIHOODS)
    summary = tmp_path / "summary.json"
    summary.write_text(json.dumps({"slm": "opt", "corpus": "train", "hours": 6.5, "seed": 2}))
    command = [sys.executable, "-m", "eval.swuggy", "--items", of_set.items, "--likelihoods", of_set.likelihoods]
    command += ["--subject", SUBJECT.model_dump_json(), "--dataset", "dev", "--training", summary, "--output"]
    subprocess.run([*command, tmp_path / "scores"], check=True)
    score, _ = read(tmp_path, "swuggy_all")
    assert (score["slm"], score["hours"], score["seed"], score["num_units"]) == ("opt", 6.5, 2, 256)
    subprocess.run([*command, tmp_path / "again"], check=True)
    again = json.loads((tmp_path / "again" / "swuggy_all.dev.json").read_text())
    assert {**again, "provenance": 0} == {**score, "provenance": 0}
    tables = [(tmp_path / name / "swuggy_all.dev.csv").read_bytes() for name in ("scores", "again")]
    assert tables[0] == tables[1]


def test_the_entry_point_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    of_set = arguments(tmp_path, LEXICAL, dropped("w1b"))
    command = [sys.executable, "-m", "eval.swuggy", "--items", of_set.items, "--likelihoods", of_set.likelihoods]
    command += ["--subject", SUBJECT.model_dump_json(), "--dataset", "dev", "--output", tmp_path / "scores"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no log-likelihood for 1 file(s) (w1b)" in done.stderr
