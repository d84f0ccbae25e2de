"""Speakers: their genders, and that those of validation are not those of training."""

import sys
from pathlib import Path

import pytest

import slm.train
import spidr.train
from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from corpora.speakers import librispeech_genders, require_other_speakers, write_speakers

SPEAKERS_TXT = """;ID  |SEX| SUBSET           |MINUTES| NAME
; of this list no more than its form is taken
14   | F | train-clean-360  | 25.03 | Kristin LeMoine
16   | M | train-clean-360  | 25.11 | A. | B.
1272 | M | dev-clean        |  8.02 |
"""


def test_genders_are_read_from_librispeech_s_list(tmp_path: Path) -> None:
    table = tmp_path / "SPEAKERS.TXT"
    table.write_text(SPEAKERS_TXT)
    assert librispeech_genders(table) == {"14": "f", "16": "m", "1272": "m"}
    table.write_text(SPEAKERS_TXT + "17 | X | dev-clean\n")
    with pytest.raises(InputError, match=r"SPEAKERS.TXT, line 6: found '17 | X"):
        librispeech_genders(table)
    with pytest.raises(InputError, match=r"LIST.TXT: no such file"):
        librispeech_genders(tmp_path / "LIST.TXT")


def test_speakers_that_are_in_both_are_named(tmp_path: Path) -> None:
    require_other_speakers(["a", "b"], ["c"], "valid.csv")
    with pytest.raises(InputError, match=r"valid.csv: found 1 \(b\) speakers that are trained on too"):
        require_other_speakers(["a", "b", "b"], ["b", "c"], "valid.csv")


def test_an_encoder_is_not_validated_on_who_it_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, speakers in (("train", "ab"), ("valid", "bc")):
        write_manifest(tmp_path / f"{name}.csv", [Utterance(s, tmp_path / f"{s}.wav", 16000, s) for s in speakers])
    arguments = f"--train {tmp_path}/train.csv --validation {tmp_path}/valid.csv --output {tmp_path}/out"
    monkeypatch.setattr(sys, "argv", ["spidr.train", "--settings", "{}", *arguments.split()])
    with pytest.raises(InputError, match=r"valid.csv: found 1 \(b\) speakers that are trained on too"):
        spidr.train.main()


def test_a_language_model_is_not_validated_on_who_it_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, speakers in (("train", "ab"), ("valid", "bc")):
        write_speakers(tmp_path / f"{name}.csv", speakers, None, {})
    arguments = f"--tokens {tmp_path}/a --validation-tokens {tmp_path}/b --slm x --output {tmp_path}/out"
    arguments += f" --speakers {tmp_path}/train.csv --validation-speakers {tmp_path}/valid.csv"
    monkeypatch.setattr(sys, "argv", ["slm.train", "--settings", "{}", *arguments.split()])
    with pytest.raises(InputError, match=r"valid.csv: found 1 \(b\) speakers that are trained on too"):
        slm.train.main()
