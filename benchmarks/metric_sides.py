"""Sides of the metrics' benchmark, each in a process of its own.

``python -m benchmarks.metric_sides SIDE FOLDER ANSWER``. Rankings for MAP are all of the same vectors. The naive ways
are plain loops, which read the same files and compute the same formula on a stated part; their time is what the
whole would take.
"""

import csv
import json
import math
import random
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.files import write_json
from eval.frames import feature_frames
from eval.map import word_vectors
from eval.retrieval import Variant, average_precisions
from eval.segments import frame_spans, read_item, read_words

Answer = dict[str, Any]
type Vectors = npt.NDArray[np.float32]

STRIP = 1024
MAP_QUERIES = 200
ABX_TRIPLES = 300
PNMI_UTTERANCES = 100
RESAMPLES = (20, 2000)
"""Drawn by the naive way, and by ours."""


def make_vectors(folder: Path) -> Answer:
    """The vectors that all rankings get."""
    path, source = folder / "words.csv", feature_frames(folder / "features")
    words = read_words(path)
    spans = frame_spans(path, words, source.num_frames, source.frame_rate_hz)
    np.save(folder / "vectors.npy", word_vectors(words, spans, source))
    return {}


class Clock:
    """Counts from where it is made: the wall's seconds, and those of all threads on the processor."""

    def __init__(self) -> None:
        self._wall, self._processor = time.perf_counter(), time.process_time()

    def read(self) -> Answer:
        """Both, as they belong into an answer."""
        return {"wall_s": time.perf_counter() - self._wall, "processor_s": time.process_time() - self._processor}


def read_tokens(folder: Path) -> tuple[Vectors, list[str]]:
    return np.load(folder / "vectors.npy"), [word.label for word in read_words(folder / "words.csv")]


def product(folder: Path) -> Answer:
    """All similarities, and nothing done with them."""
    vectors, _ = read_tokens(folder)
    clock = Clock()
    for start in range(0, len(vectors), STRIP):
        vectors[start : start + STRIP] @ vectors.T
    return clock.read()


def ours(folder: Path, variant: Variant) -> Answer:
    vectors, labels = read_tokens(folder)
    clock = Clock()
    value = np.nanmean(average_precisions(vectors, labels, variant))
    return {**clock.read(), "value": float(value)}


def faiss_by_depth(folder: Path) -> Answer:
    """The strict formula by exact search, queries of about the same R together, R in powers of two."""
    import faiss

    vectors, labels = read_tokens(folder)
    clock = Clock()
    _, word, counts = np.unique(labels, return_inverse=True, return_counts=True)
    relevant = counts[word] - 1
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    total = 0.0
    for power in range(int(relevant.max()).bit_length() + 1):
        low, depth = 2**power // 2, 2**power
        queries = np.flatnonzero((relevant > low) & (relevant <= depth) if power else relevant == 1)
        for start in range(0, len(queries), STRIP):
            part = queries[start : start + STRIP]
            _, found = index.search(vectors[part], min(depth + 1, len(vectors)))
            others = found != part[:, None]
            rank = np.cumsum(others, axis=1)
            hits = (word[found] == word[part][:, None]) & others & (rank <= relevant[part][:, None])
            precision = np.cumsum(hits, axis=1) * hits / np.maximum(rank, 1)
            total += float((precision.sum(1) / relevant[part]).sum())
    return {**clock.read(), "value": total / np.count_nonzero(relevant)}


def speech_map(folder: Path) -> Answer:
    """The package's function, with torch's product and top-k."""
    import torch
    from speech_map import mean_average_precision  # type: ignore[import-not-found]

    vectors, labels = read_tokens(folder)
    clock = Clock()
    _, word = np.unique(labels, return_inverse=True)
    value = mean_average_precision(torch.from_numpy(vectors), torch.from_numpy(word))
    return {**clock.read(), "value": value}


def naive_map(folder: Path) -> Answer:
    """One query at a time: all similarities, all sorted."""
    vectors, labels = read_tokens(folder)
    counts = Counter(labels)
    queries = random.Random(0).sample([q for q, label in enumerate(labels) if counts[label] > 1], MAP_QUERIES)
    clock = Clock()
    for query in queries:
        order = np.argsort(-(vectors @ vectors[query]), kind="stable").tolist()
        order.remove(query)
        hits, total = 0, 0.0
        for rank, other in enumerate(order[: counts[labels[query]] - 1], start=1):
            if labels[other] == labels[query]:
                hits += 1
                total += hits / rank
    share = MAP_QUERIES / len(labels)
    return {name: value / share for name, value in clock.read().items()} | {"measured": f"{MAP_QUERIES} queries"}


