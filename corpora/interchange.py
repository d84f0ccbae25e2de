"""Annotations from elsewhere become an interval table, and an interval table what others read.

``import`` reads ZeroSpeech's item files, TextGrids of Praat and the Montreal Forced Aligner, TIMIT's .phn and .wrd,
JSONL of frames and of words, and LibriSpeech's .alignment.txt, all held against the manifest; ``export`` writes item
files and TextGrids.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from artifacts.errors import InputError, run
from artifacts.progress import Progress
from corpora.agreement import MISSING, UNKNOWN, Agreement, raise_problems
from corpora.annotations import TIERS, Interval, interval_writer, read_intervals
from corpora.audio import SAMPLE_RATE_HZ
from corpora.importers.formats import FORMATS, FRAME_RATE_HZ, Format, infer, read_annotations
from corpora.importers.source import Span
from corpora.importers.textgrid import write_textgrid
from corpora.items import phonemes, triphones, write_covered
from corpora.layouts import some
from corpora.manifest import Utterance, read_manifest

ITEMS = {"phoneme-item": phonemes, "triphone-item": triphones}


def import_intervals(
    path: Path, agreement: Agreement, form: Format | None = None, frame_rate_hz: float = FRAME_RATE_HZ
) -> Iterator[list[Interval]]:
    """Stream the intervals of a file or folder, tier by tier of utterance by utterance.

    Args:
        agreement: With the manifest; gathers all that is wrong.
        form: None tells it from the path.
        frame_rate_hz: Of JSONL of frames.

    Raises:
        InputError: The form cannot be told, or a file is malformed.
    """
    if form is None:
        form = infer(path)
        print(f"{path}: read as {form}{f', {frame_rate_hz:g} frames a second' if form == 'frames' else ''}")
    last = None
    with Progress(f"import {form}", len(agreement.utterances), "utterances") as progress:
        for labelled in read_annotations(path, form, frame_rate_hz):
            if intervals := agreement.take(labelled):
                yield intervals
            if labelled.name != last:
                progress.advance()
            last = labelled.name


def write_interval_table(
    paths: Sequence[Path],
    manifest: Path,
    output: Path,
    form: Format | None = None,
    frame_rate_hz: float = FRAME_RATE_HZ,
    partial: bool = False,
) -> None:
    """Write the interval table of annotations in any form: phones from one path, words from another, or both from one.

    Args:
        form: Of all paths; None tells it from each.
        frame_rate_hz: Of JSONL of frames.
        partial: Utterances that only annotations or only the manifest have are left out and counted; else they are
            problems like others.

    Raises:
        InputError: A malformed file, or one line that names all problems between annotations and manifest.
    """
    agreement = Agreement(read_manifest(manifest))
    count = 0
    with interval_writer(output) as write:
        for path in paths:
            for intervals in import_intervals(path, agreement, form, frame_rate_hz):
                write(intervals)
                count += len(intervals)
        problems = agreement.problems(agreement.tiers() or TIERS)
        if partial and count:
            for what in (UNKNOWN, *MISSING.values()):
                if what in problems:
                    print(f"left out: {what}: {some(problems.pop(what))}")
        raise_problems(", ".join(map(str, paths)), problems)
    print(f"{output}: {count:,} intervals of tier {' and '.join(agreement.tiers())}")


def export_items(intervals: Path, manifest: Path, kind: str, output: Path) -> None:
    """Write the items of the manifest's utterances that frames of 50 Hz cover, as `corpora.annotate` does.

    Args:
        kind: ``phoneme-item`` or ``triphone-item``.

    Raises:
        InputError: A malformed table.
    """
    phones = read_intervals(intervals, "phones")
    count, dropped = write_covered(output, ITEMS[kind], phones, read_manifest(manifest))
    print(f"{output}: {count:,} items; {dropped:,} left out, which frames do not cover")


def read_spans(intervals: Path) -> dict[str, dict[str, list[Span]]]:
    """The spans of an interval table by tier and fileid, for TextGrids.

    Raises:
        InputError: A malformed table.
    """
    return {
        tier: {
            fileid: [Span(i.onset, i.offset, i.label) for i in found]
            for fileid, found in read_intervals(intervals, tier).items()
        }
        for tier in TIERS
    }


def textgrid_path(folder: Path, utterance: Utterance) -> Path:
    """Where the TextGrid of an utterance goes: its fileid below a folder.

    Raises:
        InputError: The fileid leads out of the folder.
    """
    name = PurePosixPath(utterance.fileid)
    if name.is_absolute() or ".." in name.parts:
        raise InputError(f"{utterance.path}: found fileid {name}, expected one that names a file below {folder}")
    return folder / f"{name}.TextGrid"


def export_textgrids(intervals: Path, manifest: Path, output: Path) -> None:
    """Write ``<fileid>.TextGrid`` with tiers ``phones`` and ``words`` for each utterance of the manifest that has any.

    Raises:
        InputError: A malformed table, or none of the utterances in it.
    """
    tiers = read_spans(intervals)
    count = 0
    for utterance in read_manifest(manifest):
        found = {tier: spans[utterance.fileid] for tier, spans in tiers.items() if utterance.fileid in spans}
        if found:
            write_textgrid(textgrid_path(output, utterance), utterance.num_samples / SAMPLE_RATE_HZ, found)
            count += 1
    if count == 0:
        raise InputError(f"{intervals}: found no utterance of {manifest}, expected their intervals")
    print(f"{output}: {count:,} TextGrids")


def main() -> None:
    """Annotations from elsewhere to an interval table, an interval table to item files and TextGrids."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verb = verbs.add_parser("import", help="make an interval table of annotations in other forms")
    verb.add_argument("annotations", type=Path, nargs="+", help="files or folders: phones, words, or both")
    verb.add_argument("--manifest", type=Path, required=True, help="utterances, their lengths and speakers")
    verb.add_argument("--format", choices=FORMATS, help="default: told from names and first lines")
    verb.add_argument("--frame-rate", type=float, default=FRAME_RATE_HZ, help="Hz, of frames (default: 100)")
    verb.add_argument("--partial", action="store_true", help="leave out what only one side has, and count it")
    verb.add_argument("--output", type=Path, required=True, help="interval table, CSV")
    verb = verbs.add_parser("export", help="write an interval table for other tools")
    verb.add_argument("--intervals", type=Path, required=True, help="interval table, CSV")
    verb.add_argument("--manifest", type=Path, required=True, help="the utterances to write")
    verb.add_argument("--to", choices=(*ITEMS, "textgrid"), required=True)
    verb.add_argument("--output", type=Path, required=True, help="item file, or folder of the TextGrids")
    given = parser.parse_args()
    if given.verb == "import":
        if not given.frame_rate > 0:
            raise InputError(f"--frame-rate: found {given.frame_rate:g}, expected a positive number of frames a second")
        write_interval_table(
            given.annotations, given.manifest, given.output, given.format, given.frame_rate, given.partial
        )
    elif given.to == "textgrid":
        export_textgrids(given.intervals, given.manifest, given.output)
    else:
        export_items(given.intervals, given.manifest, given.to, given.output)


if __name__ == "__main__":
    run(main)
