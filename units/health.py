"""Unit health: how many units a system uses, how evenly, how many a second, per corpus.

A collapsed codebook or K-means shows here before any language model is trained on it.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import write_json
from units.records import UnitSequence, read_units, read_vocabulary

DOMINANT_SHARE = 0.5
"""A unit with more of the frames than this has taken over."""
ACTIVE_SHARE = 0.1
"""Fewer units in use than this share of the inventory is a collapse."""


def health(path: Path, num_units: int, frame_rate_hz: float) -> dict[str, Any]:
    """Figures of one file of units, read once.

    Entropy and perplexity 2^H are of the distribution of frames over units, in bits.

    Raises:
        InputError: A malformed record, a unit outside the inventory, or no frame at all.
    """
    frames_of = np.zeros(num_units, dtype=np.int64)
    utterances = units = longest_run = 0
    for sequence in _within(path, num_units):
        utterances += 1
        units += len(sequence.units)
        np.add.at(frames_of, sequence.units, sequence.durations)
        longest_run = max([longest_run, *sequence.durations])
    frames = int(frames_of.sum())
    share = frames_of[frames_of > 0] / frames
    entropy_bits = float(-(share * np.log2(share)).sum())
    return {
        "utterances": utterances,
        "frames": frames,
        "units": units,
        "active_units": len(share),
        "entropy_bits": abs(entropy_bits),  # not -0.0 where one unit takes all
        "perplexity": 2**entropy_bits,
        "deduplication_rate": 1 - units / frames,
        "units_per_second": units / frames * frame_rate_hz,
        "longest_run_frames": longest_run,
        "largest_share": float(share.max()),
    }


def _within(path: Path, num_units: int) -> Iterator[UnitSequence]:
    empty = True
    for sequence in read_units(path):
        if sequence.units and max(sequence.units) >= num_units:
            raise InputError(
                f"{path}: {sequence.fileid}: found unit {max(sequence.units)}, expected units below {num_units}"
            )
        empty = empty and not sequence.units
        yield sequence
    if empty:
        raise InputError(f"{path}: found no unit, expected at least one utterance")


def warnings(figures: dict[str, Any], num_units: int) -> list[str]:
    """What is wrong with a corpus' units, one sentence each."""
    found = []
    if figures["largest_share"] > DOMINANT_SHARE:
        found.append(f"one unit takes {figures['largest_share']:.0%} of the frames")
    if figures["active_units"] < ACTIVE_SHARE * num_units:
        found.append(f"only {figures['active_units']} of {num_units} units are used")
    return found


def main() -> None:
    """Report how healthy a system's units are, corpus by corpus."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="JSONL of units, one a corpus")
    parser.add_argument("--vocabulary", type=Path, required=True, help="config.json with num_units and frame_rate_hz")
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    given = parser.parse_args()
    num_units, frame_rate_hz = read_vocabulary(given.vocabulary)
    corpora = {path.stem: health(path, num_units, frame_rate_hz) for path in given.units}
    for corpus, figures in corpora.items():
        for warning in warnings(figures, num_units):
            print(f"warning: {corpus}: {warning}", file=sys.stderr)
    write_json(given.output, {"frame_rate_hz": frame_rate_hz, "num_units": num_units, "corpora": corpora})


if __name__ == "__main__":
    run(main)
