"""Mean average precision over words (section 3.2, equation 5; Carlin et al. 2011).

A word token is the mean of its frames. Each token is a query: all others are sorted by cosine similarity, and the
R other tokens of the same word should come first. Equally similar tokens keep the order of the word list.

Two formulas, which disagree and are never compared with each other:

- ``strict``: MAP@R, the sum of precisions at hits among the first R, divided by R (Musgrave et al. 2020, equation 3);
- ``speech-map``: the same sum not cut at R but at the largest R of the whole set, as the package of that name has it.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError, run
from artifacts.progress import Progress
from artifacts.provenance import provenance
from eval.frames import FrameSource, by_utterance, feature_frames, read_finite
from eval.scores import Subject, add_score_arguments, parse_subject, write_score
from eval.segments import Segment, frame_spans, read_words
from eval.statistics import NUM_RESAMPLES, bootstrap_interval

Variant = Literal["strict", "speech-map"]
type Vectors = npt.NDArray[np.float32]

BLOCK_SIZE = 1 << 24  # similarities held at a time: 64 MiB
SAMPLE_STRIDE = 16

COLUMNS = ("fileid", "onset", "offset", "label", "speaker", "num_relevant", "score")


def word_vectors(path: Path, words: Sequence[Segment], source: FrameSource) -> Vectors:
    """Mean of the frames of each word token, scaled to length 1, (n, dim).

    Raises:
        InputError: A word has no frames, or frames that are all zero.
    """
    spans = frame_spans(path, words, source.num_frames, source.frame_rate_hz)
    members = by_utterance(words)
    means: dict[int, npt.NDArray[np.float32]] = {}
    for fileid, frames in read_finite(source, list(members)):
        means |= {index: frames[slice(*spans[index])].mean(0, dtype=np.float32) for index in members[fileid]}
    vectors = np.stack([means[index] for index in range(len(words))])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not norms.all():
        word = words[int(norms.argmin())]
        raise InputError(f"{source.path}: {word.label} of {word.fileid} at {word.onset} s has a mean of zero")
    return np.divide(vectors, norms, out=vectors)


def average_precisions(vectors: Vectors, labels: Sequence[str], variant: Variant) -> npt.NDArray[np.float64]:
    """Average precision of each token as a query, (n,); NaN for a word that occurs once.

    A word that occurs once is no query, but is among what the others retrieve.

    Args:
        vectors: One a token, of length 1, (n, dim).
        labels: The word of each token.
    """
    _, word, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    num_relevant = counts[word] - 1
    precisions = np.full(len(vectors), np.nan)
    queries = np.flatnonzero(num_relevant)
    with Progress("MAP over words", len(queries), "queries") as progress:
        for block in _blocks(queries, len(vectors)):
            similarities = vectors[block] @ vectors.T  # (block, n)
            similarities[np.arange(len(block)), block] = -np.inf  # a query does not retrieve itself
            for query, row in zip(block, similarities, strict=True):
                depth = int(num_relevant[query] if variant == "strict" else num_relevant.max())
                hits = word[_nearest(row, depth)] == word[query]
                ranks = np.flatnonzero(hits) + 1
                precisions[query] = (np.arange(1, len(ranks) + 1) / ranks).sum() / num_relevant[query]
            progress.advance(len(block))
    return precisions


def _blocks(queries: npt.NDArray[np.intp], num_tokens: int) -> Iterator[npt.NDArray[np.intp]]:
    size = max(1, BLOCK_SIZE // num_tokens)
    for start in range(0, len(queries), size):
        yield queries[start : start + size]


def _nearest(similarities: npt.NDArray[np.float32], depth: int) -> npt.NDArray[np.intp]:
    """Indices of the `depth` largest, largest first; of equal ones the first of the list first.

    A sample tells how large they should be, which spares sorting or partitioning all of them.
    """
    expected = depth / SAMPLE_STRIDE
    generous = int(expected + 4 * math.sqrt(expected)) + 4
    candidates = np.flatnonzero(similarities >= _largest(similarities[::SAMPLE_STRIDE], generous))
    if len(candidates) < depth:
        candidates = np.flatnonzero(similarities >= _largest(similarities, depth))
    return candidates[np.argsort(-similarities[candidates], kind="stable")[:depth]]


def _largest(values: npt.NDArray[np.float32], rank: int) -> np.float32:
    """The `rank`-th largest value, or less than all where there are not that many."""
    return np.partition(values, -rank)[-rank] if rank <= len(values) else np.float32(-np.inf)


def score_map(
    words_path: Path, source: FrameSource, *, variant: Variant, dataset: str, subject: Subject, seed: int, output: Path
) -> None:
    """Write ``map_words``, its interval over queries, and the table of queries.

    Args:
        words_path: ``fileid,onset,offset,label,speaker``.
        source: The frames.
    """
    words = read_words(words_path)
    labels = [word.label for word in words]
    precisions = average_precisions(word_vectors(words_path, words, source), labels, variant)
    is_query = ~np.isnan(precisions)
    if not is_query.any():
        raise InputError(f"{words_path}: every word occurs once, expected some that occur again")
    counts = Counter(labels)
    low, high = bootstrap_interval(precisions[is_query], seed=seed)
    conditions = {
        "variant": variant,
        "frame_rate_hz": source.frame_rate_hz,
        "vector": "mean of the frames",
        "similarity": "cosine",
        "ties": "order of the word list",
        "num_tokens": len(words),
        "num_words": len(counts),
        "num_words_once": sum(count == 1 for count in counts.values()),
        "words_once": "not queried, but retrieved",
        "n": "queries",
        "interval": f"percentile bootstrap over queries, {NUM_RESAMPLES} resamples",
    }
    rows = (
        {
            **{"fileid": word.fileid, "onset": word.onset, "offset": word.offset},
            **{"label": word.label, "speaker": word.speaker},
            **{"num_relevant": counts[word.label] - 1, "score": float(precision)},
        }
        for word, precision in zip(words, precisions, strict=True)
        if not np.isnan(precision)
    )
    write_score(
        output,
        subject,
        metric="map_words",
        dataset=dataset,
        condition=variant,
        value=float(precisions[is_query].mean()),
        low=low,
        high=high,
        n=int(is_query.sum()),
        conditions=conditions,
        items=(COLUMNS, rows),
        provenance=provenance(conditions, {"words": words_path, "frames": source.path}, seed),
    )


def main() -> None:
    """Entry point: features and a word list in, one score out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, required=True, help="folder of features")
    parser.add_argument("--words", type=Path, required=True, help="CSV: fileid,onset,offset,label,speaker")
    parser.add_argument("--variant", choices=get_args(Variant), default="strict")
    add_score_arguments(parser)
    given = parser.parse_args()
    score_map(
        given.words,
        feature_frames(given.features),
        variant=given.variant,
        dataset=given.dataset,
        subject=parse_subject(given.subject),
        seed=given.seed,
        output=given.output,
    )


if __name__ == "__main__":
    run(main)
