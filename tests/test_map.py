"""MAP over words against two loops, for both formulas."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from artifacts.errors import InputError
from eval import map as map_words
from eval.frames import feature_frames
from eval.map import average_precisions, score_map
from eval.scores import Subject
from units.features import FeatureWriter

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6)


def precisions_by_loops(vectors: np.ndarray, labels: list[str], cut_at_r: bool) -> list[float | None]:
    counts = {label: sum(other == label for other in labels) for label in labels}
    largest = max(counts.values()) - 1
    precisions: list[float | None] = []
    for query, label in enumerate(labels):
        num_relevant = counts[label] - 1
        if num_relevant == 0:
            precisions.append(None)
            continue
        others = [other for other in range(len(labels)) if other != query]
        others.sort(key=lambda other: (-(vectors[query] @ vectors[other]), other))
        hits, total = 0, 0.0
        for rank, other in enumerate(others[: num_relevant if cut_at_r else largest], start=1):
            if labels[other] == label:
                hits += 1
                total += hits / rank
        precisions.append(total / num_relevant)
    return precisions


def unit_length(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


# Small whole numbers, so that dot products are exact and ties are ties.
tied = arrays(np.int64, st.tuples(st.integers(2, 12), st.just(3)), elements=st.integers(-2, 2))


@given(tied, st.data())
def test_average_precision_is_that_of_two_loops_with_ties_in_order(vectors: np.ndarray, data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=len(vectors), max_size=len(vectors)))
    for variant in ("strict", "speech-map"):
        if max(labels.count(label) for label in labels) > 1:
            found = average_precisions(vectors.astype(np.float32), labels, variant)
            expected = precisions_by_loops(vectors, labels, variant == "strict")
            assert found.tolist() == pytest.approx([np.nan if p is None else p for p in expected], nan_ok=True)


@pytest.mark.parametrize("block_size", [1, 500, 1 << 24])
def test_the_result_does_not_depend_on_the_blocks(monkeypatch: pytest.MonkeyPatch, block_size: int) -> None:
    monkeypatch.setattr(map_words, "BLOCK_SIZE", block_size)
    rng = np.random.default_rng(0)
    vectors = unit_length(rng.normal(size=(120, 8)))
    labels = [f"w{index}" for index in rng.zipf(1.5, 120) % 30]
    for variant in ("strict", "speech-map"):
        expected = precisions_by_loops(vectors, labels, variant == "strict")
        found = average_precisions(vectors, labels, variant)
        assert found.tolist() == pytest.approx([np.nan if p is None else p for p in expected], nan_ok=True)


@pytest.mark.parametrize("depth", [1, 7, 100, 900])
@pytest.mark.parametrize("favoured", [slice(None), slice(0, None, 16), slice(8, None, 16), slice(500)])
def test_the_nearest_are_those_of_a_whole_sort_wherever_they_lie(depth: int, favoured: slice) -> None:
    similarities = np.random.default_rng(depth).integers(0, 50, 1000).astype(np.float32)
    similarities[favoured] += 30
    expected = np.argsort(-similarities, kind="stable")[:depth]
    assert map_words._nearest(similarities, depth).tolist() == expected.tolist()


def test_the_two_formulas_by_hand() -> None:
    angles = np.deg2rad([0, 10, 25, 45])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    labels = ["a", "b", "a", "b"]
    # a at 0: b, a, b; b at 10: a, a, b; a at 25: b, b, a or so: hits at ranks 2, 3, 3, 2.
    assert average_precisions(vectors, labels, "strict").tolist() == [0, 0, 0, 0]
    labels = ["a", "a", "b", "a"]
    # queries: 0 finds a b a; 1 finds a b a; 3 finds b a a; R = 2 = the largest R.
    assert average_precisions(vectors, labels, "strict")[[0, 1, 3]].tolist() == [0.5, 0.5, 0.25]
    labels = ["a", "b", "a", "a"]
    # 0 finds b a a: 1/2 within R = 2, and the hit at 3 lies outside; 2 finds b a a; 3 finds a b a.
    assert average_precisions(vectors, labels, "speech-map")[[0, 2, 3]].tolist() == [0.25, 0.25, 0.5]


class Corpus:
    """Words of 2 to 4 frames whose features tend to be those of the word; some occur once."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        prototypes = rng.normal(size=(9, 6))
        self.words = folder / "words.csv"
        self.features = folder / "features"
        self.vectors, self.labels = [], []
        lines = ["fileid,onset,offset,label,speaker"]
        with FeatureWriter(self.features, {"frame_rate_hz": 50.0}, "float32") as writer:
            for file in range(4):
                frames = rng.normal(size=(50, 6)).astype(np.float32)
                place = 0
                while place < 45:
                    word = int(rng.choice(9, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.05, 0.02, 0.02, 0.01]))
                    length = int(rng.integers(2, 5))
                    frames[place : place + length] += prototypes[word]
                    lines.append(f"f{file},{place / 50},{(place + length) / 50},w{word},s{file}")
                    self.vectors.append(frames[place : place + length].mean(0))
                    self.labels.append(f"w{word}")
                    place += length
                writer.write(f"f{file}", frames)
        self.words.write_text("\n".join(lines) + "\n")


