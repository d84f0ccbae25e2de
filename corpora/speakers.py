"""Who speaks in a corpus, and of what gender; that no one speaks in training and in validation."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from artifacts.errors import InputError
from artifacts.files import read_csv, write_csv
from corpora.layouts import some

COLUMNS = ("speaker", "gender")
LIBRISPEECH_LINE = re.compile(r"(?P<speaker>\d+)\s*\|\s*(?P<gender>[FM])\s*\|.*")


def write_speakers(path: Path, speakers: Sequence[str], table: Path | None, genders: Mapping[str, str]) -> None:
    """Write speakers.csv; the gender is empty where no table tells it.

    Args:
        table: Where the genders are from, if from anywhere.
        genders: Of the speakers of that table.

    Raises:
        InputError: The table lacks a speaker.
    """
    missing = [speaker for speaker in speakers if speaker not in genders]
    if table is not None and missing:
        raise InputError(f"{table}: found no {some(missing)} of {len(speakers):,} speakers, expected all")
    write_csv(path, COLUMNS, ({"speaker": speaker, "gender": genders.get(speaker, "")} for speaker in speakers))


def read_genders(table: Path) -> dict[str, str]:
    """Genders from a table `speaker,gender`.

    Raises:
        InputError: It is missing or malformed.
    """
    return {row["speaker"]: row["gender"] for _, row in read_csv(table, COLUMNS)}


def librispeech_genders(table: Path) -> dict[str, str]:
    """Genders, `f` or `m`, from LibriSpeech's SPEAKERS.TXT: `14   | F | train-clean-360  | 25.03 | Kristin LeMoine`.

    Raises:
        InputError: It is missing, or a line that is no comment (`;`) has another form.
    """
    genders = {}
    try:
        lines = table.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise InputError(f"{table}: no such file, expected LibriSpeech's list of speakers") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.startswith(";"):
            continue
        match = LIBRISPEECH_LINE.fullmatch(line.strip())
        if match is None:
            raise InputError(f"{table}, line {number}: found {line[:40]!r}, expected <speaker> | <F or M> | ...")
        genders[match["speaker"]] = match["gender"].lower()
    return genders


def require_other_speakers(training: Iterable[str], validation: Iterable[str], where: str) -> None:
    """Raise an `InputError` if someone who speaks in training speaks in validation too.

    Args:
        where: What the speakers of the validation are from, for the message.
    """
    if shared := set(training) & set(validation):
        raise InputError(
            f"{where}: found {some(shared)} speakers that are trained on too, expected others for validation"
        )
