"""Annotations checked against the audio: intervals.csv, triphone.item, phoneme.item and words.csv."""

import argparse
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.files import write_csv
from corpora.annotations import TIERS, Interval, Tier, format_seconds, interval_writer, read_intervals
from corpora.audio import SAMPLE_RATE_HZ
from corpora.items import HOP_SAMPLES, Item, has_frames, phonemes, triphones, write_items
from corpora.layouts import some
from corpora.manifest import Utterance, read_manifest
from corpora.prepare import check_source
from corpora.settings import load_corpus, locate

WORD_COLUMNS = ("fileid", "onset", "offset", "label", "speaker")

Tiers = Mapping[Tier, Mapping[str, Sequence[Interval]]]


def check(path: Path, tiers: Tiers, utterances: Sequence[Utterance]) -> None:
    """Raise one `InputError` that names all that is wrong between annotations and manifest."""
    phones = tiers["phones"]
    late, foreign, labels = set(), set(), set()
    for utterance in utterances:
        end_s = (utterance.num_samples + HOP_SAMPLES) / SAMPLE_RATE_HZ
        for tier in TIERS:
            for interval in tiers[tier].get(utterance.fileid, ()):
                if interval.offset > end_s:
                    late.add(utterance.fileid)
                if interval.speaker != utterance.speaker:
                    foreign.add(f"{utterance.fileid}: {interval.speaker} for {utterance.speaker}")
                # Item files are space separated; fastabx joins labels by hyphens.
                if tier == "phones" and any(character.isspace() or character == "-" for character in interval.label):
                    labels.add(repr(interval.label))
    missing = [utterance.fileid for utterance in utterances if utterance.fileid not in phones]
    problems = (
        ("utterances without phones", missing),
        ("utterances with intervals past the end of their audio by more than a frame", late),
        ("utterances with another speaker than the manifest", foreign),
        ("phone labels with a space or a hyphen", labels),
    )
    found = [f"{what}: {some(names)}" for what, names in problems if names]
    if found:
        raise InputError(f"{path}: {'; '.join(found)}")


def annotate(path: Path, manifest: Path, output: Path) -> None:
    """Write the annotations of the manifest's utterances, in its order, and the items drawn from them.

    Items that an encoder's frames do not cover are left out (`corpora.items`), and so are annotated
    utterances that the manifest lacks; their numbers are printed.

    Raises:
        InputError: Annotations and manifest do not agree, or either is malformed.
    """
    utterances = read_manifest(manifest)
    tiers: Tiers = {tier: read_intervals(path, tier) for tier in TIERS}
    check(path, tiers, utterances)
    extra = set().union(*tiers.values()) - {utterance.fileid for utterance in utterances}
    if extra:
        print(f"{path}: left out {some(extra)} annotated utterances that the manifest lacks")
    with interval_writer(output / "intervals.csv") as write:
        for utterance in utterances:
            for tier in TIERS:
                write(tiers[tier].get(utterance.fileid, ()))
    for name, of in (("triphone", triphones), ("phoneme", phonemes)):
        dropped: list[str] = []
        items = (
            item
            for utterance in utterances
            for item in _covered(of(tiers["phones"][utterance.fileid]), utterance, dropped)
        )
        count = write_items(output / f"{name}.item", items)
        print(f"{output}: {count:,} {name}s; {len(dropped):,} left out, which frames do not cover")
    dropped = []
    words = (
        word
        for utterance in utterances
        for word in _covered(tiers["words"].get(utterance.fileid, ()), utterance, dropped)
    )
    write_csv(output / "words.csv", WORD_COLUMNS, map(_word, words))
    print(f"{output}: {len(dropped):,} words left out, which frames do not cover")


def _covered[T: (Item, Interval)](tokens: Iterable[T], utterance: Utterance, dropped: list[str]) -> Iterator[T]:
    """The tokens that frames cover; the fileids of others are appended to `dropped`."""
    for token in tokens:
        if has_frames(token, utterance.num_samples):
            yield token
        else:
            dropped.append(token.fileid)


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
        raise InputError("annotations: missing, expected the path of an interval table")
    path = locate(settings.annotations, "annotations", arguments.source)
    annotate(path, arguments.manifest, arguments.output)


if __name__ == "__main__":
    run(main)
