"""Whom a path means where units are of other programs, and frames held against the samples of a manifest."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from units.interchange import FrameLength, Roster, stem


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.wav", "a"), ("a", "a"), ("/x/y.z/a.b.flac", "a.b"), ("a.", "a."), (".wav", ""), ("x/", "")],
)
def test_the_stem_is_the_last_part_of_a_path_without_its_extension(name: str, expected: str) -> None:
    assert stem(name) == expected


class TestNames:
    """Whom a path means where a manifest is given."""

    @pytest.fixture
    def roster(self, tmp_path: Path) -> Roster:
        places = {"one": "dr1/fcjf0/sa1.wav", "two": "dr2/fcjf0/sa1.wav", "three": "x/lone.wav", "four": "dr1/f/a.wav"}
        places |= {"five": "dr1/f/a.flac"}
        utterances = [Utterance(fileid, tmp_path / place, 3200, "s") for fileid, place in places.items()]
        write_manifest(tmp_path / "manifest.csv", utterances)
        return Roster(tmp_path / "manifest.csv")

    @pytest.mark.parametrize(
        ("name", "fileid"),
        [
            ("two", "two"),
            ("/elsewhere/dr1/fcjf0/sa1.flac", "one"),
            ("dr2/fcjf0/sa1", "two"),
            ("elsewhere/lone.flac", "three"),
            ("../dr1/f/a.wav", "four"),
            ("a.flac", "five"),
        ],
    )
    def test_a_name_is_a_fileid_or_the_nearest_path(self, roster: Roster, name: str, fileid: str) -> None:
        assert roster.fileid(name, "here") == fileid

    def test_equally_near_paths_are_an_error(self, roster: Roster) -> None:
        with pytest.raises(InputError, match=r"^here: found fcjf0/sa1.wav, which may be one or two, expected one utt"):
            roster.fileid("fcjf0/sa1.wav", "here")

    def test_nobody_is_an_error(self, roster: Roster) -> None:
        with pytest.raises(InputError, match=r"^here: found x/y.wav, expected an utterance of .*manifest.csv$"):
            roster.fileid("x/y.wav", "here")


class TestFrameLength:
    """Frames are held against samples without knowing the frame rate."""

    @pytest.mark.parametrize("hop", [160, 320, 640])
    @given(st.lists(st.integers(400, 2_000_000), max_size=20), st.data())
    def test_all_ways_of_cutting_frames_pass(self, hop: int, lengths: list[int], data: st.DataObject) -> None:
        frame_length = FrameLength()
        for num_samples in lengths:
            pieces, rest = divmod(num_samples, 1_600_000)  # as fairseq takes them
            cut = data.draw(st.sampled_from([0, hop, hop + 80]))  # centred, whole hops, the receptive field of HuBERT
            num_frames = pieces * (1_600_000 // hop - 1) + max(0, (rest - cut) // hop + 1)
            frame_length.check(num_frames, num_samples, "here")

    @given(st.integers(60_000, 200_000), st.floats(0.2, 0.8))
    def test_units_without_repetitions_do_not(self, num_samples: int, kept: float) -> None:
        frame_length = FrameLength()
        frame_length.check(500, 160_000, "here")
        with pytest.raises(
            InputError, match=r"^here: found \d+ frames for the [\d,]+ samples of the manifest, expected"
        ):
            frame_length.check(int(kept * num_samples / 320), num_samples, "here")
