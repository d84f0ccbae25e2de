"""All scores of an experiment in one tidy table, `scores.csv`."""

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from artifacts.errors import run
from artifacts.files import write_csv
from eval.scores import FIELDS, IDENTITY, add_names_argument, parse_names, read_scores


def collect(paths: Iterable[Path], names: Mapping[str, str] | None = None) -> list[dict[str, Any]]:
    """The scores as rows of `FIELDS`, sorted by everything that identifies them (empty before filled).

    Args:
        names: What models are called, by encoder.
    """
    scores = read_scores(paths, names)
    return sorted(({field: score[field] for field in FIELDS} for score in scores), key=_identity)


def _identity(score: Mapping[str, Any]) -> tuple[tuple[bool, Any], ...]:
    return tuple((score[field] is not None, score[field]) for field in IDENTITY)


def main() -> None:
    """Entry point: score files in, scores.csv out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="score JSON files")
    add_names_argument(parser)
    parser.add_argument("--output", type=Path, required=True, help="scores.csv")
    arguments = parser.parse_args()
    write_csv(arguments.output, FIELDS, collect(arguments.scores, parse_names(arguments.names)))


if __name__ == "__main__":
    run(main)
