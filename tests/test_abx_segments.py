"""The slicing of frames into ABX's segments, and item files that have no frames to slice."""

from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest
from abx_oracle import Corpus, abx_by_loops, angular, mean_of_pairs, score
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from eval.frames import feature_frames, gather
from eval.segments import frame_span, frame_spans, read_item
from units.features import FeatureWriter

times = st.decimals(0, 5, places=4)


@given(times, times, st.sampled_from([Decimal(50), Decimal(100), Decimal("49.95"), Decimal(25)]))
def test_a_frame_belongs_to_a_segment_when_its_centre_does(a: Decimal, b: Decimal, rate: Decimal) -> None:
    onset, offset = min(a, b), max(a, b)
    centres = [Fraction(2 * i + 1, 2) / Fraction(rate) for i in range(550)]
    inside = [i for i, centre in enumerate(centres) if Fraction(onset) <= centre <= Fraction(offset)]
    start, stop = frame_span(onset, offset, rate)
    assert list(range(start, stop)) == inside


def test_overlapping_segments_share_their_frames(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=3, overlap=True)
    segments = read_item(corpus.item)
    source = feature_frames(corpus.features)
    spans = frame_spans(corpus.item, segments, source.num_frames, source.frame_rate_hz).frames
    data, places = gather(source, segments, spans, lambda fileid, frames: frames, tmp_path / "frames")
    assert len(data) < (spans[:, 1] - spans[:, 0]).sum()
    assert len(data) == len({(s.fileid, i) for s, span in zip(segments, spans, strict=True) for i in range(*span)})
    for segment, span, place in zip(segments, spans, places, strict=True):
        assert (data[slice(*place)] == corpus.frames[segment.fileid][slice(*span)]).all()


def replaced(corpus: Corpus, old: str, new: str) -> None:
    text = corpus.item.read_text()
    assert old in text
    corpus.item.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("#phone", "phone", r"triphone\.item, line 1: found columns #file onset offset phone"),
        (" s-0\n", "\n", r"triphone\.item, line 2: found 6 fields, expected 7"),
        ("file-0 0.0200", "file-0 -0.02", r"triphone\.item, line 2: found -0.02 to .*expected 0 <= onset < offset"),
        ("file-0 0.0200", "file-0 soon", r"triphone\.item, line 2: found soon to"),
        ("file-0 0.0200", "file-9 0.0200", r"triphone\.item: 1 of its utterances have no frames: file-9"),
        ("file-0 0.0200 0", "file-0 0.0200 9", r"1 segments past the last frame at 50 Hz, the first .* of file-0"),
    ],
)
def test_a_bad_item_file_is_an_error_naming_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    corpus = Corpus(tmp_path, seed=0)
    replaced(corpus, old, new)
    with pytest.raises(InputError, match=message):
        score(corpus, tmp_path / "scores", "angular")


def test_a_segment_between_two_frames_is_scored_by_the_nearest_one(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=0)
    with corpus.item.open("a") as file:
        file.write("file-0 0.111 0.112 A D E s-0\n")  # between the centres of frames 5 and 6, 0.11 and 0.13
    corpus.tokens.append({"fileid": "file-0", "span": (5, 6), "phone": "A", "context": ("D", "E"), "speaker": "s-0"})
    found = score(corpus, tmp_path / "scores", "angular")
    for condition in ("within", "across"):
        expected = abx_by_loops(corpus.with_frames("angular"), condition == "across", False, angular)
        assert found[condition]["value"] == pytest.approx(mean_of_pairs(expected))
        assert found[condition]["conditions"]["num_nearest_frame"] == 1
        assert found[condition]["conditions"]["num_cut_at_end"] == 0


def test_features_that_are_no_probabilities_are_refused_for_the_kl_distance(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=0)
    with FeatureWriter(corpus.features, {"frame_rate_hz": 50.0}, "float32") as writer:
        for fileid, frames in corpus.frames.items():
            writer.write(fileid, frames * 2)
    with pytest.raises(InputError, match="file-0 has no probabilities"):
        score(corpus, tmp_path / "scores", "kl_symmetric")


def test_a_set_too_small_for_a_comparison_is_an_error(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=0)
    corpus.item.write_text("\n".join(corpus.item.read_text().splitlines()[:2]))
    with pytest.raises(InputError, match="no A, B and X within speakers in within context"):
        score(corpus, tmp_path / "scores", "angular")
