"""ABX discriminability of phones in context, within and across speakers (section 3.2; Schatz 2016).

X and A are two instances of the same triphone, B one that differs in the central phone: an error where X is
nearer to B than to A, half an error where they are equally near. fastabx computes it, with the subsampling
and the averaging of ZeroSpeech 2021: over contexts, then speakers, then pairs of phones.
"""

import argparse
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from artifacts.device import DeviceName, choose_device
from artifacts.errors import InputError, run
from artifacts.provenance import provenance
from eval.frames import Frames, FrameSource, feature_frames, gather, unit_frames
from eval.scores import Subject, add_score_arguments, parse_subject, write_score
from eval.segments import Segment, frame_spans, read_item
from eval.statistics import NUM_RESAMPLES, bootstrap_interval
from units.records import read_vocabulary

if TYPE_CHECKING:
    import torch
    from fastabx import Dataset

Speaker = Literal["within", "across"]
Context = Literal["within", "any"]
DistanceName = Literal["angular", "kl_symmetric", "identical"]
Metric = Literal["abx_continuous", "abx_codebook", "abx_units"]

# ZeroSpeech 2021
MAX_SIZE_GROUP = 10
MAX_X_ACROSS = 5

PAIR_COLUMNS = ("phone_a", "phone_b", "speaker", "num_cells", "num_triples", "score", "weight")
PROBABILITY_TOLERANCE = 1e-2  # float16 rounds each of 256 probabilities


def build_dataset(
    item: Path, segments: Sequence[Segment], source: FrameSource, distance: DistanceName, device: "torch.device"
) -> "Dataset":
    """The segments and their frames as a fastabx dataset; angular scoring normalises it, so it serves one distance.

    Labels are handed over as numbers, because the subsampling of fastabx 0.9 takes ``a-b, c`` for ``a, b-c``.

    Raises:
        InputError: A segment has no frames, or frames do not suit the distance.
    """
    import polars as pl
    import torch
    from fastabx import Dataset, InMemoryAccessor

    def check(fileid: str, frames: Frames) -> None:
        _require_suitable(source.path, fileid, frames, distance)

    spans = frame_spans(item, segments, source.num_frames, source.frame_rate_hz)
    data, places = gather(source, segments, spans, check)
    columns = {
        "#phone": [segment.label for segment in segments],
        "prev-phone": [segment.previous for segment in segments],
        "next-phone": [segment.following for segment in segments],
        "speaker": [segment.speaker for segment in segments],
    }
    labels = pl.DataFrame({name: np.unique(values, return_inverse=True)[1] for name, values in columns.items()})
    indices = {index: (start, stop) for index, (start, stop) in enumerate(places.tolist())}
    return Dataset(labels=labels, accessor=InMemoryAccessor(indices, torch.from_numpy(data), device))


def _require_suitable(path: Path, fileid: str, frames: Frames, distance: DistanceName) -> None:
    if distance == "identical" and frames.shape[1] != 1:
        raise InputError(f"{path}: found {frames.shape[1]} dimensions, expected units for the distance identical")
    if distance == "kl_symmetric":
        sums = frames.sum(1)
        if (frames < 0).any() or (abs(sums - 1) > PROBABILITY_TOLERANCE).any():
            raise InputError(f"{path}: {fileid} has no probabilities, expected them for the distance kl_symmetric")


def abx_pairs(
    dataset: "Dataset",
    segments: Sequence[Segment],
    speaker: Speaker,
    context: Context,
    distance: DistanceName,
    seed: int,
) -> list[dict[str, Any]]:
    """Error of each (phone A, phone B, speaker of A and B), the rows of the score's table.

    The score is the mean of ``score`` weighted by ``weight``, which averages over speakers within each pair of
    phones, then over pairs. In any context fastabx averages cells, not speakers, within a pair.

    Raises:
        fastabx.EmptyTaskError: No two segments make a comparison.
    """
    import polars as pl
    from fastabx import Score, Subsampler, Task

    by = ["prev-phone", "next-phone"] if context == "within" else []
    task = Task(
        dataset,
        on="#phone",
        by=[*by, "speaker"] if speaker == "within" else by,
        across=["speaker"] if speaker == "across" else None,
        subsampler=Subsampler(MAX_SIZE_GROUP, MAX_X_ACROSS, seed),
    )
    scored = Score(task, distance, progress=sys.stderr.isatty())
    votes = pl.lit(1) if context == "within" else pl.col("num_cells")
    pair = ["#phone", "#phone_b"]
    table = (
        scored.cells.group_by("#phone", "#phone_b", "speaker", maintain_order=True)
        .agg(
            num_cells=pl.len(),
            num_triples=pl.col("size").cast(pl.Int64).sum(),
            score=pl.col("score").cast(pl.Float64).mean(),
        )
        .sort("#phone", "#phone_b", "speaker")
        .with_columns(votes=votes.cast(pl.Float64))
        .with_columns(weight=pl.col("votes") / pl.col("votes").sum().over(pair))
        .with_columns(weight=pl.col("weight") / pl.col("weight").sum())
    )
    phones = np.unique([segment.label for segment in segments]).tolist()
    speakers = np.unique([segment.speaker for segment in segments]).tolist()
    return [
        {
            "phone_a": phones[row["#phone"]],
            "phone_b": phones[row["#phone_b"]],
            "speaker": speakers[row["speaker"]],
            **{column: row[column] for column in PAIR_COLUMNS[3:]},
        }
        for row in table.iter_rows(named=True)
    ]


