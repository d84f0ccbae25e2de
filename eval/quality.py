"""Quality of units against phones: PNMI, purities, perplexity, bitrate (section 4.1; Hsu et al. 2021, section V-E).

Beside them phone error rates (`eval.phone_errors`) and boundaries (`eval.boundaries`).
"""

import argparse
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError, run
from artifacts.files import write_csv
from artifacts.provenance import provenance
from eval.boundaries import boundary_measures
from eval.counts import Counts, Floats, UnitCounts, count_units, joint_counts, surprisal
from eval.labelled import CONVENTION, AnnotatedUnits, LabelledUnits, read_labelled
from eval.measure import Measure
from eval.phone_errors import phone_error_rates
from eval.resampling import draw_interval
from eval.scores import Subject, add_score_arguments, parse_subject, score_stem, write_score
from units.records import read_vocabulary

LABELS = "labels of 10 ms"
UNITS = "units without repetitions"
MOST_FRAMES = 3
"""The shift sweep moves units by as many frames, either way."""


def information_measures(counts: UnitCounts) -> dict[str, Measure]:
    """The metrics of counts: of units with phones, and of units without repetitions.

    With p over labels of 10 ms and q over the units without repetitions:

    - pnmi = I(phone; unit) / H(phone);
    - phone_purity = sum over units of the largest p(phone, unit);
    - cluster_purity = sum over phones of the largest p(phone, unit);
    - codebook_perplexity = 2^H(unit);
    - units_per_second, bitrate = log2(V) x units per second, entropy_bitrate = H(q) x units per second.
    """
    joint = counts.joint.sum(0)  # (P, V)

    def over_labels(per_label: npt.ArrayLike) -> Floats:
        """Sum over each speaker's labels of what is given for each phone and unit, (P, V) or broadcast to it."""
        each = np.broadcast_to(np.asarray(per_label, float), joint.shape)
        return np.array([(own * each).sum() for own in counts.joint])

    probability = joint / joint.sum()
    surprisal_phone = surprisal(probability.sum(1))  # (P,) bits
    surprisal_unit = surprisal(probability.sum(0))  # (V,) bits
    information = surprisal_phone[:, None] + surprisal_unit - surprisal(probability)
    best_phone = np.arange(len(joint))[:, None] == joint.argmax(0)
    best_unit = np.arange(joint.shape[1]) == joint.argmax(1)[:, None]
    labels = over_labels(1)  # (S,)
    num_units = counts.sequences.sum(1).astype(float)  # (S,)
    total = counts.sequences.sum(0)  # (V,)
    sequence_bits = counts.sequences @ surprisal(total / total.sum())  # (S,)
    vocabulary_bits = np.log2(len(total)) * num_units  # (S,)

    def of_labels(numerator: Floats, denominator: Floats, transform: Callable[[float], float] = float) -> Measure:
        return Measure(numerator, denominator, LABELS, int(labels.sum()), transform)

    def per_second(numerator: Floats) -> Measure:
        return Measure(numerator, counts.duration_s, UNITS, int(num_units.sum()))

    return {
        "pnmi": of_labels(over_labels(information), over_labels(surprisal_phone[:, None])),
        "phone_purity": of_labels(over_labels(best_phone), labels),
        "cluster_purity": of_labels(over_labels(best_unit), labels),
        "codebook_perplexity": of_labels(over_labels(surprisal_unit), labels, lambda entropy: 2.0**entropy),
        "units_per_second": per_second(num_units),
        "bitrate": per_second(vocabulary_bits),
        "entropy_bitrate": per_second(sequence_bits),
    }


def pnmi(joint: Counts) -> float | None:
    """I(phone; unit) / H(phone) of counts of phones and units, (P, V); None where there are no two phones."""
    if np.count_nonzero(joint.sum(1)) < 2:
        return None
    probability = joint / joint.sum()
    of_phones = surprisal(probability.sum(1))[:, None]
    information = of_phones + surprisal(probability.sum(0)) - surprisal(probability)
    return float((joint * information).sum() / (joint * of_phones).sum())


def shift_sweep(labelled: LabelledUnits) -> Iterator[dict[str, Any]]:
    """PNMI with the units moved by -3 to 3 of their frames against the annotation, a positive shift later.

    The largest is at 0 where the frames of the units lie where the annotation has them.
    """
    for frames in range(-MOST_FRAMES, MOST_FRAMES + 1):
        steps = frames * labelled.steps_per_frame
        joint = joint_counts(labelled, steps).sum(0)
        shift_ms = frames * 1000 / labelled.vocabulary.frame_rate_hz
        yield {"shift_frames": frames, "shift_ms": shift_ms, "pnmi": pnmi(joint), "n": int(joint.sum())}


