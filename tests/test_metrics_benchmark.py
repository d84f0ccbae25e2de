"""The benchmark of metrics: it runs, and its naive ways compute what ours do."""

import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.metric_inputs import SMALL, Size, make_corpus
from benchmarks.metric_sides import faiss_by_depth, make_vectors, normalised_information, ours, read_tokens, time_warped
from benchmarks.metrics import measure


def test_the_small_run_prints_both_tables() -> None:
    """Values of both sides are compared in it: it fails where they are not the same."""
    command = [sys.executable, "-m", "benchmarks.metrics", "--small", "--threads", "1"]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    for row in (
        "| MAP, strict |",
        "| ABX within and across speakers",
        "| PNMI",
        "| sWUGGY |",
        "| sBLIMP |",
        "| ours, speech-map |",
    ):
        assert row in printed


def test_the_corpus_has_the_size_it_should_and_every_word_twice(tmp_path: Path) -> None:
    size = Size(speakers=2, utterances=5, tokens=80, types=20, dim=4, triphones=30)
    num_frames = make_corpus(tmp_path, size)
    make_vectors(tmp_path)
    vectors, labels = read_tokens(tmp_path)
    assert vectors.shape == (80, 4)
    assert len(Counter(labels)) == 20
    assert min(Counter(labels).values()) >= 2
    assert len((tmp_path / "triphone.item").read_text().splitlines()) == 1 + 30
    assert num_frames > 80 * 2 * 3


def test_faiss_by_depth_is_ours(tmp_path: Path) -> None:
    make_corpus(tmp_path, SMALL)
    make_vectors(tmp_path)
    assert faiss_by_depth(tmp_path)["value"] == pytest.approx(ours(tmp_path, "strict")["value"], rel=1e-5)


def test_time_warping_by_hand() -> None:
    """The second frame of three repeats the first: aligned at no cost; opposite frames are half a turn apart."""
    right, up, left = np.float32([1, 0]), np.float32([0, 1]), np.float32([-1, 0])
    assert time_warped(np.stack([right, right, up]), np.stack([right, up])) == 0
    assert time_warped(right[None], left[None]) == pytest.approx(1)
    assert time_warped(np.stack([right, right]), np.stack([right, up])) == pytest.approx(0.25)


def test_normalised_information_of_units_that_know_the_phone_and_of_units_that_do_not() -> None:
    assert normalised_information(Counter({("a", 0): 3, ("b", 1): 5})) == pytest.approx(1)
    assert normalised_information(Counter({("a", 0): 2, ("a", 1): 4, ("b", 0): 3, ("b", 1): 6})) == pytest.approx(0)


def test_a_process_is_measured() -> None:
    """100 MB, touched."""
    measured = measure([sys.executable, "-c", "import time; x = b'x' * 100_000_000; time.sleep(0.3)"], 1)
    assert 0.3 <= measured.wall_s < 30
    assert 100_000_000 < measured.own_bytes <= measured.memory_bytes < 300_000_000


def test_a_side_that_fails_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="failed"):
        measure([sys.executable, "-c", "raise SystemExit(3)"], 1)
