"""ABX against an oracle of plain loops with its own alignment, and the slicing of frames."""

import csv
import json
import subprocess
import sys
from collections import Counter
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import InputError
from eval.abx import Scored, condition_name, score_abx
from eval.frames import FrameSource, feature_frames, gather, unit_frames
from eval.scores import Subject
from eval.segments import frame_span, frame_spans, read_item
from units.features import FeatureWriter
from units.records import UnitSequence, run_length, write_units

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6)
HEADER = "#file onset offset #phone prev-phone next-phone speaker"

times = st.decimals(0, 5, places=4)


@given(times, times, st.sampled_from([Decimal(50), Decimal(100), Decimal("49.95"), Decimal(25)]))
def test_a_frame_belongs_to_a_segment_when_its_centre_does(a: Decimal, b: Decimal, rate: Decimal) -> None:
    onset, offset = min(a, b), max(a, b)
    centres = [Fraction(2 * i + 1, 2) / Fraction(rate) for i in range(550)]
    inside = [i for i, centre in enumerate(centres) if Fraction(onset) <= centre <= Fraction(offset)]
    start, stop = frame_span(onset, offset, rate)
    assert list(range(start, stop)) == inside


def align(a: np.ndarray, b: np.ndarray, distance: Any) -> float:
    """Dynamic time warping: least total distance along a path, divided by the path's length."""
    cost = [[distance(x, y) for y in b] for x in a]
    total = np.full((len(a), len(b)), np.inf)
    for i in range(len(a)):
        for j in range(len(b)):
            steps = [(i - 1, j - 1), (i - 1, j), (i, j - 1)]
            total[i, j] = cost[i][j] + (min(total[s] for s in steps if min(s) >= 0) if i or j else 0.0)
    i, j, length = len(a) - 1, len(b) - 1, 1
    while i or j:
        steps = [s for s in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if min(s) >= 0]
        i, j = min(steps, key=lambda s: total[s])
        length += 1
    return total[-1, -1] / length


def angular(x: np.ndarray, y: np.ndarray) -> float:
    return float(np.arccos(np.clip(x @ y / np.linalg.norm(x) / np.linalg.norm(y), -1, 1)) / np.pi)


def kl_symmetric(x: np.ndarray, y: np.ndarray) -> float:
    return 0.5 * sum((p - q) * (np.log(p + 1e-6) - np.log(q + 1e-6)) for p, q in zip(x, y, strict=True))


def identical(x: np.ndarray, y: np.ndarray) -> float:
    return float(x[0] != y[0])


DISTANCES = {"angular": angular, "kl_symmetric": kl_symmetric, "identical": identical}


def abx_by_loops(
    tokens: list[dict[str, Any]], across: bool, any_context: bool, distance: Any
) -> dict[tuple[str, str, str], float]:
    """Error of each (A's phone, B's phone, A's speaker): every triple of every cell, averaged cell by cell."""
    cells: dict[tuple[str, ...], list[float]] = {}
    known: dict[tuple[int, int], float] = {}

    def apart(i: int, j: int) -> float:
        if (i, j) not in known:
            known[i, j] = align(tokens[i]["frames"], tokens[j]["frames"], distance)
        return known[i, j]

    for i, a in enumerate(tokens):
        for j, b in enumerate(tokens):
            for k, x in enumerate(tokens):
                same_context = any_context or a["context"] == b["context"] == x["context"]
                phones = a["phone"] == x["phone"] != b["phone"]
                speakers = a["speaker"] == b["speaker"] and (x["speaker"] != a["speaker"]) == across
                if i == k or not (same_context and phones and speakers):
                    continue
                context = () if any_context else a["context"]
                key = (a["phone"], b["phone"], a["speaker"], x["speaker"], *context)
                difference = apart(k, i) - apart(k, j)
                error = 0.5 if abs(difference) < 1e-6 else float(difference > 0)
                cells.setdefault(key, []).append(error)
    groups: dict[tuple[str, str, str], list[float]] = {}
    for key, errors in cells.items():
        groups.setdefault(key[:3], []).append(sum(errors) / len(errors))
    return {key: sum(scores) / len(scores) for key, scores in groups.items()}


def mean_of_pairs(groups: dict[tuple[str, str, str], float]) -> float:
    pairs: dict[tuple[str, str], list[float]] = {}
    for (a, b, _), score in groups.items():
        pairs.setdefault((a, b), []).append(score)
    return sum(sum(scores) / len(scores) for scores in pairs.values()) / len(pairs)


