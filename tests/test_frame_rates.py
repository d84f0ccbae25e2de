"""Encoders of other frame rates than 50 Hz, from waveforms to ABX, MAP and the quality of units, on the same items."""

import json
from dataclasses import dataclass
from decimal import Decimal
from math import floor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from artifacts.errors import InputError
from artifacts.files import write_json
from artifacts.provenance import provenance
from corpora.annotate import annotate
from corpora.annotations import Interval, interval_writer
from corpora.manifest import Utterance, write_manifest
from eval.abx import Scored, score_abx
from eval.frames import feature_frames, unit_frames
from eval.labelled import AnnotatedUnits, read_labelled
from eval.map import score_map
from eval.paired import compare
from eval.quality import score_quality
from eval.scores import Subject
from eval.segments import Segment, frame_spans
from units.encoders import describe
from units.extract import extract
from units.kmeans import fit_quantizer
from units.quantizers import load_quantizer
from units.records import Vocabulary
from units.settings import CustomEncoder, KmeansQuantizer
from units.tokenize import tokenize_corpora

PITCHES = {"A": 500, "B": 900, "C": 1500, "D": 2400}
"""Hz of each phone of the corpus below, which is a tone."""

CODE = """
import numpy as np

class Spectrum:
    num_layers, tap, batch_samples = 1, "block", 0

    def __init__(self, hop, window, padded):
        self.hop, self.window, self.padded, self.frame_rate_hz = hop, window, padded, 16000 / hop

    def dim(self, layer):
        return 60

    def num_frames(self, num_samples):
        if self.padded:
            return -(-num_samples // self.hop)
        return max(0, (num_samples - self.window) // self.hop + 1)

    def features(self, waveforms, layers):
        count = self.num_frames(waveforms.shape[1])
        speech = np.pad(waveforms, ((0, 0), (0, self.window + self.hop)))
        frames = np.stack([speech[:, i * self.hop : i * self.hop + self.window] for i in range(count)], axis=1)
        spectrum = np.log(np.abs(np.fft.rfft(frames, 2560)[..., :420]) + 0.1)
        return {layer: spectrum.reshape(*spectrum.shape[:2], 60, 7).mean(-1).astype(np.float32) for layer in layers}

def load(hop, window, padded, device):
    return Spectrum(hop, window, padded)
"""


