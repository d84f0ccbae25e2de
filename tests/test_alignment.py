"""The alignment figure: which utterance, where the boxes lie, what is written, and wrong input."""

import json
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from corpora.annotations import Interval, interval_writer
from corpora.manifest import Utterance, write_manifest
from eval.alignment import (
    HUES,
    Box,
    Lane,
    choose_utterance,
    draw_alignment,
    interval_boxes,
    spectrogram,
    unit_boxes,
    unit_colours,
)
from eval.ipa import ipa
from units.records import UnitSequence, write_units

RATE = 16000


def utterance(fileid: str, duration_s: float) -> Utterance:
    return Utterance(fileid, Path(f"{fileid}.wav"), round(duration_s * RATE), "s1")


def test_the_utterance_is_the_first_by_fileid_of_two_to_four_seconds() -> None:
    corpus = [utterance("c", 3.0), utterance("b", 4.0), utterance("a", 1.9), utterance("d", 2.0)]
    assert choose_utterance(corpus).fileid == "b"
    assert choose_utterance(reversed(corpus)).fileid == "b"


def test_where_none_is_of_that_length_it_is_the_nearest_to_three_seconds() -> None:
    corpus = [utterance("a", 1.0), utterance("b", 4.5), utterance("c", 9.0), utterance("d", 1.5)]
    assert choose_utterance(corpus).fileid == "b"  # as near as d, and before it


def test_a_box_lasts_as_many_frames_as_its_unit() -> None:
    units = UnitSequence("a", [7, 3, 7], [2, 1, 5])
    assert unit_boxes(units, 50.0) == [Box(0.0, 0.04, "7"), Box(0.04, 0.06, "3"), Box(0.06, 0.16, "7")]
    assert unit_boxes(units, 100.0)[-1] == Box(0.03, 0.08, "7")


def test_phones_are_written_in_ipa_and_silence_is_left_out() -> None:
    labels = ["SIL", "DH", "AH0", "AH1", "unheard of", "<sp>"]
    intervals = [Interval("a", i, i + 1, label, "phones", "s1") for i, label in enumerate(labels)]
    assert [box.text for box in interval_boxes(intervals)] == ["ð", "ə", "ʌ", "unheard of", "<sp>"]
    assert [ipa(label) for label in ("ER0", "ER1", "ER", "NG", "EY2")] == ["ɚ", "ɝ", "ɝ", "ŋ", "eɪ"]


def test_a_word_is_no_phone() -> None:
    assert interval_boxes([Interval("a", 0.5, 1.0, "K", "words", "s1")]) == [Box(0.5, 1.0, "K")]


def test_equal_units_have_equal_colours_and_neighbours_other_hues() -> None:
    units = [0, 8, 16, 0, 5, 13, 5, 100, 0]
    colours = unit_colours(units)
    assert set(colours) == set(units)
    for before, after in pairwise(units):
        assert colours[before] != colours[after]
    assert unit_colours([3, 4]) == {3: HUES[3].lower(), 4: HUES[4].lower()}


def test_a_tone_is_loudest_at_its_frequency_and_its_time() -> None:
    time_s = np.arange(2 * RATE) / RATE
    tone = np.where(time_s < 1, 0.1, 1.0) * np.sin(2 * np.pi * 3000 * time_s)
    powers, (first_s, last_s, low_hz, high_hz) = spectrogram(tone.astype(np.float32))
    frequency, time = np.unravel_index(powers.argmax(), powers.shape)
    assert powers.max() == 0
    assert low_hz + (frequency + 0.5) * (high_hz - low_hz) / powers.shape[0] == pytest.approx(3000, abs=20)
    assert first_s + (time + 0.5) * (last_s - first_s) / powers.shape[1] > 1
    assert high_hz == pytest.approx(8000, abs=20)
    assert last_s == pytest.approx(2, abs=0.01)


def test_silence_can_be_drawn() -> None:
    powers, _ = spectrogram(np.zeros(RATE, np.float32))
    assert np.isfinite(powers).all()