def read(folder: Path, variant: str) -> tuple[dict, list[dict[str, str]]]:
    stem = folder / f"map_words.dev.{variant}"
    with (folder / f"{stem.name}.csv").open() as file:
        return json.loads((folder / f"{stem.name}.json").read_text()), list(csv.DictReader(file))


@pytest.mark.parametrize("variant", ["strict", "speech-map"])
def test_a_word_is_the_mean_of_its_frames(tmp_path: Path, variant: str) -> None:
    corpus = Corpus(tmp_path)
    source = feature_frames(corpus.features)
    score_map(corpus.words, source, variant=variant, dataset="dev", subject=SUBJECT, seed=0, output=tmp_path)
    score, items = read(tmp_path, variant)
    vectors = unit_length(np.stack(corpus.vectors))
    expected = [p for p in precisions_by_loops(vectors, corpus.labels, variant == "strict") if p is not None]
    assert [float(item["score"]) for item in items] == pytest.approx(expected)
    assert score["value"] == pytest.approx(np.mean(expected))
    assert score["low"] < score["value"] < score["high"]
    once = sum(corpus.labels.count(label) == 1 for label in set(corpus.labels))
    assert once > 0
    assert score["conditions"]["num_words_once"] == once
    assert score["n"] == len(expected) == len(corpus.labels) - once
    assert (score["condition"], score["conditions"]["variant"]) == (variant, variant)


def test_the_entry_point_takes_the_strict_formula(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    command = [sys.executable, "-m", "eval.map", "--features", corpus.features, "--words", corpus.words]
    command += ["--dataset", "dev", "--subject", SUBJECT.model_dump_json(), "--output", tmp_path / "scores"]
    subprocess.run(command, check=True)
    vectors = unit_length(np.stack(corpus.vectors))
    expected = [p for p in precisions_by_loops(vectors, corpus.labels, True) if p is not None]
    assert read(tmp_path / "scores", "strict")[0]["value"] == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("f0,0.0,", "f9,0.0,", r"words\.csv: 1 of its utterances have no frames: f9"),
        ("f0,0.0,", "f0,2.0,", r"words\.csv, line 2: found 2\.0 to"),
        ("offset", "end", r"words\.csv, line 1: found columns .* expected also offset"),
    ],
)
def test_a_bad_word_list_is_an_error(tmp_path: Path, old: str, new: str, message: str) -> None:
    corpus = Corpus(tmp_path)
    corpus.words.write_text(corpus.words.read_text().replace(old, new, 1))
    with pytest.raises(InputError, match=message):
        score_map(
            corpus.words,
            feature_frames(corpus.features),
            variant="strict",
            dataset="dev",
            subject=SUBJECT,
            seed=0,
            output=tmp_path,
        )


def test_words_that_all_occur_once_are_an_error(tmp_path: Path) -> None:
    corpus = Corpus(tmp_path)
    corpus.words.write_text("fileid,onset,offset,label,speaker\nf0,0,0.1,a,s\nf0,0.1,0.2,b,s\n")
    source = feature_frames(corpus.features)
    with pytest.raises(InputError, match="every word occurs once"):
        score_map(corpus.words, source, variant="strict", dataset="dev", subject=SUBJECT, seed=0, output=tmp_path)
