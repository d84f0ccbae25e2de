"""ABX by plain loops with an alignment of their own, and files of random frames to score."""

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from eval.abx import Scored, score_abx
from eval.frames import FrameSource, feature_frames, unit_frames
from eval.scores import Subject
from units.features import FeatureWriter
from units.records import UnitSequence, run_length, write_units

SUBJECT = Subject(model="SpidR", encoder="spidr", layer=6)
HEADER = "#file onset offset #phone prev-phone next-phone speaker"


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