class Corpus:
    """A few files of random frames with segments of 2 to 4 phones in 2 contexts by 3 speakers."""

    def __init__(self, folder: Path, seed: int, *, hyphen: bool = False, overlap: bool = False) -> None:
        rng = np.random.default_rng(seed)
        phones = ["A", "B-C", "B"] if hyphen else ["A", "B", "C"]
        contexts = [("C-D", "E"), ("C", "D-E")] if hyphen else [("D", "E"), ("F", "G")]
        self.frames: dict[str, np.ndarray] = {}
        self.units: dict[str, np.ndarray] = {}
        self.tokens: list[dict[str, Any]] = []
        rows = []
        for file in range(6):
            fileid, speaker = f"file-{file}", f"s-{file % 3}"
            frames = rng.normal(size=(40, 5))
            place = 1
            while place < 24:
                phone = int(rng.integers(3))
                length = int(rng.integers(1, 4))
                frames[place : place + length, phone] += 1.5
                context = contexts[int(rng.integers(2))]
                rows.append((fileid, place / 50, (place + length) / 50, phones[phone], *context, speaker))
                self.tokens.append({"fileid": fileid, "span": (place, place + length), "phone": phones[phone]})
                self.tokens[-1] |= {"context": context, "speaker": speaker}
                place += 1 if overlap else length
            probabilities = np.exp(frames)
            self.frames[fileid] = (probabilities / probabilities.sum(1, keepdims=True)).astype(np.float32)
            self.units[fileid] = frames.argmax(1)
        self.item = folder / "triphone.item"
        lines = [f"{r[0]} {r[1]:.4f} {r[2]:.4f} {r[3]} {r[4]} {r[5]} {r[6]}" for r in rows]
        self.item.write_text("\n".join([HEADER, *lines]) + "\n")
        self.features = folder / "features"
        with FeatureWriter(self.features, {"frame_rate_hz": 50.0}, "float32") as writer:
            for fileid, frames in self.frames.items():
                writer.write(fileid, frames)
        self.units_path = folder / "units.jsonl"
        write_units(self.units_path, (UnitSequence(f, *run_length(units)) for f, units in self.units.items()))

    def with_frames(self, distance: str) -> list[dict[str, Any]]:
        chosen = {f: u[:, None] for f, u in self.units.items()} if distance == "identical" else self.frames
        return [token | {"frames": chosen[token["fileid"]][slice(*token["span"])]} for token in self.tokens]

    def source(self, distance: str) -> FrameSource:
        return unit_frames(self.units_path, 50.0) if distance == "identical" else feature_frames(self.features)


def score(
    corpus: Corpus, folder: Path, distance: str, context: str = "within", **others: Any
) -> dict[str, dict[str, Any]]:
    score_abx(
        corpus.item,
        [Scored(corpus.source(distance), SUBJECT, folder)],
        metric="abx_units" if distance == "identical" else "abx_continuous",
        distance=distance,
        contexts=[context],
        dataset="dev",
        device="cpu",
        seed=0,
        **{"speakers": ["within", "across"]} | others,
    )
    return {
        path.name.split(".")[2]: json.loads(path.read_text())
        | {"items": list(csv.DictReader(path.with_suffix(".csv").open()))}
        for path in folder.glob("*.json")
    }


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("hyphen", [False, True])
def test_abx_in_context_is_that_of_the_loops(tmp_path: Path, distance: str, hyphen: bool) -> None:
    corpus = Corpus(tmp_path, seed=len(distance), hyphen=hyphen)
    found = score(corpus, tmp_path / "scores", distance)
    tokens = corpus.with_frames(distance)
    groups = Counter((token["phone"], token["context"], token["speaker"]) for token in tokens)
    assert max(groups.values()) <= 10  # nothing to subsample
    for condition in ("within", "across"):
        expected = abx_by_loops(tokens, condition == "across", False, DISTANCES[distance])
        items = found[condition]["items"]
        assert {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in items} == pytest.approx(expected)
        assert found[condition]["value"] == pytest.approx(mean_of_pairs(expected))
        weighted = sum(float(i["score"]) * float(i["weight"]) for i in items)
        assert found[condition]["value"] == pytest.approx(weighted)
        assert found[condition]["low"] <= found[condition]["value"] <= found[condition]["high"]


