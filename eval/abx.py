"""ABX discriminability of phones in context, within and across speakers (section 3.2; Schatz 2016).

X and A are two instances of the same phone between the same neighbours, B one of another phone between them: an
error where X is nearer to B than to A, half an error where they are equally near. fastabx computes it, with the
subsampling and the averaging of ZeroSpeech 2021: over contexts, then speakers, then pairs of phones. Instances are
those of an item file: triphones, told apart by their central phones, or phonemes alone. In any context A, B and X need
not share their neighbours.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from artifacts.device import DeviceName, choose_device
from artifacts.errors import InputError, run
from artifacts.provenance import provenance
from eval.frames import Frames, FrameSource, feature_frames, gather, unit_frames
from eval.resampling import draw_interval
from eval.scores import Subject, parse_subject, write_score
from eval.segments import Segment, Spans, frame_spans, read_item
from units.records import read_vocabulary

if TYPE_CHECKING:
    import polars as pl
    import torch
    from fastabx import Dataset

Speaker = Literal["within", "across"]
Context = Literal["within", "any"]
Segments = Literal["triphone", "phoneme"]
DistanceName = Literal["angular", "kl_symmetric", "identical"]
Resampled = Literal["speakers", "pairs"]
Metric = Literal["abx_continuous", "abx_codebook", "abx_units"]

# ZeroSpeech 2021
MAX_SIZE_GROUP = 10
MAX_X_ACROSS = 5

PAIR_COLUMNS = ("phone_a", "phone_b", "speaker", "num_cells", "num_triples", "score", "weight")
PROBABILITY_TOLERANCE = 1e-2  # float16 rounds each of 256 probabilities


@dataclass(frozen=True, slots=True)
class Scored:
    """One system to score: its frames, what they are of, and the folder its scores go to."""

    source: FrameSource
    subject: Subject
    output: Path


def condition_name(speaker: Speaker, context: Context, segments: Segments) -> str:
    """How a score calls its condition: ``within``, ``across_any``, ``within_phoneme``, ``across_any_phoneme``."""
    any_context = "_any" if context == "any" else ""
    return f"{speaker}{any_context}{'' if segments == 'triphone' else f'_{segments}'}"


def build_dataset(
    segments: Sequence[Segment],
    spans: Spans,
    source: FrameSource,
    distance: DistanceName,
    device: "torch.device",
    folder: Path,
) -> "Dataset":
    """The segments and their frames as a fastabx dataset; it serves one distance.

    For the angular one frames are normalised on their way to disk: fastabx would do it with all at once, in memory.
    Labels are handed over as numbers, because the subsampling of fastabx 0.9 takes ``a-b, c`` for ``a, b-c``.

    Args:
        folder: Where the frames lie while the dataset lives, in a file without a name.

    Raises:
        InputError: Frames are not finite, or do not suit the distance.
    """
    import polars as pl
    import torch
    from fastabx import Dataset, InMemoryAccessor

    def prepare(fileid: str, frames: Frames) -> Frames:
        _require_suitable(source.path, fileid, frames, distance)
        if distance != "angular":
            return frames
        alone = InMemoryAccessor({0: (0, len(frames))}, torch.from_numpy(frames), torch.device("cpu"))
        alone.normalize_()
        normalised: Frames = alone[0].numpy()
        return normalised

    data, places = gather(source, segments, spans.frames, prepare, folder)
    columns = {
        "#phone": [segment.label for segment in segments],
        "prev-phone": [segment.previous for segment in segments],
        "next-phone": [segment.following for segment in segments],
        "speaker": [segment.speaker for segment in segments],
    }
    labels = pl.DataFrame({name: np.unique(values, return_inverse=True)[1] for name, values in columns.items()})
    indices = {index: (start, stop) for index, (start, stop) in enumerate(places.tolist())}
    accessor = InMemoryAccessor(indices, torch.from_numpy(data), device)
    accessor.is_normalized = distance == "angular"
    return Dataset(labels=labels, accessor=accessor)


def _require_suitable(path: Path, fileid: str, frames: Frames, distance: DistanceName) -> None:
    if distance == "identical" and frames.shape[1] != 1:
        raise InputError(f"{path}: found {frames.shape[1]} dimensions, expected units for the distance identical")
    if distance == "kl_symmetric":
        sums = frames.sum(1)
        if (frames < 0).any() or (abs(sums - 1) > PROBABILITY_TOLERANCE).any():
            raise InputError(f"{path}: {fileid} has no probabilities, expected them for the distance kl_symmetric")


def abx_cells(dataset: "Dataset", item: Path, speaker: Speaker, context: Context, seed: int) -> "pl.DataFrame":
    """The comparisons: instances of A, B and X for each pair of phones, context and speaker(s).

    They follow from the labels alone, so that they serve every layer of every encoder.

    Raises:
        InputError: No segments of the item file make a comparison.
    """
    from fastabx import EmptyTaskError, Subsampler, Task

    by = ["prev-phone", "next-phone"] if context == "within" else []
    across = ["speaker"] if speaker == "across" else None
    try:
        task = Task(
            dataset,
            on="#phone",
            by=[*by, "speaker"] if speaker == "within" else by,
            across=across,
            subsampler=Subsampler(MAX_SIZE_GROUP, MAX_X_ACROSS, seed),
        )
    except EmptyTaskError:
        raise InputError(
            f"{item}: no A, B and X {speaker} speakers in {context} context, expected enough segments for one"
        ) from None
    cells: pl.DataFrame = task.cells
    return cells


def abx_pairs(
    dataset: "Dataset",
    cells: "pl.DataFrame",
    segments: Sequence[Segment],
    speaker: Speaker,
    context: Context,
    distance: DistanceName,
) -> list[dict[str, Any]]:
    """Error of each (phone A, phone B, speaker of A and B), the rows of the score's table.

    The score is the mean of ``score`` weighted by ``weight``, which averages over speakers within each pair of
    phones, then over pairs. In any context fastabx averages cells, not speakers, within a pair.
    """
    import polars as pl
    from fastabx import Score, Task

    task = Task.from_cells(dataset, cells, is_symmetric=speaker == "within")
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
    systems: Sequence[Scored],
    *,
    metric: Metric,
    distance: DistanceName,
    speakers: Sequence[Speaker],
    contexts: Sequence[Context] = ("within",),
    kind: Segments = "triphone",
    dataset: str,
    device: DeviceName,
    seed: int,
    resample: Resampled = "speakers",
) -> None:
    """Write one score for each system, speaker condition and context.

    The comparisons are drawn once, and the frames of one system are held at a time, on disk and as far as there is room
    in memory.

    Args:
        item: ZeroSpeech item file.
        contexts: Whether A, B and X share their neighbouring phones, or have any.
        kind: What the segments of the item file are.
        resample: What the interval and comparisons draw. The speakers of A and B: instances of one speaker are not
            independent, and pairs of phones are no sample but the inventory. Or the pairs of phones, where speakers
            are too few to draw from.
    """
    segments = read_item(item)
    chosen = choose_device(device)
    cells: dict[tuple[Speaker, Context], pl.DataFrame] = {}
    for system in systems:
        spans = frame_spans(item, segments, system.source.num_frames, system.source.frame_rate_hz)
        frames = build_dataset(segments, spans, system.source, distance, chosen, system.output)
        for speaker in speakers:
            for context in contexts:
                if (speaker, context) not in cells:
                    cells[speaker, context] = abx_cells(frames, item, speaker, context, seed)
                rows = abx_pairs(frames, cells[speaker, context], segments, speaker, context, distance)
                conditions = {
                    "distance": distance,
                    "speaker": speaker,
                    "context": context,
                    "segments": kind,
                    "frame_rate_hz": system.source.frame_rate_hz,
                    "max_size_group": MAX_SIZE_GROUP,
                    "max_x_across": MAX_X_ACROSS if speaker == "across" else None,
                    "subsampling_seed": seed,
                    "average": "contexts, then speakers, then pairs of phones"
                    if context == "within"
                    else "cells, then pairs of phones",
                    "n": "cells: one A and B, context and speaker(s)",
                    "num_triples": sum(row["num_triples"] for row in rows),
                    "num_segments": len(segments),
                    **spans.conditions,
                }
                write_abx(
                    system,
                    rows,
                    metric=metric,
                    dataset=dataset,
                    condition=condition_name(speaker, context, kind),
                    conditions=conditions,
                    inputs={"item": item, "frames": system.source.path},
                    seed=seed,
                    resample=resample,
                )
        del frames  # before those of the next system are read


def write_abx(
    system: Scored,
    rows: list[dict[str, Any]],
    *,
    metric: Metric,
    dataset: str,
    condition: str,
    conditions: dict[str, Any],
    inputs: dict[str, Path],
    seed: int,
    resample: Resampled,
) -> None:
    """Write one score and its pairs."""
    scores, weights = [row["score"] for row in rows], [row["weight"] for row in rows]
    low, high, interval = draw_interval(rows, scores, resample, weights=weights, seed=seed)
    conditions = {**conditions, **interval}
    write_score(
        system.output,
        system.subject,
        metric=metric,
        dataset=dataset,
        condition=condition,
        value=float(np.average(scores, weights=weights)),
        low=low,
        high=high,
        n=sum(row["num_cells"] for row in rows),
        conditions=conditions,
        items=(PAIR_COLUMNS, rows),
        provenance=provenance(conditions, inputs, seed),
    )


def main() -> None:
    """Entry point: features or units and an item file in, one score a system and condition out."""
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0],
        epilog="Of several features or units, of layers say, comparisons are drawn once; give as many --subject and "
        "--output.",
    )
    frames = parser.add_mutually_exclusive_group(required=True)
    frames.add_argument("--features", type=Path, nargs="+", help="folders of features or soft-max predictions")
    frames.add_argument("--units", type=Path, nargs="+", help="units, JSONL; need --vocabulary")
    parser.add_argument("--vocabulary", type=Path, nargs="+", help="config.json with num_units and frame_rate_hz")
    parser.add_argument("--item", type=Path, required=True, help="ZeroSpeech item file")
    parser.add_argument("--segments", choices=get_args(Segments), default="triphone", help="what the item file has")
    parser.add_argument("--speaker", nargs="+", choices=get_args(Speaker), default=["within", "across"])
    parser.add_argument("--context", nargs="+", choices=get_args(Context), default=["within"])
    parser.add_argument("--distance", choices=get_args(DistanceName), required=True)
    parser.add_argument("--metric", choices=get_args(Metric), required=True)
    parser.add_argument("--resample", choices=get_args(Resampled), default="speakers", help="what the interval is over")
    parser.add_argument("--device", choices=get_args(DeviceName), default="auto")
    parser.add_argument("--dataset", required=True, help="name of the corpus, as scores print it")
    parser.add_argument(
        "--subject", nargs="+", required=True, help="what is scored: JSON objects (model, encoder, layer, ...)"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default 0)")
    parser.add_argument("--output", type=Path, nargs="+", required=True, help="folders of the scores")
    given = parser.parse_args()
    if (given.units is None) != (given.vocabulary is None):
        raise InputError("--vocabulary: expected with --units, and only there")
    paths = given.features or given.units
    for name in ("subject", "output", *(["vocabulary"] if given.units else [])):
        if (found := len(getattr(given, name))) != len(paths):
            raise InputError(f"--{name}: found {found}, expected {len(paths)}: one for each of --features or --units")
    if len(set(given.output)) < len(given.output):
        raise InputError("--output: found a folder twice, expected one for each of --features or --units")
    if given.features:
        sources = [feature_frames(folder) for folder in given.features]
    else:
        rates = [read_vocabulary(path).frame_rate_hz for path in given.vocabulary]
        sources = [unit_frames(path, rate) for path, rate in zip(given.units, rates, strict=True)]
    subjects = [parse_subject(text) for text in given.subject]
    score_abx(
        given.item,
        [Scored(*system) for system in zip(sources, subjects, given.output, strict=True)],
        metric=given.metric,
        distance=given.distance,
        speakers=given.speaker,
        contexts=given.context,
        kind=given.segments,
        dataset=given.dataset,
        device=given.device,
        seed=given.seed,
        resample=given.resample,
    )


if __name__ == "__main__":
    run(main)
