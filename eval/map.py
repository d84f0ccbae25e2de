"""Mean average precision over words (section 3.2, equation 5; Carlin et al. 2011).

A word token is the mean of its frames. Each token is a query: all others are sorted by cosine similarity, and the
R other tokens of the same word should come first. Equally similar tokens keep the order of the word list.

Two formulas, which disagree and are never compared with each other:

- ``strict``: MAP@R, the sum of precisions at hits among the first R, divided by R (Musgrave et al. 2020, equation 3);
- ``speech-map``: the same sum not cut at R but at the largest R of the whole set, as the package of that name has it.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np

from artifacts.errors import InputError, run
from artifacts.provenance import provenance
from eval.frames import FrameSource, by_utterance, feature_frames, read_finite
from eval.resampling import draw_interval
from eval.retrieval import Variant, Vectors, average_precisions
from eval.scores import Subject, add_score_arguments, parse_subject, write_score
from eval.segments import Segment, Spans, frame_spans, read_words

COLUMNS = ("fileid", "onset", "offset", "label", "speaker", "num_relevant", "score")


def word_vectors(words: Sequence[Segment], spans: Spans, source: FrameSource) -> Vectors:
    """Mean of the frames of each word token, scaled to length 1, (n, dim); one utterance is read at a time.

    Raises:
        InputError: A word's frames are not finite, or all zero.
    """
    members = by_utterance(words)
    vectors = np.empty((0, 0), np.float32)
    for fileid, frames in read_finite(source, list(members)):
        if not vectors.size:
            vectors = np.empty((len(words), frames.shape[1]), np.float32)
        for index in members[fileid]:
            frames[slice(*spans.frames[index])].mean(0, dtype=np.float32, out=vectors[index])
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not norms.all():
        word = words[int(norms.argmin())]
        raise InputError(f"{source.path}: {word.label} of {word.fileid} at {word.onset} s has a mean of zero")
    return np.divide(vectors, norms, out=vectors)


def score_map(
    words_path: Path, source: FrameSource, *, variant: Variant, dataset: str, subject: Subject, seed: int, output: Path
) -> None:
    """Write ``map_words``, its interval, and the table of queries.

    The queries of one word succeed or fail together: it is words that the interval draws.

    Args:
        words_path: ``fileid,onset,offset,label,speaker``.
        source: The frames.

    Raises:
        InputError: Words without frames, a malformed list, or no word that occurs again.
    """
    words = read_words(words_path)
    labels = [word.label for word in words]
    spans = frame_spans(words_path, words, source.num_frames, source.frame_rate_hz)
    precisions = average_precisions(word_vectors(words, spans, source), labels, variant)
    is_query = ~np.isnan(precisions)
    if not is_query.any():
        raise InputError(f"{words_path}: every word occurs once, expected some that occur again")
    counts = Counter(labels)
    rows = [
        {
            **{"fileid": word.fileid, "onset": word.onset, "offset": word.offset},
            **{"label": word.label, "speaker": word.speaker},
            **{"num_relevant": counts[word.label] - 1, "score": float(precision)},
        }
        for word, precision in zip(words, precisions, strict=True)
        if not np.isnan(precision)
    ]
    low, high, interval = draw_interval(rows, precisions[is_query], "words", seed=seed)
    conditions = {
        "variant": variant,
        "frame_rate_hz": source.frame_rate_hz,
        "vector": "mean of the frames",
        **spans.conditions,
        "similarity": "cosine",
        "ties": "order of the word list",
        "num_tokens": len(words),
        "num_words": len(counts),
        "num_words_once": sum(count == 1 for count in counts.values()),
        "words_once": "not queried, but retrieved",
        "n": "queries",
        **interval,
    }
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