@dataclass(frozen=True)
class Corpus:
    """What an experiment has of a corpus, in one folder."""

    folder: Path

    @property
    def manifest(self) -> Path:
        return self.folder / "manifest.csv"


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """Tones of 22 to 110 ms, one after the other up to the end of the audio; each is a phone, and a word."""
    (tmp_path / "spectra_of_a_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)
    rng = np.random.default_rng(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    utterances, intervals = [], []
    for number in range(8):
        fileid, speaker, onset, tones = f"u{number}", f"s{number % 2}", 0.0, []
        while onset < 1.5:
            phone, length_s = str(rng.choice(list(PITCHES))), float(rng.choice([0.022, 0.031, 0.07, 0.11]))
            offset = round(onset + length_s, 3)
            intervals += [Interval(fileid, onset, offset, phone, tier, speaker) for tier in ("phones", "words")]
            time_s = np.arange(round(onset * 16_000), round(offset * 16_000)) / 16_000
            tones.append(np.sin(2 * np.pi * (PITCHES[phone] + 20 * (number % 2)) * time_s))
            onset = offset
        waveform = 0.3 * np.concatenate(tones) + 0.003 * rng.normal(size=sum(map(len, tones)))
        soundfile.write(folder / f"{fileid}.wav", waveform, 16_000)
        utterances.append(Utterance(fileid, folder / f"{fileid}.wav", len(waveform), speaker))
    write_manifest(folder / "manifest.csv", utterances)
    with interval_writer(tmp_path / "annotations.csv") as write:
        for tier in ("phones", "words"):
            write([interval for interval in intervals if interval.tier == tier])
    annotate(tmp_path / "annotations.csv", folder / "manifest.csv", folder)
    return Corpus(folder)


def scores_of(corpus: Corpus, folder: Path, hop: int, window: int, padded: bool) -> dict[str, dict[str, object]]:
    """Every score of features and units of one encoder, by ``<metric>.<condition>``."""
    options = {"hop": hop, "window": window, "padded": padded}
    config = describe(CustomEncoder(family="custom", loader="spectra_of_a_test:load", options=options, layers=[1]))
    write_json(folder / "spectrum" / "config.json", config)
    extract(folder / "spectrum", [1], corpus.manifest, folder / "features", "cpu")
    settings = KmeansQuantizer(kind="kmeans", num_units=12, fit="corpus")
    fit_quantizer(folder / "features" / "L01", settings, 0, folder / "kmeans12")
    tokenize_corpora(folder / "spectrum", [load_quantizer(folder / "kmeans12")], [corpus.manifest], folder / "units")
    units = folder / "units" / "spectrum-L01-kmeans12" / "corpus.jsonl"
    features, rate = feature_frames(folder / "features" / "L01"), 16_000 / hop
    subject = Subject(model="Spectrum", encoder="spectrum", layer=1)
    scores = folder / "scores"
    discrete = unit_frames(units, rate)
    for kind in ("phoneme", "triphone"):
        for source, metric, distance in (
            (features, "abx_continuous", "angular"),
            (discrete, "abx_units", "identical"),
        ):
            score_abx(
                corpus.folder / f"{kind}.item",
                [Scored(source, subject, scores)],
                metric=metric,
                distance=distance,
                speakers=["within", "across"],
                contexts=["any"],
                kind=kind,
                dataset="dev",
                device="cpu",
                seed=0,
            )
    words = corpus.folder / "words.csv"
    score_map(words, features, variant="strict", dataset="dev", subject=subject, seed=0, output=scores)
    annotated = AnnotatedUnits(units, corpus.manifest, corpus.folder / "intervals.csv")
    labelled = read_labelled([annotated], Vocabulary(12, rate))
    made = provenance({"frame_rate_hz": rate}, {})
    score_quality(labelled, dataset="dev", subject=subject, seed=0, output=scores, made=made)
    return {path.stem.replace(".dev", ""): json.loads(path.read_text()) for path in scores.glob("*.json")}


@pytest.mark.parametrize(
    ("hop", "window", "padded"),
    [(640, 1280, False), (640, 640, True), (1280, 2560, False), (1280, 1280, True), (160, 400, False)],
)
def test_an_encoder_of_another_rate_is_scored_on_the_items_of_one_of_50_hz(
    corpus: Corpus, tmp_path: Path, hop: int, window: int, padded: bool
) -> None:
    """25 and 12.5 Hz, of windows that lose frames at the end and of padded ones; and 100 Hz."""
    usual = scores_of(corpus, tmp_path / "usual", 320, 400, False)
    other = scores_of(corpus, tmp_path / "other", hop, window, padded)
    assert usual.keys() == other.keys()
    for name, score in other.items():
        metric = name.partition(".")[0]
        if metric.startswith(("abx", "map")):
            conditions, reference = score["conditions"], usual[name]["conditions"]
            assert score["n"] == usual[name]["n"]
            assert reference["num_nearest_frame"] == reference["num_cut_at_end"] == 0
            assert conditions["frame_rate_hz"] == 16_000 / hop
            coarse_item = hop > 320 and (metric == "map_words" or name.endswith("phoneme"))
            assert (conditions["num_nearest_frame"] > 0) == coarse_item, name
            assert (conditions["num_cut_at_end"] > 0) == (not padded), name
    folders = (tmp_path / "usual" / "scores", tmp_path / "other" / "scores")
    compared = compare(*(sorted(folder.glob("*.json")) for folder in folders))
    tested = [c for c in compared if c.metric.startswith(("abx", "map"))]
    assert len(tested) == 9
    assert {comparison.untested for comparison in tested} == {""}
    assert other["abx_continuous.within_any_phoneme"]["value"] < 0.45
    assert other["pnmi"]["value"] > 0.1


def nearest_frames(segment: Segment, num_frames: int, rate: Decimal) -> list[int]:
    """Oracle: all centres one by one; where none lies in the segment, the nearest to its middle, the later of two."""
    centres = [(i + Decimal("0.5")) / rate for i in range(num_frames)]
    held = [i for i, centre in enumerate(centres) if segment.onset <= centre <= segment.offset]
    middle = (segment.onset + segment.offset) / 2
    return held or [max(range(num_frames), key=lambda i: (-abs(centres[i] - middle), i))]


@given(
    st.integers(0, 2000),
    st.integers(1, 300),
    st.sampled_from([Decimal("12.5"), Decimal(25), Decimal(50), Decimal(100)]),
    st.integers(0, 2),
)
def test_a_segment_has_the_frames_whose_centres_it_holds_or_the_nearest_one(
    onset_ms: int, length_ms: int, rate: Decimal, lost: int
) -> None:
    onset, offset = Decimal(onset_ms) / 1000, Decimal(onset_ms + length_ms) / 1000
    segment = Segment("a", onset, offset, "AA", "s")
    num_frames = max(1, floor(offset * rate + Decimal("0.5")) - lost)
    spans = frame_spans(Path("some.item"), [segment], {"a": num_frames}, float(rate))
    assert list(range(*spans.frames[0])) == nearest_frames(segment, num_frames, rate)
    with_all = [i for i in range(1000) if onset <= (i + Decimal("0.5")) / rate <= offset]
    assert spans.num_nearest == (not with_all)
    assert spans.num_cut == (bool(with_all) and with_all[-1] >= num_frames)


def test_a_segment_three_frames_past_the_last_is_of_another_utterance() -> None:
    segments = [Segment("a", Decimal("0.3"), Decimal("0.48"), label, "s") for label in ("AA", "AE")]
    assert frame_spans(Path("some.item"), segments, {"a": 10}, 25.0).num_cut == 2
    expected = r"some\.item: 2 segments past the last frame at 25 Hz, the first AA of a at 0\.3 to 0\.48 s \(9 frames\)"
    with pytest.raises(InputError, match=expected + "; expected at most 2 frames more than there are"):
        frame_spans(Path("some.item"), segments, {"a": 9}, 25.0)


def labels_of(folder: Path, num_samples: int, num_frames: int, rate: float) -> int:
    """How many labels of 10 ms units of an utterance get."""
    folder.mkdir(exist_ok=True)
    (folder / "units.jsonl").write_text(json.dumps({"fileid": "a", "units": [1], "durations": [num_frames]}) + "\n")
    write_manifest(folder / "manifest.csv", [Utterance("a", folder / "a.wav", num_samples, "s")])
    with interval_writer(folder / "intervals.csv") as write:
        write([Interval("a", 0.0, 0.1, "AA", "phones", "s")])
    files = AnnotatedUnits(folder / "units.jsonl", folder / "manifest.csv", folder / "intervals.csv")
    return len(read_labelled([files], Vocabulary(2, rate)).utterances[0].units)


@pytest.mark.parametrize("hop", [160, 320, 640, 1280])
def test_units_may_differ_from_the_labels_by_two_of_their_frames(tmp_path: Path, hop: int) -> None:
    steps, num_samples = hop // 160, 16 * 1280
    exact = num_samples // hop
    assert labels_of(tmp_path, num_samples, exact - 2, 16_000 / hop) == (exact - 2) * steps
    assert labels_of(tmp_path, num_samples, exact + 2, 16_000 / hop) == exact * steps
    for wrong in (exact - 3, exact + 3):
        with pytest.raises(InputError, match=f"expected 128 give or take {2 * steps}, 2 frames of the units"):
            labels_of(tmp_path, num_samples, wrong, 16_000 / hop)
