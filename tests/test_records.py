"""Units are run-length encoded without loss, and a malformed file says where."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from units.records import UnitSequence, read_units, read_vocabulary, run_length, write_units

FRAMES = st.lists(st.integers(0, 3), max_size=30)


@given(FRAMES)
def test_expanding_a_run_length_encoding_gives_the_frames_back(frames: list[int]) -> None:
    units, durations = run_length(np.array(frames, dtype=np.int64))
    assert UnitSequence("u", units, durations).frames().tolist() == frames
    assert all(a != b for a, b in pairwise(units))
    assert all(duration > 0 for duration in durations)


@given(st.lists(FRAMES, max_size=5))
def test_a_written_file_reads_back(tmp_path_factory: pytest.TempPathFactory, utterances: list[list[int]]) -> None:
    path = tmp_path_factory.mktemp("units") / "dev.jsonl"
    sequences = [UnitSequence(f"u{i}", *run_length(np.array(frames))) for i, frames in enumerate(utterances)]
    write_units(path, sequences)
    assert list(read_units(path)) == sequences


def test_a_line_is_exactly_this(tmp_path: Path) -> None:
    write_units(tmp_path / "dev.jsonl", [UnitSequence("61-70968-0003", [5, 17, 5], [2, 1, 4])])
    expected = '{"fileid": "61-70968-0003", "units": [5, 17, 5], "durations": [2, 1, 4]}\n'
    assert (tmp_path / "dev.jsonl").read_text() == expected


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({"fileid": "b", "units": [1]}, "found keys fileid, units, expected also durations"),
        ({"fileid": 3, "units": [1], "durations": [1]}, "fileid: found 3, expected a name"),
        ({"fileid": "a", "units": [1], "durations": [1]}, "fileid a again, first on line 1"),
        ({"fileid": "b", "units": [-1], "durations": [1]}, "units: found"),
        ({"fileid": "b", "units": [True], "durations": [1]}, "units: found"),
        ({"fileid": "b", "units": [1], "durations": [0]}, "durations: found"),
        ({"fileid": "b", "units": [1, 2], "durations": [1]}, "found 1 durations, expected one for each of 2"),
        ({"fileid": "b", "units": [1, 1], "durations": [1, 1]}, "found a unit twice in a row"),
    ],
)
def test_a_malformed_record_is_named_by_file_and_line(tmp_path: Path, record: dict[str, object], message: str) -> None:
    path = tmp_path / "dev.jsonl"
    path.write_text(json.dumps({"fileid": "a", "units": [1], "durations": [1]}) + "\n" + json.dumps(record) + "\n")
    with pytest.raises(InputError, match=rf"dev\.jsonl, line 2: {message}"):
        list(read_units(path))


def test_the_vocabulary_is_read_from_whatever_made_the_units(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text('{"kind": "kmeans", "num_units": 50, "frame_rate_hz": 50}')
    assert read_vocabulary(path) == (50, 50.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"num_units": 50}', "frame_rate_hz: found None, expected a positive number"),
        ('{"num_units": 50.0, "frame_rate_hz": 50.0}', "num_units: found 50.0, expected a positive whole number"),
        ('{"num_units": true, "frame_rate_hz": 50.0}', "num_units: found True, expected"),
        ('{"num_units": 50, "frame_rate_hz": 0}', "frame_rate_hz: found 0, expected"),
        ("[]", r"found \[\], expected a JSON object"),
    ],
)
def test_a_wrong_vocabulary_is_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_text(text)
    with pytest.raises(InputError, match=f"config.json: {message}"):
        read_vocabulary(path)
