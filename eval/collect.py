"""All scores of an experiment in one tidy table, `scores.csv`."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import write_csv
from eval.scores import FIELDS, IDENTITY, read_scores


def collect(paths: Iterable[Path]) -> list[dict[str, Any]]:
    """The scores as rows of `FIELDS`, sorted by everything that identifies them (empty before filled)."""
    scores = read_scores(paths)
    return sorted(({field: score[field] for field in FIELDS} for score in scores), key=_identity)


def _identity(score: Mapping[str, Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((score[field] is not None, score[field]) for field in IDENTITY)


def listed_paths(file: Path) -> list[Path]:
    """The paths a text file lists, one a line, in its order.

    Raises:
        InputError: No such file.
    """
    try:
        return [Path(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    except FileNotFoundError:
        raise InputError(f"{file}: no such file") from None


def main() -> None:
    """Entry point: score files in, scores.csv out."""
    parser = argparse.ArgumentParser(description=__doc__)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--scores", type=Path, nargs="+", help="score JSON files")
    where.add_argument("--scores-from", type=Path, help="text file that lists them, one a line")
    parser.add_argument("--output", type=Path, required=True, help="scores.csv")
    arguments = parser.parse_args()
    paths = arguments.scores or listed_paths(arguments.scores_from)
    write_csv(arguments.output, FIELDS, collect(paths))


if __name__ == "__main__":
    run(main)
