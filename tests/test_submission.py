"""ZeroSpeech's score files: what is written, what is read, and what is refused."""

import csv
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from eval.submission import read_submission, submission_path, write_likelihoods, write_submission

LIKELIHOODS = "fileid,log_likelihood,num_tokens\nb,-7.3,3\na,-0.1,1\n"


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.csv"
    path.write_text("fileid,id,correct\na,1,1\nb,1,0\n")
    return path


@pytest.mark.parametrize(
    ("task", "split", "place"),
    [
        ("lexical", "dev", "lexical/dev.txt"),
        ("syntactic", "test", "syntactic/test.txt"),
        ("prosaudit", "dev", "english_dev.txt"),
        ("prosaudit", "test", "english_test.txt"),
    ],
)
def test_a_submission_has_its_files_where_the_challenge_looks(task: Any, split: Any, place: str) -> None:
    assert submission_path(Path("mine"), task, split) == Path("mine", place)


def test_a_line_is_a_stem_one_space_and_a_score_that_is_not_rounded(tmp_path: Path, items: Path) -> None:
    (tmp_path / "dev.csv").write_text(LIKELIHOODS)
    assert write_submission(tmp_path / "dev.txt", tmp_path / "dev.csv", items, "tokens") == 2
    assert (tmp_path / "dev.txt").read_text() == f"a -0.1\nb {-7.3 / 3!r}\n"
    write_submission(tmp_path / "dev.txt", tmp_path / "dev.csv", items, "none")
    assert (tmp_path / "dev.txt").read_text() == "a -0.1\nb -7.3\n"


def test_what_was_written_is_read_back_exactly(tmp_path: Path, items: Path) -> None:
    (tmp_path / "dev.csv").write_text(LIKELIHOODS)
    write_submission(tmp_path / "dev.txt", tmp_path / "dev.csv", items, "tokens")
    scores = read_submission(tmp_path / "dev.txt", items)
    assert scores == {"a": -0.1, "b": -7.3 / 3}
    write_likelihoods(tmp_path / "back.csv", scores)
    with (tmp_path / "back.csv").open() as file:
        assert [(row["fileid"], float(row["log_likelihood"]), row["num_tokens"]) for row in csv.DictReader(file)] == [
            ("a", -0.1, "1"),
            ("b", -7.3 / 3, "1"),
        ]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("b,-7.3,3\n", "", r"dev.csv: no log-likelihood for 1 file\(s\) \(b\) of .*items.csv"),
        ("b,", "c,-1,1\nb,", r"dev.csv: log-likelihood for 1 file\(s\) \(c\) not in .*items.csv"),
        ("b,", "a,-1,1\nb,", "dev.csv, line 4: a occurs twice"),
        ("-7.3", "nan", "dev.csv, line 2: log_likelihood of b is 'nan', expected a finite number"),
    ],
)
def test_likelihoods_that_are_not_those_of_the_set_are_not_written(
    tmp_path: Path, items: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "dev.csv").write_text(LIKELIHOODS.replace(old, new))
    with pytest.raises(InputError, match=message):
        write_submission(tmp_path / "dev.txt", tmp_path / "dev.csv", items, "tokens")
    assert not (tmp_path / "dev.txt").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a -1\n", r"dev.txt: no log-likelihood for 1 file\(s\) \(b\) of .*items.csv"),
        ("a -1\nb -2\nc -3\n", r"dev.txt: log-likelihood for 1 file\(s\) \(c\) not in .*items.csv"),
        ("a -1\na -2\nb -3\n", "dev.txt, line 2: a occurs twice, expected one score a file"),
        ("a -1\nb nan\n", "dev.txt, line 2: score of b is 'nan', expected a finite number"),
        ("a -1\nb -inf\n", "dev.txt, line 2: score of b is '-inf', expected a finite number"),
        ("a -1\nb -1 -2\n", "dev.txt, line 2: score of b is '-1 -2', expected a finite number"),
        ("a\t-1\nb -2\n", r"dev.txt, line 1: found 'a\\t-1', expected <stem> <score>"),
        ("a -1\n\nb -2\n", "dev.txt, line 2: found '', expected <stem> <score>"),
    ],
)
def test_scores_from_elsewhere_are_checked_by_line_and_file(
    tmp_path: Path, items: Path, text: str, message: str
) -> None:
    (tmp_path / "dev.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        read_submission(tmp_path / "dev.txt", items)


def test_a_score_file_that_is_not_there_is_named(tmp_path: Path, items: Path) -> None:
    with pytest.raises(InputError, match=r"dev.txt: no such file"):
        read_submission(tmp_path / "dev.txt", items)


def test_the_entry_point_writes_and_reads(tmp_path: Path, items: Path) -> None:
    (tmp_path / "dev.csv").write_text(LIKELIHOODS)
    command = [sys.executable, "-m", "eval.submission"]
    write = ["write", "--task", "lexical", "--split", "dev", "--items", items, "--likelihoods", tmp_path / "dev.csv"]
    subprocess.run([*command, *write, "--output", tmp_path / "mine"], check=True)
    read = ["read", "--scores", tmp_path / "mine/lexical/dev.txt", "--items", items, "--output", tmp_path / "back.csv"]
    done = subprocess.run([*command, *read], check=True, capture_output=True, text=True)
    assert done.stdout == f"{tmp_path / 'back.csv'}: 2 files\n"
    (tmp_path / "mine/lexical/dev.txt").write_text("a -1\n")
    done = subprocess.run([*command, *read], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