def test_intervals_over_pairs_of_phones_are_another_way_to_draw_the_same_score(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=7)
    by_speakers = score(corpus, tmp_path / "a", "identical")["within"]
    by_pairs = score(corpus, tmp_path / "b", "identical", resample="pairs")["within"]
    assert by_pairs["value"] == by_speakers["value"]
    assert by_pairs["items"] == by_speakers["items"]
    pairs = {frozenset((row["phone_a"], row["phone_b"])) for row in by_pairs["items"]}
    assert by_pairs["conditions"]["interval"].startswith(f"percentile bootstrap over {len(pairs)} pairs of phones")
    assert [of["conditions"]["resample"] for of in (by_speakers, by_pairs)] == ["speakers", "pairs"]
    assert [of["conditions"]["num_resampled"] for of in (by_speakers, by_pairs)] == [3, len(pairs)]
    rows = [[float(row["score"]), float(row["weight"])] for row in by_pairs["items"]]
    groups = [
        np.array(
            [r for r, row in zip(rows, by_pairs["items"], strict=True) if {row["phone_a"], row["phone_b"]} == pair]
        )
        for pair in pairs
    ]
    draw = np.random.default_rng(0)
    means = []
    for _ in range(2000):
        drawn = np.concatenate([groups[i] for i in draw.integers(0, len(groups), len(groups))])
        means.append(np.average(drawn[:, 0], weights=drawn[:, 1]))
    low, high = np.quantile(means, [0.025, 0.975])
    assert by_pairs["low"] == pytest.approx(low, abs=0.03)
    assert by_pairs["high"] == pytest.approx(high, abs=0.03)


def test_abx_in_any_context_is_fastabx_own(tmp_path: Path) -> None:
    import torch
    from fastabx import zerospeech_abx

    corpus = Corpus(tmp_path, seed=1)
    (tmp_path / "pt").mkdir()
    for fileid, frames in corpus.frames.items():
        torch.save(torch.from_numpy(frames), tmp_path / "pt" / f"{fileid}.pt")
    for context, suffix in (("within", ""), ("any", "_any")):
        found = score(corpus, tmp_path / f"scores_{context}", "angular", context)
        for speaker in ("within", "across"):
            reference = zerospeech_abx(
                corpus.item,
                tmp_path / "pt",
                max_size_group=10,
                max_x_across=5,
                speaker=speaker,
                context=context,
                device="cpu",
                progress=False,
            )
            assert found[f"{speaker}{suffix}"]["value"] == pytest.approx(reference, abs=1e-6)


def test_abx_in_any_context_is_that_of_the_loops(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=1)
    tokens = corpus.with_frames("angular")
    assert max(Counter((token["phone"], token["speaker"]) for token in tokens).values()) <= 10  # nothing to subsample
    found = score(corpus, tmp_path / "scores", "angular", "any")
    for speaker in ("within", "across"):
        expected = abx_by_loops(tokens, speaker == "across", True, angular)
        items = found[f"{speaker}_any"]["items"]
        errors = {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in items}
        assert errors == pytest.approx(expected, abs=1e-6)
        assert found[f"{speaker}_any"]["value"] == pytest.approx(mean_of_pairs(expected))


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["within", "any"]), st.integers(3, 30))
def test_every_condition_has_the_comparisons_and_errors_of_the_loops(
    seed: int, context: str, num_segments: int
) -> None:
    with TemporaryDirectory() as name:
        corpus = Corpus(Path(name), seed)
        chosen = np.sort(np.random.default_rng(seed).permutation(len(corpus.tokens))[:num_segments])
        lines = corpus.item.read_text().splitlines()
        corpus.item.write_text("\n".join([lines[0], *(lines[1 + i] for i in chosen)]) + "\n")
        tokens = [corpus.with_frames("identical")[i] for i in chosen]
        for speaker in ("within", "across"):
            expected = abx_by_loops(tokens, speaker == "across", context == "any", identical)
            folder = Path(name, speaker)
            if not expected:
                with pytest.raises(InputError, match=f"no A, B and X {speaker} speakers"):
                    score(corpus, folder, "identical", context, speakers=[speaker])
                continue
            (found,) = score(corpus, folder, "identical", context, speakers=[speaker]).values()
            errors = {(i["phone_a"], i["phone_b"], i["speaker"]): float(i["score"]) for i in found["items"]}
            assert errors == pytest.approx(expected, abs=1e-6)
            assert found["value"] == pytest.approx(mean_of_pairs(expected), abs=1e-6)


def test_names_of_conditions_tell_context_and_segments_apart_and_keep_those_of_the_paper() -> None:
    assert condition_name("within", "within", "triphone") == "within"
    assert condition_name("across", "any", "triphone") == "across_any"
    assert condition_name("across", "within", "phoneme") == "across_phoneme"
    assert condition_name("within", "any", "phoneme") == "within_any_phoneme"


