"""Log-likelihoods of a language model, one a file of an evaluation set: read, checked, normalised."""

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from artifacts.errors import InputError
from artifacts.files import read_csv, read_json_object, sha256

COLUMNS = ("fileid", "log_likelihood", "num_tokens")

SCORING = ("eos", "precision", "long", "context", "stride")
"""How `slm.score` made them: whether EOS counts, the precision of the model, what became of long utterances."""

Normalization = Literal["tokens", "none"]

NAMED = 3  # how many of many a message names


def read_likelihoods(path: Path, normalization: Normalization) -> dict[str, float]:
    """Log-likelihood of each file, in nats: a token where normalised by ``tokens``, the sum for ``none``.

    Raises:
        InputError: A duplicate file, or a value that is not a finite number, with its line.
    """
    likelihoods: dict[str, float] = {}
    for line, row in read_csv(path, COLUMNS):
        fileid = row["fileid"]
        if fileid in likelihoods:
            raise InputError(f"{path}, line {line}: {fileid} occurs twice, expected one log-likelihood a file")
        num_tokens = number(path, line, row, "num_tokens")
        if num_tokens < 1 or not num_tokens.is_integer():
            raise InputError(f"{path}, line {line}: num_tokens of {fileid} is {num_tokens:g}, expected 1 or more")
        log_likelihood = number(path, line, row, "log_likelihood")
        likelihoods[fileid] = log_likelihood / num_tokens if normalization == "tokens" else log_likelihood
    return likelihoods


def read_scoring(path: Path) -> dict[str, Any] | None:
    """How log-likelihoods were made, from the record ``<set>.json`` beside the table ``<set>.csv``.

    Returns:
        What `SCORING` names; None where there is no record, as of a table made elsewhere.

    Raises:
        InputError: What is there is no such record, or one of another table.
    """
    record = path.with_suffix(".json")
    if not record.is_file():
        return None
    found = read_json_object(record)
    if missing := [key for key in (*SCORING, "table_sha256") if key not in found]:
        raise InputError(f"{record}: found no key {', '.join(missing)}, expected the record of {path}, or no such file")
    if found["table_sha256"] != sha256(path):
        raise InputError(f"{record}: found the record of another table, expected that of {path}, or no such file")
    return {key: found[key] for key in SCORING}


def number(path: Path, line: int, row: Mapping[str, str], column: str) -> float:
    """The finite number in `column` of a row.

    Raises:
        InputError: There is none.
    """
    try:
        value = float(row[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{path}, line {line}: {column} of {row['fileid']} is {row[column]!r}, expected a finite number"
        )
    return value


def require_same_files(items: Path, expected: set[str], likelihoods: Path, found: set[str]) -> None:
    """Check that each file of a set has a log-likelihood, and that there is none of any other.

    Raises:
        InputError: Some are missing, or too many; they are counted and the first few named.
    """
    if missing := sorted(expected - found):
        raise InputError(f"{likelihoods}: no log-likelihood for {named(missing)} of {items}")
    if extra := sorted(found - expected):
        raise InputError(f"{likelihoods}: log-likelihood for {named(extra)} not in {items}")


def named(names: Sequence[str]) -> str:
    """How many files there are, and the first few of them."""
    more = ", ..." if len(names) > NAMED else ""
    return f"{len(names)} file(s) ({', '.join(names[:NAMED])}{more})"


def add_normalization(parser: argparse.ArgumentParser) -> None:
    """The argument ``--normalization``."""
    parser.add_argument(
        "--normalization",
        choices=get_args(Normalization),
        default="tokens",
        help="divide log-likelihoods by the number of predicted tokens, or not (default tokens)",
    )
