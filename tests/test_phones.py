"""The phones of the annotation, as units at 100 Hz."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError
from corpora.annotations import Interval, frame_labels
from corpora.manifest import Utterance, write_manifest
from units.phones import inventory, read_phones, tokenize
from units.records import UnitSequence, read_units

HEADER = "fileid,onset,offset,label,tier,speaker\n"


@pytest.fixture
def annotation(tmp_path: Path) -> Path:
    """60 ms of speech: 10 ms of silence, AH, 10 ms that nobody labelled, B; and a word, which is no phone."""
    path = tmp_path / "intervals.csv"
    path.write_text(
        HEADER + "a,0.0,0.01,SIL,phones,s\na,0.01,0.03,AH,phones,s\na,0.04,0.06,B,phones,s\na,0.01,0.06,about,words,s\n"
    )
    return path


def phone(onset: float, offset: float, label: str) -> Interval:
    return Interval("a", onset, offset, label, "phones", "s")


def speech(num_samples: int, fileid: str = "a") -> Utterance:
    return Utterance(fileid, Path("a.wav"), num_samples, "s")


def test_the_inventory_is_every_phone_once_and_silence(annotation: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text(HEADER + "b,0,1,AA,phones,s\nb,1,2,B,phones,s\n")
    assert inventory([annotation, other]) == ["AA", "AH", "B", "SIL"]
    assert inventory([other]) == ["AA", "B", "SIL"]


def test_frames_are_the_labels_of_their_centres(annotation: Path) -> None:
    intervals = {"a": [phone(0.01, 0.026, "AH"), phone(0.026, 0.044, "B")]}
    phones = ["AH", "B", "SIL"]
    (sequence,) = tokenize([speech(16000 * 5 // 100)], intervals, phones)
    assert sequence == UnitSequence("a", [2, 0, 1, 2], [1, 2, 1, 1])
    assert [phones[unit] for unit in sequence.frames()] == frame_labels(intervals["a"], 5, 100.0)


def test_an_unknown_phone_or_an_utterance_without_phones_is_named() -> None:
    with pytest.raises(InputError, match="a: found phone 'ZH', expected one of AH SIL"):
        list(tokenize([speech(1600)], {"a": [phone(0, 0.1, "ZH")]}, ["AH", "SIL"]))
    with pytest.raises(InputError, match="b: found no phones in the annotation"):
        list(tokenize([speech(1600, "b")], {"a": [phone(0, 0.1, "AH")]}, ["AH", "SIL"]))


def run(*options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-m", "units.phones", *map(str, options)], capture_output=True, text=True)


def test_the_commands_make_an_inventory_and_units(annotation: Path, tmp_path: Path) -> None:
    folder = tmp_path / "phones"
    done = run("inventory", "--intervals", annotation, "--output", folder / "config.json")
    assert done.returncode == 0, done.stderr
    config = json.loads((folder / "config.json").read_text())
    assert (config["family"], config["frame_rate_hz"], config["num_units"]) == ("phones", 100.0, 3)
    assert read_phones(folder) == ["AH", "B", "SIL"]
    write_manifest(tmp_path / "manifest.csv", [speech(960)])
    options = ["--encoder", folder, "--intervals", annotation, "--manifest", tmp_path / "manifest.csv"]
    done = run("tokenize", *options, "--output", tmp_path / "dev.jsonl")
    assert done.returncode == 0, done.stderr
    assert list(read_units(tmp_path / "dev.jsonl")) == [UnitSequence("a", [2, 0, 2, 1], [1, 2, 1, 2])]
    assert config["intervals"] == [str(annotation)]
    annotation.write_text(annotation.read_text().replace(",AH,", ",ZH,"))  # of a corpus that came later
    done = run("tokenize", *options, "--output", tmp_path / "dev.jsonl")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        f"error: {annotation}: a: found phone 'ZH', expected one of AH B SIL: the phones of {folder}/config.json; "
        "remove that file and start again: the inventory is taken anew, and what was trained on the old one is trained "
        "anew"
    ]


def test_an_encoder_of_another_family_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"family": "mfcc"}')
    with pytest.raises(InputError, match=r"config\.json: family: found 'mfcc', expected 'phones'"):
        read_phones(tmp_path)


@pytest.mark.parametrize(("num_samples", "num_frames"), [(79, 0), (80, 1), (239, 1), (240, 2), (16080, 101)])
def test_there_is_a_frame_for_every_centre_in_the_audio(num_samples: int, num_frames: int) -> None:
    (sequence,) = tokenize([speech(num_samples)], {"a": [phone(0, 0.001, "AH")]}, ["AH", "SIL"])
    assert sum(sequence.durations) == num_frames