def test_units_that_are_the_phones_make_no_error_where_segments_are_whole_phones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    lines, sequences = [HEADER], []
    for file in range(4):
        units = rng.permutation(np.repeat([0, 1, 2], 6))
        sequences.append(UnitSequence(f"f{file}", *run_length(units.repeat(3))))
        for place, unit in enumerate(units):
            lines.append(f"f{file} {place * 0.06:.2f} {place * 0.06 + 0.06:.2f} P{unit} X Y s{file % 2}")
    (tmp_path / "triphone.item").write_text("\n".join(lines) + "\n")
    write_units(tmp_path / "units.jsonl", sequences)
    score_abx(
        tmp_path / "triphone.item",
        [Scored(unit_frames(tmp_path / "units.jsonl", 50.0), SUBJECT, tmp_path)],
        metric="abx_units",
        distance="identical",
        speakers=["within", "across"],
        dataset="dev",
        device="cpu",
        seed=0,
    )
    values = [json.loads((tmp_path / f"abx_units.dev.{c}.json").read_text())["value"] for c in ("within", "across")]
    assert values == [0.0, 0.0]


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


def test_the_entry_point_scores_units_and_wants_their_vocabulary(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path, seed=0)
    command = [sys.executable, "-m", "eval.abx", "--units", corpus.units_path, "--item", corpus.item]
    command += ["--distance", "identical", "--metric", "abx_units", "--dataset", "dev", "--device", "cpu"]
    command += ["--subject", SUBJECT.model_dump_json(), "--output", tmp_path / "scores"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (2, "error: --vocabulary: expected with --units, and only there\n")
    vocabulary = tmp_path / "config.json"
    vocabulary.write_text('{"num_units": 5}')
    done = subprocess.run([*command, "--vocabulary", vocabulary], capture_output=True, text=True)
    assert done.returncode == 2
    assert "config.json: frame_rate_hz: found None, expected a positive number" in done.stderr
    vocabulary.write_text('{"num_units": 5, "frame_rate_hz": 50.0}')
    subprocess.run([*command, "--vocabulary", vocabulary], check=True)
    expected = score(corpus, tmp_path / "direct", "identical")
    for condition in ("within", "across"):
        stem = tmp_path / "scores" / f"abx_units.dev.{condition}"
        assert json.loads(stem.with_suffix(f".{condition}.json").read_text())["value"] == expected[condition]["value"]
        table = tmp_path / "direct" / f"abx_units.dev.{condition}.csv"
        assert stem.with_suffix(f".{condition}.csv").read_bytes() == table.read_bytes()


def test_layers_scored_together_get_the_scores_they_get_alone(tmp_path: Path) -> None:
    corpora = []
    for layer in (1, 2, 3):
        (tmp_path / str(layer)).mkdir()
        corpora.append(Corpus(tmp_path / str(layer), seed=layer))
        corpora[-1].item = corpora[0].item
    with FeatureWriter(corpora[2].features, {"frame_rate_hz": 100.0}, "float32") as writer:  # other frames, other rate
        for fileid, frames in corpora[2].frames.items():
            writer.write(fileid, frames.repeat(2, axis=0))
    command = [sys.executable, "-m", "eval.abx", "--item", corpora[0].item, "--distance", "angular", "--device", "cpu"]
    command += ["--metric", "abx_continuous", "--dataset", "dev", "--context", "within", "any"]
    command += ["--segments", "phoneme", "--features", *[corpus.features for corpus in corpora]]
    subjects = [SUBJECT.model_copy(update={"layer": layer}).model_dump_json() for layer in (1, 2, 3)]
    outputs = [tmp_path / "scores" / f"L{layer}" for layer in (1, 2, 3)]
    done = subprocess.run([*command, "--subject", *subjects, "--output", *outputs[:2]], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr == "error: --output: found 2, expected 3: one for each of --features or --units\n"
    done = subprocess.run(
        [*command, "--subject", *subjects, "--output", *outputs[:2], outputs[0]], capture_output=True, text=True
    )
    assert done.stderr == "error: --output: found a folder twice, expected one for each of --features or --units\n"
    subprocess.run([*command, "--subject", *subjects, "--output", *outputs], check=True)
    values = set()
    for layer, (corpus, output) in enumerate(zip(corpora, outputs, strict=True), start=1):
        assert len(list(output.glob("*.json"))) == 4
        for context in ("within", "any"):
            alone = score(corpus, tmp_path / f"alone{layer}{context}", "angular", context)
            for name, expected in alone.items():
                path = output / f"abx_continuous.dev.{name}_phoneme.json"
                together = json.loads(path.read_text())
                assert (together["value"], together["layer"]) == (expected["value"], layer)
                assert together["conditions"]["segments"] == "phoneme"
                assert list(csv.DictReader(path.with_suffix(".csv").open())) == expected["items"]
                values.add(together["value"])
    assert len(values) == 12
