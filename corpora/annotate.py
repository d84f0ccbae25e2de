"""Annotations checked against the audio: intervals.csv, triphone.item, phoneme.item and words.csv."""

import argparse
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.files import write_csv
from corpora.agreement import UNKNOWN, Agreement, raise_problems
from corpora.annotations import TIERS, Interval, Tier, format_seconds, interval_writer, read_intervals
from corpora.interchange import import_intervals
from corpora.items import covered, phonemes, triphones, write_covered
from corpora.layouts import some
from corpora.manifest import read_manifest
from corpora.prepare import check_source
from corpora.settings import load_corpus, locate

WORD_COLUMNS = ("fileid", "onset", "offset", "label", "speaker")

Tiers = dict[Tier, dict[str, list[Interval]]]


def read_tiers(path: Path, agreement: Agreement) -> Tiers:
    """The intervals of a table (``.csv``), or of annotations in another form (`corpora.importers`), by fileid.

    Raises:
        InputError: A malformed file, a form that cannot be told, or one line that names all that is wrong between
            annotations and manifest.
    """
    tiers: Tiers = {tier: {} for tier in TIERS}
    if path.suffix.lower() == ".csv":
        for tier in TIERS:
            tiers[tier] = read_intervals(path, tier)
            for utterance in agreement.utterances:
                if utterance.fileid in tiers[tier]:
                    agreement.compare(utterance, tier, tiers[tier][utterance.fileid])
    else:
        for intervals in import_intervals(path, agreement):
            tiers[intervals[0].tier][intervals[0].fileid] = intervals
    problems = agreement.problems(["phones"])
    problems.pop(UNKNOWN, None)
    raise_problems(str(path), problems)
    return tiers


def annotate(path: Path, manifest: Path, output: Path) -> None:
    """Write the annotations of the manifest's utterances, in its order, and the items drawn from them.

    Items that frames of 50 Hz do not cover are left out (`corpora.items`), and so are annotated
    utterances that the manifest lacks; their numbers are printed.

    Args:
        path: An interval table, or annotations in another form that `read_tiers` knows.

    Raises:
        InputError: Annotations and manifest do not agree, or either is malformed.
    """
    utterances = read_manifest(manifest)
    agreement = Agreement(utterances)
    tiers = read_tiers(path, agreement)
    # Of a table all utterances are read; of other forms those that the manifest lacks are only named.
    extra = set().union(*tiers.values()) - {utterance.fileid for utterance in utterances} | agreement.found[UNKNOWN]
    if extra:
        print(f"{path}: left out {some(extra)} annotated utterances that the manifest lacks")
    with interval_writer(output / "intervals.csv") as write:
        for utterance in utterances:
            for tier in TIERS:
                write(tiers[tier].get(utterance.fileid, ()))
    for name, items_of in (("triphone", triphones), ("phoneme", phonemes)):
        count, left_out = write_covered(output / f"{name}.item", items_of, tiers["phones"], utterances)
        print(f"{output}: {count:,} {name}s; {left_out:,} left out, which frames do not cover")
    dropped: list[str] = []
    words = (
        word
        for utterance in utterances
        for word in covered(tiers["words"].get(utterance.fileid, ()), utterance, dropped)
    )
    write_csv(output / "words.csv", WORD_COLUMNS, map(_word, words))
    print(f"{output}: {len(dropped):,} words left out, which frames do not cover")


def _word(interval: Interval) -> dict[str, str]:
    times = {"onset": format_seconds(interval.onset), "offset": format_seconds(interval.offset)}
    return {"fileid": interval.fileid, **times, "label": interval.label, "speaker": interval.speaker}


def main() -> None:
    """Check annotations against a manifest and write intervals.csv, triphone.item, phoneme.item, words.csv."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="the corpus's settings, with `annotations`: a file, or JSON")
    parser.add_argument("--source", type=Path, help="folder of the synthetic corpus that the settings name as source")
    parser.add_argument("--manifest", type=Path, required=True, help="the corpus's manifest.csv")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    settings = load_corpus(arguments.settings)
    check_source(settings, arguments.source)
    if settings.annotations is None:
        raise InputError(
            "annotations: missing, expected the path of an interval table or of annotations in another form"
        )
    path = locate(settings.annotations, "annotations", arguments.source)
    annotate(path, arguments.manifest, arguments.output)


if __name__ == "__main__":
    run(main)
