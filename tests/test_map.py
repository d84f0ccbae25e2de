"""MAP over words against two loops, for both formulas."""

import csv
import json
import subprocess
import sys
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from threadpoolctl import threadpool_limits

from artifacts.errors import InputError
from eval import retrieval
from eval.frames import feature_frames
from eval.map import score_map
from eval.retrieval import average_precisions
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


@settings(deadline=None, max_examples=50)
@given(tied, st.data())
def test_average_precision_is_that_of_two_loops_with_ties_in_order(vectors: np.ndarray, data: st.DataObject) -> None:
    labels = data.draw(st.lists(st.sampled_from("abc"), min_size=len(vectors), max_size=len(vectors)))
    for variant in ("strict", "speech-map"):
        if max(labels.count(label) for label in labels) > 1:
            found = average_precisions(vectors.astype(np.float32), labels, variant)
            expected = precisions_by_loops(vectors, labels, variant == "strict")
            assert found.tolist() == pytest.approx([np.nan if p is None else p for p in expected], nan_ok=True)


def random_words(rng: np.random.Generator, num_tokens: int, dim: int) -> tuple[np.ndarray, list[str]]:
    """Words of very different frequency, and vectors near those of their word."""
    words = rng.zipf(1.5, num_tokens) % 30
    vectors = rng.normal(size=(num_tokens, dim)) + rng.normal(size=(30, dim))[words]
    return unit_length(vectors), [f"w{word}" for word in words]


def assert_as_by_loops(vectors: np.ndarray, labels: list[str]) -> None:
    for variant in ("strict", "speech-map"):
        expected = precisions_by_loops(vectors, labels, variant == "strict")
        found = average_precisions(vectors, labels, variant)
        assert found.tolist() == pytest.approx([np.nan if p is None else p for p in expected], nan_ok=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(2, 9), st.integers(1, 40), tied, st.data())
def test_ties_keep_the_order_of_the_list_across_blocks(
    block_size: int, sample_size: int, vectors: np.ndarray, data: st.DataObject
) -> None:
    vectors = np.concatenate([vectors, vectors, np.zeros_like(vectors)]).astype(np.float32)
    labels = data.draw(st.lists(st.sampled_from("aab"), min_size=len(vectors), max_size=len(vectors)))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(retrieval, "BLOCK_SIZE", block_size)
        patch.setattr(retrieval, "SAMPLE_SIZE", sample_size)
        assert_as_by_loops(vectors, labels)


@pytest.mark.parametrize("block_size", [1, 7, 59, 1024])
@pytest.mark.parametrize("sample_size", [1, 20])
def test_the_result_does_not_depend_on_blocks_or_sample(
    monkeypatch: pytest.MonkeyPatch, block_size: int, sample_size: int
) -> None:
    monkeypatch.setattr(retrieval, "BLOCK_SIZE", block_size)
    monkeypatch.setattr(retrieval, "SAMPLE_SIZE", sample_size)
    assert_as_by_loops(*random_words(np.random.default_rng(0), 60, 8))


def test_blocks_are_of_the_full_size_and_threads_do_not_change_a_bit() -> None:
    """2,500 tokens, three blocks: held against whole rows sorted by numpy."""
    vectors, labels = random_words(np.random.default_rng(1), 2500, 4)
    vectors[1500:] = vectors[:1000]
    words = np.array(labels)
    with threadpool_limits(3, "blas"):
        found = {variant: average_precisions(vectors, labels, variant) for variant in ("strict", "speech-map")}
    relevant = np.array([(words == word).sum() - 1 for word in words])
    for query in range(0, 2500, 97):
        order = np.argsort(-(vectors @ vectors[query]), kind="stable")
        hits = words[order[order != query]] == words[query]
        precisions = np.cumsum(hits) / np.arange(1, 2500) * hits
        for variant, depth in (("strict", relevant[query]), ("speech-map", relevant.max())):
            assert found[variant][query] == pytest.approx(precisions[:depth].sum() / relevant[query], abs=1e-3)
    with threadpool_limits(1, "blas"):
        for variant, precisions in found.items():
            assert average_precisions(vectors, labels, variant).tobytes() == precisions.tobytes()


def test_queries_whose_threshold_was_too_high_are_ranked_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "BLOCK_SIZE", 50)
    vectors, labels = random_words(np.random.default_rng(2), 120, 8)
    alone = []

    def too_high(tokens: retrieval.Retrieval, block: slice, sample: np.ndarray) -> np.ndarray:
        return np.where(np.arange(block.start, block.stop) % 2, np.float32(0.9), retrieval.LOWEST)

    def counted(tokens: retrieval.Retrieval, query: int) -> float:
        alone.append(query)
        return ranked_alone(tokens, query)

    ranked_alone = retrieval._alone
    monkeypatch.setattr(retrieval, "_thresholds", too_high)
    monkeypatch.setattr(retrieval, "_alone", counted)
    assert_as_by_loops(vectors, labels)
    assert alone
    assert all(query % 2 for query in alone)