def score_abx(
    item: Path,
    source: FrameSource,
    *,
    metric: Metric,
    distance: DistanceName,
    speakers: Iterable[Speaker],
    context: Context,
    dataset: str,
    subject: Subject,
    device: DeviceName,
    seed: int,
    output: Path,
) -> None:
    """Write one score for each speaker condition, all from one dataset of frames.

    The interval is a bootstrap over the speakers of A and B: instances of one speaker are not independent,
    and pairs of phones are no sample but the inventory.

    Args:
        item: ZeroSpeech item file.
        source: The frames.
        context: Whether A, B and X share their neighbouring phones, or have any.
    """
    from fastabx import EmptyTaskError

    segments = read_item(item)
    frames = build_dataset(item, segments, source, distance, choose_device(device))
    for speaker in speakers:
        try:
            rows = abx_pairs(frames, segments, speaker, context, distance, seed)
        except EmptyTaskError:
            raise InputError(
                f"{item}: no A, B and X {speaker} speakers in {context} context, expected enough segments for one"
            ) from None
        scores, weights = [row["score"] for row in rows], [row["weight"] for row in rows]
        low, high = bootstrap_interval(scores, weights=weights, clusters=[row["speaker"] for row in rows], seed=seed)
        conditions = {
            "distance": distance,
            "speaker": speaker,
            "context": context,
            "frame_rate_hz": source.frame_rate_hz,
            "max_size_group": MAX_SIZE_GROUP,
            "max_x_across": MAX_X_ACROSS if speaker == "across" else None,
            "subsampling_seed": seed,
            "average": "contexts, then speakers, then pairs of phones"
            if context == "within"
            else "cells, then pairs of phones",
            "n": "cells: one A and B, context and speaker(s)",
            "num_triples": sum(row["num_triples"] for row in rows),
            "num_segments": len(segments),
            "interval": f"percentile bootstrap over {len({row['speaker'] for row in rows})} speakers of A and B, "
            f"{NUM_RESAMPLES} resamples",
        }
        write_score(
            output,
            subject,
            metric=metric,
            dataset=dataset,
            condition=speaker if context == "within" else f"{speaker}_any",
            value=float(np.average(scores, weights=weights)),
            low=low,
            high=high,
            n=sum(row["num_cells"] for row in rows),
            conditions=conditions,
            items=(PAIR_COLUMNS, rows),
            provenance=provenance(conditions, {"item": item, "frames": source.path}, seed),
        )


def main() -> None:
    """Entry point: features or units and an item file in, one score a speaker condition out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    frames = parser.add_mutually_exclusive_group(required=True)
    frames.add_argument("--features", type=Path, help="folder of features or soft-max predictions")
    frames.add_argument("--units", type=Path, help="units, JSONL; needs --vocabulary")
    parser.add_argument("--vocabulary", type=Path, help="config.json with num_units and frame_rate_hz of --units")
    parser.add_argument("--item", type=Path, required=True, help="ZeroSpeech item file")
    parser.add_argument("--speaker", nargs="+", choices=get_args(Speaker), default=["within", "across"])
    parser.add_argument("--context", choices=get_args(Context), default="within")
    parser.add_argument("--distance", choices=get_args(DistanceName), required=True)
    parser.add_argument("--metric", choices=get_args(Metric), required=True)
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")
    add_score_arguments(parser)
    given = parser.parse_args()
    if (given.units is None) != (given.vocabulary is None):
        raise InputError("--vocabulary: expected with --units, and only there")
    if given.features is not None:
        source = feature_frames(given.features)
    else:
        source = unit_frames(given.units, read_vocabulary(given.vocabulary).frame_rate_hz)
    score_abx(
        given.item,
        source,
        metric=given.metric,
        distance=given.distance,
        speakers=given.speaker,
        context=given.context,
        dataset=given.dataset,
        subject=parse_subject(given.subject),
        device=given.device,
        seed=given.seed,
        output=given.output,
    )


if __name__ == "__main__":
    run(main)
