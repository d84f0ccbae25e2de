from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from corpora.annotations import Interval, format_seconds, frame_labels, interval_writer, read_intervals
from corpora.items import has_frames, phonemes, triphones

HEADER = "fileid,onset,offset,label,tier,speaker\n"


def phones(*spans: tuple[float, float, str]) -> list[Interval]:
    return [Interval("a", onset, offset, label, "phones", "s1") for onset, offset, label in spans]


def frame_label(intervals: list[Interval], frame: int, frame_rate_hz: float) -> str:
    """Oracle: look through all intervals for the one that holds the centre."""
    centre = (frame + 0.5) / frame_rate_hz
    return next((i.label for i in intervals if i.onset <= centre < i.offset), "SIL")


@st.composite
def utterances(draw: st.DrawFn) -> list[Interval]:
    times = sorted(draw(st.lists(st.integers(0, 100), unique=True, max_size=20)))
    spans = [(first / 100, second / 100, f"P{first}") for first, second in pairwise(times)]
    return phones(*(span for span in spans if draw(st.booleans())))


@given(utterances(), st.integers(0, 60), st.sampled_from([50, 100]))
def test_a_frame_has_the_label_of_the_interval_that_holds_its_centre(
    intervals: list[Interval], num_frames: int, rate: int
) -> None:
    expected = [frame_label(intervals, frame, rate) for frame in range(num_frames)]
    assert frame_labels(intervals, num_frames, rate) == expected


@given(st.floats(0, 1e5))
def test_a_time_is_written_without_exponent_and_reads_back(time_s: float) -> None:
    assert float(format_seconds(time_s)) == time_s
    assert "e" not in format_seconds(time_s)


def test_intervals_read_back_by_tier(tmp_path: Path) -> None:
    made = phones((0.0, 0.1, "SIL"), (0.1, 0.25, "AA"))
    words = [Interval("a", 0.1, 0.25, "ah", "words", "s1")]
    with interval_writer(tmp_path / "intervals.csv") as write:
        write(made)
        write(words)
    assert read_intervals(tmp_path / "intervals.csv", "phones") == {"a": made}
    assert read_intervals(tmp_path / "intervals.csv", "words") == {"a": words}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a,0.2,0.3,B,phones,s1", "line 3: found onset 0.2 s before the phones interval above it ends at 0.25 s"),
        ("a,0.3,0.3,B,phones,s1", "line 3: found the interval 0.3 to 0.3 s"),
        ("a,-0.3,0.3,B,phones,s1", "line 3: onset: found '-0.3'"),
        ("a,0.3,nan,B,phones,s1", "line 3: offset: found 'nan'"),
        ("a,0.3,half,B,phones,s1", "line 3: offset: found 'half'"),
        ("a,0.3,0.4,,phones,s1", "line 3: label"),
        ("a,0.3,0.4,B,phone,s1", "line 3: tier: found 'phone', expected phones or words"),
    ],
)
def test_a_bad_interval_is_named_by_file_and_line(tmp_path: Path, row: str, message: str) -> None:
    path = tmp_path / "intervals.csv"
    path.write_text(HEADER + "a,0.1,0.25,AA,phones,s1\n" + row + "\n")
    with pytest.raises(InputError, match=message):
        read_intervals(path, "phones")


def test_a_triphone_spans_its_neighbours_and_has_no_silence_in_it() -> None:
    made = phones((0, 1, "SIL"), (1, 2, "K"), (2, 3, "AE"), (3, 4, "T"), (4, 5, "S"), (5, 6, "SIL"), (6, 7, "AH"))
    found = [(i.onset, i.offset, i.previous, i.phone, i.next) for i in triphones(made)]
    assert found == [(1, 4, "K", "AE", "T"), (2, 5, "AE", "T", "S")]


def test_a_phoneme_spans_itself_and_has_silence_beside_it_at_an_edge_or_a_gap() -> None:
    made = phones((0, 1, "K"), (1, 2, "AE"), (3, 4, "T"), (4, 5, "SIL"))
    found = [(i.onset, i.offset, i.previous, i.phone, i.next) for i in phonemes(made)]
    assert found == [(0, 1, "SIL", "K", "AE"), (1, 2, "K", "AE", "SIL"), (3, 4, "SIL", "T", "SIL")]


def frames_of(onset: float, offset: float) -> list[int]:
    """Oracle: fastabx's rule over more frames than there are."""
    return [frame for frame in range(1000) if onset <= (frame + 0.5) / 50 <= offset]


@given(st.integers(0, 300), st.integers(1, 100), st.integers(400, 40_000))
def test_an_item_is_covered_where_the_features_have_all_its_frames(start: int, length: int, num_samples: int) -> None:
    onset, offset = start / 100, (start + length) / 100
    wanted = frames_of(onset, offset)
    present = range((num_samples - 400) // 320 + 1)
    covered = bool(wanted) and all(frame in present for frame in wanted)
    assert has_frames(Interval("a", onset, offset, "AA", "phones", "s1"), num_samples) == covered