def naive_abx(folder: Path) -> Answer:
    """Seconds a triple within a speaker: both distances by dynamic programming in a loop over pairs of frames."""
    item, source = folder / "triphone.item", feature_frames(folder / "features")
    segments = read_item(item)
    spans = frame_spans(item, segments, source.num_frames, source.frame_rate_hz).frames
    cells: dict[tuple[str, ...], dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for number, segment in enumerate(segments):
        cells[segment.previous, segment.following, segment.speaker][segment.label].append(number)
    triples = [
        (a, b, x)
        for cell in cells.values()
        for one, members in cell.items()
        for other in cell.keys() - {one}
        for a in members
        for x in members
        for b in cell[other]
        if a != x
    ]
    chosen = random.Random(0).sample(sorted(triples), min(ABX_TRIPLES, len(triples)))
    started = time.perf_counter()
    for a, b, x in chosen:
        parts = []
        for number in (a, b, x):
            frames = source.read(segments[number].fileid)[slice(*spans[number])]
            parts.append(frames / np.linalg.norm(frames, axis=1, keepdims=True))
        time_warped(parts[0], parts[2])
        time_warped(parts[1], parts[2])
    return {
        "seconds_a_triple": (time.perf_counter() - started) / len(chosen),
        "measured": f"{len(chosen)} triples",
    }


def time_warped(one: npt.NDArray[np.floating], other: npt.NDArray[np.floating]) -> float:
    """Mean angle, as a share of pi, along the best alignment of two sequences of frames of length 1."""
    cost, steps = {(0, 0): 0.0}, {(0, 0): 0}
    for i in range(1, len(one) + 1):
        for j in range(1, len(other) + 1):
            angle = math.acos(max(-1.0, min(1.0, float(one[i - 1] @ other[j - 1])))) / math.pi
            before = [at for at in ((i - 1, j - 1), (i - 1, j), (i, j - 1)) if at in cost]
            best = min(before, key=lambda at: cost[at])
            cost[i, j], steps[i, j] = cost[best] + angle, steps[best] + 1
    return cost[len(one), len(other)] / steps[len(one), len(other)]


def naive_pnmi(folder: Path) -> Answer:
    """Phones and units of some utterances counted step by step."""
    started = time.perf_counter()
    intervals: dict[str, list[tuple[float, float, str]]] = defaultdict(list)
    with (folder / "intervals.csv").open() as file:
        for row in csv.DictReader(file):
            intervals[row["fileid"]].append((float(row["onset"]), float(row["offset"]), row["label"]))
    with (folder / "units.jsonl").open() as file:
        sequences = [json.loads(line) for line in file]
    reading = time.perf_counter() - started
    chosen = sequences[:: max(1, len(sequences) // PNMI_UTTERANCES)]
    joint: Counter[tuple[str, int]] = Counter()
    started = time.perf_counter()
    for sequence in chosen:
        step = 0
        for unit, duration in zip(sequence["units"], sequence["durations"], strict=True):
            for _ in range(2 * duration):
                centre = (step + 0.5) / 100
                label = next((at for on, off, at in intervals[sequence["fileid"]] if on <= centre < off), "SIL")
                joint[label, unit] += 1
                step += 1
    normalised_information(joint)
    counting = (time.perf_counter() - started) * len(sequences) / len(chosen)
    return {"wall_s": reading + counting, "measured": f"{len(chosen)} utterances"}


def normalised_information(joint: Counter[tuple[str, int]]) -> float:
    """I(phone; unit) / H(phone)."""
    total = joint.total()
    phones: Counter[str] = Counter()
    units: Counter[int] = Counter()
    for (phone, unit), count in joint.items():
        phones[phone] += count
        units[unit] += count
    information = sum(
        n / total * math.log2(n * total / phones[phone] / units[unit]) for (phone, unit), n in joint.items()
    )
    return information / -sum(n / total * math.log2(n / total) for n in phones.values())


def naive_pairs(folder: Path, name: str, key: Sequence[str], num_scores: int) -> Answer:
    """Pairs joined by a loop, and resamples drawn item by item, for as many scores as ours writes."""
    started = time.perf_counter()
    with (folder / name / "likelihoods.csv").open() as file:
        scores = {row["fileid"]: float(row["log_likelihood"]) / int(row["num_tokens"]) for row in csv.DictReader(file)}
    twins: dict[tuple[str, ...], dict[str, float]] = defaultdict(dict)
    with (folder / name / "items.csv").open() as file:
        for row in csv.DictReader(file):
            twins[(*(row[column] for column in key), row["voice"])][row["correct"]] = scores[row["fileid"]]
    voices: dict[tuple[str, ...], list[float]] = defaultdict(list)
    for names, twin in twins.items():
        voices[names[:-1]].append((twin["1"] > twin["0"]) + (twin["1"] == twin["0"]) / 2)
    items = [sum(own) / len(own) for own in voices.values()]
    joining = time.perf_counter() - started
    draws, (drawn, wanted) = random.Random(0), RESAMPLES
    started = time.perf_counter()
    means = sorted(sum(items[draws.randrange(len(items))] for _ in items) / len(items) for _ in range(drawn))
    resampling = (time.perf_counter() - started) * wanted / drawn * num_scores
    value = sum(items) / len(items)
    assert means[0] <= value <= means[-1]
    return {"wall_s": joining + resampling, "value": value, "measured": f"{drawn} of {wanted:,} resamples"}


SIDES: dict[str, Callable[[Path], Answer]] = {
    "vectors": make_vectors,
    "product": product,
    "ours, strict": lambda folder: ours(folder, "strict"),
    "ours, speech-map": lambda folder: ours(folder, "speech-map"),
    "faiss": faiss_by_depth,
    "speech_map": speech_map,
    "naive map": naive_map,
    "naive abx": naive_abx,
    "naive pnmi": naive_pnmi,
    "naive swuggy": lambda folder: naive_pairs(folder, "lexical", ("id",), 2),
    "naive sblimp": lambda folder: naive_pairs(folder, "syntactic", ("type", "subtype", "id"), 1),
}

if __name__ == "__main__":
    write_json(Path(sys.argv[3]), SIDES[sys.argv[1]](Path(sys.argv[2])))