def test_no_threshold_lies_above_the_farthest_token_of_the_word() -> None:
    vectors, labels = random_words(np.random.default_rng(6), 300, 64)
    words = np.unique(labels, return_inverse=True)[1]
    counts = np.bincount(words)[words] - 1
    found = retrieval._farthest_relevant(retrieval.Retrieval(vectors, words, counts, counts))
    exact = vectors.astype(np.float64) @ vectors.T.astype(np.float64)
    for query, label in enumerate(labels):
        own = [exact[query, other] for other in range(300) if labels[other] == label and other != query]
        assert (found[query] < min(own) < found[query] + 2e-5) if own else found[query] == np.inf


@pytest.mark.parametrize("same", [False, True])
def test_candidates_are_bounded_however_many_are_equally_near(monkeypatch: pytest.MonkeyPatch, same: bool) -> None:
    """Vectors that are all the same, of a model that collapsed: each similarity reaches the threshold."""
    monkeypatch.setattr(retrieval, "BLOCK_SIZE", 8)
    monkeypatch.setattr(retrieval, "SLACK", 0.1)
    vectors, labels = random_words(np.random.default_rng(3), 120, 8)
    assert_as_by_loops(np.ones_like(vectors) if same else vectors, labels)


def test_the_similarities_are_never_held_whole() -> None:
    vectors, labels = random_words(np.random.default_rng(4), 8000, 4)
    labels = [f"{label}-{index % 300}" for index, label in enumerate(labels)]
    with threadpool_limits(1, "blas"):
        tracemalloc.start()
        average_precisions(vectors, labels, "strict")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert peak < 8000**2 * 4 / 4


def test_more_tokens_than_can_be_numbered_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retrieval, "MAX_TOKENS", 3)
    with pytest.raises(InputError, match="found 4 word tokens, expected at most 3"):
        average_precisions(np.ones((4, 1), np.float32), list("aabb"), "strict")


def test_the_largest_numbers_fit_the_keys() -> None:
    tokens = retrieval.Retrieval(np.empty((0, 1)), np.empty(retrieval.MAX_TOKENS, np.int8), None, None)
    query = np.array([0, retrieval.BLOCK_SIZE - 1, retrieval.BLOCK_SIZE - 1, retrieval.BLOCK_SIZE - 1])
    other = np.array([retrieval.MAX_TOKENS - 1, 0, 1, retrieval.MAX_TOKENS - 1])
    similarity = np.array([retrieval.LOWEST, -retrieval.LOWEST, retrieval.LOWEST, retrieval.LOWEST])
    keys = retrieval._keys(tokens, query, other, similarity.astype(np.float32))
    assert (np.diff(keys) > 0).all()
    assert keys[0] >= 0


def test_speech_map_is_that_of_the_package() -> None:
    """On vectors without ties, and words that all occur again: the package gives NaN otherwise."""
    peer, torch = pytest.importorskip("speech_map"), pytest.importorskip("torch")
    rng = np.random.default_rng(5)
    words = np.repeat(np.arange(40), rng.integers(2, 30, 40))
    vectors = unit_length(rng.normal(size=(len(words), 16)) + 0.7 * rng.normal(size=(40, 16))[words])
    theirs = peer.mean_average_precision(torch.from_numpy(vectors), torch.from_numpy(words))
    ours = average_precisions(vectors, [str(word) for word in words], "speech-map").mean()
    assert ours == pytest.approx(theirs, rel=1e-5)
    assert 0.05 < theirs < 0.95


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


def test_the_interval_draws_words_not_their_queries(tmp_path: Path) -> None:
    """Twenty tokens of one word, all found, and three of another, none: of two words, one is drawn twice every other
    time, so that the interval is all there is, however sure the 23 queries look."""
    near = np.eye(4)[0]
    tokens = [near] * 20 + [near + np.eye(4)[i] for i in (1, 2, 3)]
    with FeatureWriter(tmp_path / "features", {"frame_rate_hz": 50.0}, "float32") as writer:
        writer.write("f", np.array(tokens, np.float32))
    lines = [f"f,{i / 50},{(i + 1) / 50},{'found' if i < 20 else 'lost'},s" for i in range(23)]
    words = tmp_path / "words.csv"
    words.write_text("\n".join(["fileid,onset,offset,label,speaker", *lines]) + "\n")
    source = feature_frames(tmp_path / "features")
    score_map(words, source, variant="strict", dataset="dev", subject=SUBJECT, seed=0, output=tmp_path)
    score, items = read(tmp_path, "strict")
    assert [float(item["score"]) for item in items] == [1] * 20 + [0] * 3
    assert (score["value"], score["n"]) == (pytest.approx(20 / 23), 23)
    assert (score["low"], score["high"]) == (0, 1)
    assert (score["conditions"]["resample"], score["conditions"]["num_resampled"]) == ("words", 2)
    assert score["conditions"]["interval"].startswith("percentile bootstrap over 2 words,")


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
