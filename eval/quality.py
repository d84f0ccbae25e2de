"""Quality of units against phones: PNMI, purities, perplexity, bitrate (section 4.1; Hsu et al. 2021, section V-E)."""

import argparse
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError, run
from artifacts.files import write_csv
from artifacts.provenance import provenance
from eval.counts import CONVENTION, AnnotatedUnits, UnitCounts, count_units
from eval.scores import Subject, add_score_arguments, parse_subject, score_stem, write_score
from eval.statistics import NUM_RESAMPLES, bootstrap_interval
from units.records import read_vocabulary

type Floats = npt.NDArray[np.float64]

LABELS = "labels of 10 ms"
UNITS = "units without repetitions"


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric as a ratio of sums over speakers, ``transform(sum(numerator) / sum(denominator))``.

    Information measures are written with the logarithms of the pooled probabilities held fixed: to first order
    that is how they vary when speakers are drawn again (their influence function), without the upward bias
    entropies of a resample have.
    """

    numerator: Floats  # (S,)
    denominator: Floats  # (S,)
    items: str
    transform: Callable[[float], float] = float

    def by_speaker(self, speakers: Sequence[str]) -> list[dict[str, Any]]:
        """Ratio and denominator of each speaker who says something: the rows of the score's table."""
        return [
            {"speaker": speaker, "score": float(numerator / denominator), "weight": float(denominator)}
            for speaker, numerator, denominator in zip(speakers, self.numerator, self.denominator, strict=True)
            if denominator > 0
        ]


def measures(counts: UnitCounts) -> dict[str, Measure]:
    """Every metric of units but the number of active ones.

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
    surprisal_phone = _surprisal(probability.sum(1))  # (P,) bits
    surprisal_unit = _surprisal(probability.sum(0))  # (V,) bits
    information = surprisal_phone[:, None] + surprisal_unit - _surprisal(probability)
    best_phone = np.arange(len(joint))[:, None] == joint.argmax(0)
    best_unit = np.arange(joint.shape[1]) == joint.argmax(1)[:, None]
    labels = over_labels(1)  # (S,)
    num_units = counts.sequences.sum(1).astype(float)  # (S,)
    total = counts.sequences.sum(0)  # (V,)
    sequence_bits = counts.sequences @ _surprisal(total / total.sum())  # (S,)
    vocabulary_bits = np.log2(len(total)) * num_units  # (S,)
    return {
        "pnmi": Measure(over_labels(information), over_labels(surprisal_phone[:, None]), LABELS),
        "phone_purity": Measure(over_labels(best_phone), labels, LABELS),
        "cluster_purity": Measure(over_labels(best_unit), labels, LABELS),
        "codebook_perplexity": Measure(over_labels(surprisal_unit), labels, LABELS, lambda entropy: 2.0**entropy),
        "units_per_second": Measure(num_units, counts.duration_s, UNITS),
        "bitrate": Measure(vocabulary_bits, counts.duration_s, UNITS),
        "entropy_bitrate": Measure(sequence_bits, counts.duration_s, UNITS),
    }


def _surprisal(probability: Floats) -> Floats:
    """-log2 p, and 0 where p is 0: such terms are weighted by p."""
    return -np.log2(probability, out=np.zeros_like(probability), where=probability > 0)


def score_quality(
    counts: UnitCounts, *, dataset: str, subject: Subject, seed: int, output: Path, made: dict[str, Any]
) -> None:
    """Write every metric of units, with intervals over speakers.

    Their tables have one row a speaker, whose ``score`` averaged by ``weight`` gives the value (of
    codebook_perplexity its logarithm, in bits); that of active_units has one row a unit. The joint counts of phones
    and units stand beside the scores, in ``joint_counts.<dataset>.csv``.

    Args:
        made: Provenance.
    """
    place: dict[str, Any] = {"folder": output, "subject": subject, "dataset": dataset, "provenance": made}
    convention = {**made["settings"], **CONVENTION}
    joint, sequence = counts.joint.sum(0), counts.sequences.sum(0)
    n = {LABELS: int(joint.sum()), UNITS: int(sequence.sum())}
    write_csv(
        output / f"{score_stem('joint_counts', dataset)}.csv",
        ("phone", "unit", "count"),
        (
            {"phone": counts.phones[phone], "unit": unit, "count": joint[phone, unit]}
            for phone, unit in np.argwhere(joint)
        ),
    )
    for metric, measure in measures(counts).items():
        rows = measure.by_speaker(counts.speakers)
        low, high = bootstrap_interval(
            [row["score"] for row in rows], weights=[row["weight"] for row in rows], seed=seed
        )
        write_score(
            **place,
            metric=metric,
            value=measure.transform(measure.numerator.sum() / measure.denominator.sum()),
            low=None if low is None else measure.transform(low),
            high=None if high is None else measure.transform(high),
            n=n[measure.items],
            conditions={
                **convention,
                "n": measure.items,
                "interval": f"percentile bootstrap over {len(rows)} speakers, {NUM_RESAMPLES} resamples",
            },
            items=(("speaker", "score", "weight"), rows),
        )
    write_score(
        **place,
        metric="active_units",
        value=int(np.count_nonzero(sequence)),
        n=n[UNITS],
        conditions={**convention, "n": UNITS, "interval": "none"},
        items=(("unit", "count"), ({"unit": unit, "count": count} for unit, count in enumerate(sequence.tolist()))),
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
    counts = count_units(sets, vocabulary)
    score_quality(counts, dataset=given.dataset, subject=subject, seed=given.seed, output=given.output, made=made)


if __name__ == "__main__":
    run(main)
