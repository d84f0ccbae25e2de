r"""ZeroSpeech's score files (sLM21, prosAudit) from log-likelihoods, and log-likelihoods from such files of others.

    python -m eval.submission write --task lexical --split dev --items items.csv --likelihoods dev.csv --output theirs/
    python -m eval.submission read --scores theirs/lexical/dev.txt --items items.csv --output dev.csv

A submission holds ``lexical/dev.txt`` and ``syntactic/test.txt`` or ``english_dev.txt``: a line ``<stem> <score>`` a
file, one space between, no header, higher is better. Scores that were read are what `eval.swuggy` and its like take
with ``--normalization none``: as whoever made them normalised them.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, get_args

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_csv, write_csv
from eval.likelihoods import COLUMNS, Normalization, add_normalization, read_likelihoods, require_same_files

Task = Literal["lexical", "syntactic", "prosaudit"]
Split = Literal["dev", "test"]


def submission_path(folder: Path, task: Task, split: Split) -> Path:
    """Where a submission has the scores of one set."""
    return folder / f"english_{split}.txt" if task == "prosaudit" else folder / task / f"{split}.txt"


def write_submission(path: Path, likelihoods: Path, items: Path, normalization: Normalization) -> int:
    """Write the score of each file of a set, in the order of its items; gives their number.

    Args:
        path: The score file to write.
        likelihoods: CSV: ``fileid,log_likelihood,num_tokens``.
        items: items.csv of the set.

    Raises:
        InputError: A file without a likelihood, or a likelihood that is of no file, twice there or not finite.
    """
    scores = read_likelihoods(likelihoods, normalization)
    fileids = _fileids(items)
    require_same_files(items, set(fileids), likelihoods, set(scores))
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        # The shortest decimal form that reads back as the same number: rounding would make ties.
        file.writelines(f"{fileid} {scores[fileid]!r}\n" for fileid in fileids)
    return len(fileids)


def _fileids(items: Path) -> list[str]:
    return list(dict.fromkeys(row["fileid"] for _, row in read_csv(items, ("fileid",))))


def read_submission(path: Path, items: Path) -> dict[str, float]:
    """The score of each file of a set from a score file, in the order of the set's items.

    Raises:
        InputError: A line of another form, a score that is no finite number, a file that is missing, twice there or
            not in the set.
    """
    scores: dict[str, float] = {}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    for number, line in enumerate(lines, start=1):
        fileid, space, text = line.partition(" ")
        if not (fileid and space):
            raise InputError(f"{path}, line {number}: found {line[:60]!r}, expected <stem> <score>")
        if fileid in scores:
            raise InputError(f"{path}, line {number}: {fileid} occurs twice, expected one score a file")
        scores[fileid] = _finite(text, f"{path}, line {number}: score of {fileid}")
    fileids = _fileids(items)
    require_same_files(items, set(fileids), path, set(scores))
    return {fileid: scores[fileid] for fileid in fileids}


def _finite(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(f"{where} is {text!r}, expected a finite number")
    return value


def write_likelihoods(path: Path, scores: Mapping[str, float]) -> None:
    """Write scores that nothing divides any more: each as if of one token."""
    rows = ({"fileid": fileid, "log_likelihood": repr(score), "num_tokens": 1} for fileid, score in scores.items())
    write_csv(path, COLUMNS, rows)


def main() -> None:
    """Entry point: write or read one score file."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    actions = parser.add_subparsers(dest="action", required=True)
    write = actions.add_parser("write", help="log-likelihoods to a submission's score file")
    write.add_argument("--task", choices=get_args(Task), required=True, help="which benchmark the set is of")
    write.add_argument("--split", choices=get_args(Split), required=True, help="which split it is")
    write.add_argument("--likelihoods", type=Path, required=True, help="CSV: fileid,log_likelihood,num_tokens")
    add_normalization(write)
    write.add_argument("--output", type=Path, required=True, help="folder of the submission")
    read = actions.add_parser("read", help="a score file to log-likelihoods, each as if of one token")
    read.add_argument("--scores", type=Path, required=True, help="text file: <stem> <score> a line")
    read.add_argument("--output", type=Path, required=True, help="CSV: fileid,log_likelihood,num_tokens")
    for action in (write, read):
        action.add_argument("--items", type=Path, required=True, help="items.csv of the evaluation set")
    given = parser.parse_args()
    if given.action == "write":
        path = submission_path(given.output, given.task, given.split)
        count = write_submission(path, given.likelihoods, given.items, given.normalization)
    else:
        path = given.output
        scores = read_submission(given.scores, given.items)
        write_likelihoods(path, scores)
        count = len(scores)
    print(f"{path}: {count:,} files")


if __name__ == "__main__":
    run(main)