def test_everything_stands_on_one_axis_of_seconds_and_numbers_stand_where_they_fit() -> None:
    lanes = [
        Lane("phones", "phones", [Box(0.1, 0.13, "dʒ"), Box(0.13, 1.4, "i")]),
        Lane("a system", "units", [Box(0.0, 0.02, "88"), Box(0.02, 1.0, "5"), Box(1.0, 1.5, "88")]),
    ]
    figure = draw_alignment(np.ones(RATE * 3 // 2, np.float32), lanes)
    assert {axes.get_xlim() for axes in figure.axes} == {(0.0, 1.5)}
    spectrum, phones, units = figure.axes
    assert [patch.get_x() for patch in units.patches] == [0.0, 0.02, 1.0]  # type: ignore[attr-defined]
    assert [text.get_text() for text in units.texts] == ["5", "88"]
    assert [text.get_text() for text in phones.texts] == ["dʒ", "i"]
    assert sorted({line.get_xdata()[0] for line in spectrum.lines}) == [0.1, 0.13, 1.4]  # type: ignore[index]


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A corpus ``dev`` of two utterances, one of them annotated, and units of both."""
    folder = tmp_path / "corpora" / "dev"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    utterances = []
    for fileid in ("a", "b"):
        soundfile.write(folder / f"{fileid}.wav", 0.1 * rng.standard_normal(2 * RATE), RATE)
        utterances.append(Utterance(fileid, folder / f"{fileid}.wav", 2 * RATE, "s1"))
    write_manifest(folder / "manifest.csv", utterances)
    with interval_writer(folder / "intervals.csv") as write:
        write([Interval("b", 0.0, 0.5, "SIL", "phones", "s1"), Interval("b", 0.5, 1.5, "AA", "phones", "s1")])
        write([Interval("b", 0.5, 1.5, "ah", "words", "s1")])
    write_units(tmp_path / "dev.jsonl", [UnitSequence(fileid, [1, 2], [40, 59]) for fileid in ("a", "b")])
    (tmp_path / "config.json").write_text(json.dumps({"num_units": 3, "frame_rate_hz": 50}))
    return tmp_path


def draw(corpus: Path, **changed: Any) -> subprocess.CompletedProcess[str]:
    folder = corpus / "corpora" / "dev"
    options = {
        "manifest": folder / "manifest.csv",
        "intervals": folder / "intervals.csv",
        "systems": "A system",
        "units": corpus / "dev.jsonl",
        "vocabularies": corpus / "config.json",
        "output": corpus / "figures" / "alignment",
    }
    arguments = [part for name, value in (options | changed).items() for part in (f"--{name}", str(value))]
    return subprocess.run([sys.executable, "-m", "eval.alignment", *arguments], capture_output=True, text=True)


def test_the_figure_is_written_twice_with_what_it_shows_beside_it(corpus: Path) -> None:
    done = draw(corpus)
    assert (done.returncode, done.stderr) == (0, "")
    assert (corpus / "figures/alignment.pdf").read_bytes().startswith(b"%PDF")
    assert (corpus / "figures/alignment.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads((corpus / "figures/alignment.json").read_text()) == {
        **{"corpus": "dev", "fileid": "b", "speaker": "s1", "duration_s": 2.0, "words": ["ah"], "num_phones": 1},
        "systems": [{"name": "A system", "num_units": 2}],
    }


def test_wrong_input_is_one_line_and_no_figure(corpus: Path) -> None:
    write_units(corpus / "others.jsonl", [UnitSequence("a", [1], [99])])
    empty = corpus / "empty.csv"
    empty.write_text("fileid,onset,offset,label,tier,speaker\n")
    for changed, message in (
        ({"units": corpus / "others.jsonl"}, f"{corpus}/others.jsonl: found no units of b, expected those of every"),
        ({"intervals": empty}, f"{empty}: found no phones of an utterance of"),
        ({"manifest": "absent.csv"}, "absent.csv: no such file"),
        ({"vocabularies": corpus / "absent.json"}, "absent.json: no such file"),
    ):
        done = draw(corpus, **changed)
        assert done.returncode == 2
        assert message in done.stderr
        assert done.stderr.count("\n") == 1
        assert not list(corpus.glob("figures/*"))


def test_as_many_names_as_systems_are_expected(corpus: Path) -> None:
    folder = corpus / "corpora" / "dev"
    command = [sys.executable, "-m", "eval.alignment", "--manifest", str(folder / "manifest.csv")]
    command += ["--intervals", str(folder / "intervals.csv"), "--systems", "one", "--output", str(corpus / "x")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert "--systems, --units, --vocabularies: found 1, 0 and 0, expected as many of each" in done.stderr
