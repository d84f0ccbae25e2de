"""The same units in every format, as the format's own program writes them."""

from pathlib import Path
from typing import get_args

import pytest

from corpora.manifest import Utterance, write_manifest
from units.interchange import Format
from units.records import UnitSequence

FORMS: tuple[Format, ...] = get_args(Format)

PUBLISHED: dict[Format, str] = {
    "units": '{"fileid": "84-121123-0000", "units": [5, 17, 5], "durations": [2, 1, 4]}\n'
    '{"fileid": "84-121123-0001", "units": [0], "durations": [3]}\n',
    # slamkit, example_data/features.jsonl
    "slamkit": '{"units": [5, 17, 5], "duration": [2, 1, 4], "file_name": "../data/audio/84-121123-0000.flac"}\n'
    '{"units": [0], "duration": [3], "file_name": "../data/audio/84-121123-0001.flac"}\n',
    # spidr, paper/results/units-kmeans-spidr-l6-dev-clean-and-other.jsonl.gz
    "spidr": '{"name":"84-121123-0000","units":[5,5,17,5,5,5,5]}\n{"name":"84-121123-0001","units":[0,0,0]}\n',
    # fastabx, tests/test_input_contracts.py: {"audio":"f.wav","units":[16777217,16777218]}
    "fastabx": '{"audio":"dir1/84-121123-0000.wav","units":[5,5,17,5,5,5,5]}\n'
    '{"audio":"dir2/84-121123-0001.wav","units":[0,0,0]}\n',
    # fairseq, what dump_km_label.py writes
    "km": "5 5 17 5 5 5 5\n0 0 0\n",
}
"""Lines as each format's own program writes them or has them in its tests."""
SEQUENCES = [
    UnitSequence("84-121123-0000", [5, 17, 5], [2, 1, 4]),
    UnitSequence("84-121123-0001", [0], [3]),
]


def manifest_of(folder: Path, utterances: dict[str, int], suffix: str = ".flac") -> Path:
    """A manifest of fileids and their numbers of frames of 320 samples, in folders by speaker."""
    path = folder / "manifest.csv"
    write_manifest(
        path,
        [Utterance(f, folder / "audio" / f[:2] / f"{f}{suffix}", 320 * n + 80, f[:2]) for f, n in utterances.items()],
    )
    return path


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    return manifest_of(tmp_path, {sequence.fileid: sequence.num_frames for sequence in SEQUENCES})
