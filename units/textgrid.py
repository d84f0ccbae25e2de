"""Units beside phones and words in Praat: a TextGrid an utterance, with a tier for each system.

python -m units.textgrid --manifest results/demo/corpora/dev/manifest.csv
    --intervals results/demo/corpora/dev/intervals.csv --systems spidr-L01-kmeans50
    --units results/demo/units/spidr-L01-kmeans50/dev.jsonl
    --vocabularies results/demo/quantizers/spidr/L01/kmeans50/config.json --output textgrids

Frame i of a unit stands from i / rate to (i + 1) / rate, the rate being the vocabulary's; annotations need not be.
"""

import argparse
from collections.abc import Collection, Sequence
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.progress import Progress
from corpora.annotations import TIERS
from corpora.audio import SAMPLE_RATE_HZ
from corpora.importers.source import Span
from corpora.importers.textgrid import write_textgrid
from corpora.interchange import read_spans, textgrid_path
from corpora.layouts import some
from corpora.manifest import read_manifest
from units.records import UnitSequence, read_units, read_vocabulary


def unit_spans(sequence: UnitSequence, frame_rate_hz: float) -> list[Span]:
    """One span a unit, named by its number."""
    return [Span(onset_s, offset_s, str(unit)) for onset_s, offset_s, unit in sequence.timed(frame_rate_hz)]


def read_unit_tier(units: Path, vocabulary: Path, fileids: Collection[str]) -> dict[str, list[Span]]:
    """The spans of the units of some utterances.

    Args:
        vocabulary: config.json that says how many units and how many frames a second there are.

    Raises:
        InputError: An utterance without units, a unit beyond the vocabulary, or a malformed file.
    """
    num_units, frame_rate_hz = read_vocabulary(vocabulary)
    spans = {}
    for sequence in read_units(units):
        if sequence.units and max(sequence.units) >= num_units:
            raise InputError(
                f"{units}: {sequence.fileid}: found unit {max(sequence.units)}, expected units below {num_units}, as "
                f"{vocabulary} says"
            )
        if sequence.fileid in fileids:
            spans[sequence.fileid] = unit_spans(sequence, frame_rate_hz)
    missing = [fileid for fileid in fileids if fileid not in spans]
    if missing:
        raise InputError(f"{units}: found no {some(missing)} of {len(fileids):,} utterances, expected their units")
    return spans


def write_textgrids(
    manifest: Path,
    systems: Sequence[str],
    units: Sequence[Path],
    vocabularies: Sequence[Path],
    output: Path,
    intervals: Path | None = None,
) -> int:
    """Write ``<fileid>.TextGrid`` for each utterance of a manifest; gives their number.

    The tiers are ``phones`` and ``words``, where an utterance has them, then the systems in their order.

    Args:
        systems: Names of tiers, one for each of `units`.
        intervals: Interval table.

    Raises:
        InputError: A name twice, an utterance without units, or a malformed file.
    """
    if len(set(systems) | set(TIERS)) < len(systems) + len(TIERS):
        raise InputError(f"--systems: found {' '.join(systems)}, expected a name of its own each, not phones or words")
    utterances = read_manifest(manifest)
    fileids = {utterance.fileid for utterance in utterances}
    tiers: dict[str, dict[str, list[Span]]] = {}
    if intervals is not None:
        tiers |= read_spans(intervals)
    for system, path, vocabulary in zip(systems, units, vocabularies, strict=True):
        tiers[system] = read_unit_tier(path, vocabulary, fileids)
    with Progress("write TextGrids", len(utterances), "utterances") as progress:
        for utterance in utterances:
            found = {name: spans[utterance.fileid] for name, spans in tiers.items() if utterance.fileid in spans}
            write_textgrid(textgrid_path(output, utterance), utterance.num_samples / SAMPLE_RATE_HZ, found)
            progress.advance()
    return len(utterances)


def main() -> None:
    """Write TextGrids of units, with phones and words beside them, to be looked at in Praat."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--manifest", type=Path, required=True, help="the utterances to write")
    parser.add_argument("--intervals", type=Path, help="their phones and words: interval table, CSV")
    parser.add_argument("--systems", nargs="+", required=True, help="how the tiers are called")
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="JSONL, one for each system")
    parser.add_argument("--vocabularies", type=Path, nargs="+", required=True, help="config.json, one for each system")
    parser.add_argument("--output", type=Path, required=True, help="folder of the TextGrids")
    given = parser.parse_args()
    if not len(given.systems) == len(given.units) == len(given.vocabularies):
        raise InputError(
            f"--units, --vocabularies: found {len(given.units)} and {len(given.vocabularies)}, expected one of each "
            f"for the {len(given.systems)} systems"
        )
    count = write_textgrids(
        given.manifest, given.systems, given.units, given.vocabularies, given.output, given.intervals
    )
    print(f"{given.output}: {count:,} TextGrids")


if __name__ == "__main__":
    run(main)