def score_quality(
    labelled: LabelledUnits, *, dataset: str, subject: Subject, seed: int, output: Path, made: dict[str, Any]
) -> None:
    """Write every metric of units, with intervals over speakers.

    Their tables have one row a speaker, whose ``score`` averaged by ``weight`` gives the value (of
    codebook_perplexity its logarithm, in bits); that of active_units has one row a unit. Beside the scores stand:

    - ``joint_counts.<dataset>.csv``: labels of 10 ms by phone and unit, which figure 10 is drawn from;
    - ``phone_given_unit.<dataset>.csv``: p(phone | unit), one row a unit that occurs, one column a phone;
    - ``shift_sweep.<dataset>.csv``: PNMI with the units moved by some frames.

    Args:
        made: Provenance.
    """
    counts = count_units(labelled)
    place: dict[str, Any] = {"folder": output, "subject": subject, "dataset": dataset, "provenance": made}
    convention = {**made["settings"], **CONVENTION}
    sequence = counts.sequences.sum(0)
    write_tables(labelled, counts, dataset, output)
    measures = information_measures(counts) | phone_error_rates(labelled, counts) | boundary_measures(labelled)
    for metric, measure in measures.items():
        rows = measure.by_speaker(counts.speakers)
        scores, weights = [row["score"] for row in rows], [row["weight"] for row in rows]
        low, high, interval = draw_interval(rows, scores, "speakers", weights=weights, seed=seed)
        write_score(
            **place,
            metric=metric,
            value=measure.value,
            low=None if low is None else measure.transform(low),
            high=None if high is None else measure.transform(high),
            n=measure.n,
            conditions={
                **convention,
                **measure.conditions,
                "n": measure.items,
                **interval,
            },
            items=(("speaker", "score", "weight"), rows),
        )
    write_score(
        **place,
        metric="active_units",
        value=int(np.count_nonzero(sequence)),
        n=int(sequence.sum()),
        conditions={**convention, "n": UNITS, "interval": "none"},
        items=(("unit", "count"), ({"unit": unit, "count": count} for unit, count in enumerate(sequence.tolist()))),
    )


def write_tables(labelled: LabelledUnits, counts: UnitCounts, dataset: str, output: Path) -> None:
    """Write what stands beside the scores: joint counts, p(phone | unit), the shift sweep."""
    joint = counts.joint.sum(0)
    write_csv(
        output / f"{score_stem('joint_counts', dataset)}.csv",
        ("phone", "unit", "count"),
        (
            {"phone": counts.phones[phone], "unit": unit, "count": joint[phone, unit]}
            for phone, unit in np.argwhere(joint)
        ),
    )
    of_unit = joint.sum(0)
    write_csv(
        output / f"{score_stem('phone_given_unit', dataset)}.csv",
        ("unit", *counts.phones),
        (
            {"unit": unit, **dict(zip(counts.phones, (joint[:, unit] / of_unit[unit]).tolist(), strict=True))}
            for unit in np.flatnonzero(of_unit).tolist()
        ),
    )
    write_csv(
        output / f"{score_stem('shift_sweep', dataset)}.csv",
        ("shift_frames", "shift_ms", "pnmi", "n"),
        shift_sweep(labelled),
    )


def main() -> None:
    """Entry point: units and annotations in, one score a metric out."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Several units, intervals and manifests are pooled.")
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="units, JSONL")
    parser.add_argument("--vocabulary", type=Path, required=True, help="config.json with num_units and frame_rate_hz")
    parser.add_argument("--intervals", type=Path, nargs="+", required=True, help="annotations with phones, CSV")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="the utterances, CSV")
    add_score_arguments(parser)
    given = parser.parse_args()
    subject = parse_subject(given.subject)
    if not len(given.units) == len(given.intervals) == len(given.manifest):
        raise InputError("--units, --intervals, --manifest: expected as many of each")
    sets = [AnnotatedUnits(*paths) for paths in zip(given.units, given.manifest, given.intervals, strict=True)]
    vocabulary = read_vocabulary(given.vocabulary)
    inputs = {f"{name}_{number}": path for number, each in enumerate(sets) for name, path in asdict(each).items()}
    made = provenance(vocabulary._asdict(), inputs, given.seed)
    labelled = read_labelled(sets, vocabulary)
    score_quality(labelled, dataset=given.dataset, subject=subject, seed=given.seed, output=given.output, made=made)


if __name__ == "__main__":
    run(main)
