"""A few pairs of an evaluation set, to listen to: audio, units and log-likelihoods side by side.

python -m eval.samples --metric swuggy --dataset lexical --items results/demo/corpora/lexical/items.csv
    --manifest results/demo/corpora/lexical/manifest.csv --systems spidr-L01-kmeans50
    --units results/demo/units/spidr-L01-kmeans50/lexical.jsonl
    --likelihoods results/demo/likelihoods/spidr-L01-kmeans50/opt-small/seed0/lexical.csv --normalization tokens
    --output swuggy.json

Pairs are taken at even distances in the set, so that they are neither its easiest nor the same kind; the report has
them with players.
"""

import argparse
import base64
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import soundfile

from artifacts.errors import InputError, run
from artifacts.files import read_csv, write_json
from corpora.audio import SAMPLE_RATE_HZ, read_waveform
from corpora.manifest import Utterance, read_manifest
from eval.ipa import ipa
from eval.likelihoods import Normalization, read_likelihoods
from eval.pairs import Pair, read_pairs
from units.records import UntimedUnits, read_untimed_units

NUM_PAIRS = 3
LONGEST_S = 20.0
"""Longest stimulus that is shown: the report holds the audio."""
KEY_COLUMNS = ("task", "type", "subtype", "group", "id", "voice")
"""Columns of items.csv that two stimuli of a pair share, in whichever set has them."""
TEXT_COLUMNS = ("transcription", "word")


def choose_pairs(pairs: Sequence[Pair], utterances: Mapping[str, Utterance]) -> list[Pair]:
    """`NUM_PAIRS` pairs, evenly spaced among those whose stimuli are at most `LONGEST_S` seconds long.

    Args:
        utterances: Those of the set, by fileid.
    """

    def longest(pair: Pair) -> int:
        return max(utterances[stimulus["fileid"]].num_samples for stimulus in (pair.correct, pair.incorrect))

    short = [pair for pair in pairs if longest(pair) <= LONGEST_S * SAMPLE_RATE_HZ]
    places = {(2 * i + 1) * len(short) // (2 * NUM_PAIRS) for i in range(NUM_PAIRS)}
    return [short[place] for place in sorted(places) if short]


def stimulus(row: Mapping[str, str], utterance: Utterance) -> dict[str, Any]:
    """One side of a pair: its name, its text where the set has one, and its audio as FLAC in base64."""
    file = io.BytesIO()
    soundfile.write(file, read_waveform(utterance), SAMPLE_RATE_HZ, format="FLAC", subtype="PCM_16")
    return {
        "fileid": row["fileid"],
        "text": text_of(row),
        "duration_s": utterance.num_samples / SAMPLE_RATE_HZ,
        "flac": base64.b64encode(file.getvalue()).decode("ascii"),
    }


def text_of(row: Mapping[str, str]) -> str:
    """What a stimulus says: in words where its set has them, else its phones in IPA, else nothing.

    >>> text_of({"word": "", "phones": "R AE CH AH0 N"})
    '/ɹætʃən/'
    """
    text = next((row[column] for column in TEXT_COLUMNS if row.get(column)), "")
    phones = row.get("phones", "")
    return f"/{''.join(map(ipa, phones.split()))}/" if phones and not text else text


def units_of(path: Path, fileids: Iterable[str]) -> dict[str, list[int]]:
    """The units of some utterances; the file is streamed.

    Raises:
        InputError: One is not there.
    """
    wanted = set(fileids)
    found = {sequence.fileid: list(sequence.units) for sequence in _some(read_untimed_units(path), wanted)}
    if missing := sorted(wanted - found.keys()):
        raise InputError(f"{path}: found no units of {missing[0]}, expected those of the whole set")
    return found


def _some(sequences: Iterable[UntimedUnits], wanted: set[str]) -> Iterable[UntimedUnits]:
    return (sequence for sequence in sequences if sequence.fileid in wanted)


def collect_samples(
    items: Path,
    manifest: Path,
    systems: Mapping[str, tuple[Path, Path, Normalization]],
) -> list[dict[str, Any]]:
    """Some pairs, each with what every system makes of it.

    Args:
        items: items.csv of the set.
        systems: Units, log-likelihoods and how these are normalised, by the name of the system.

    Returns:
        A pair: ``about``, two ``stimuli`` (the correct one first) and ``systems``, each with its ``units`` and
        ``log_likelihood`` of both, ``normalization``, and ``score``, 1 where the correct one is more likely, 0.5 where
        both are equally.

    Raises:
        InputError: Items, recordings, units and log-likelihoods do not match, or one of the files is malformed.
    """
    header = next((row for _, row in read_csv(items, ("fileid", "id", "correct"))), {})
    key = [column for column in KEY_COLUMNS if column in header]
    utterances = {utterance.fileid: utterance for utterance in read_manifest(manifest)}
    chosen: list[dict[str, Any]] = []
    for name, (units, likelihoods, normalization) in systems.items():
        pairs = read_pairs(items, likelihoods, columns=key, key=key, normalization=normalization, shared=True)
        if absent := [s["fileid"] for p in pairs for s in (p.correct, p.incorrect) if s["fileid"] not in utterances]:
            raise InputError(f"{manifest}: found no {absent[0]}, expected every file of {items}")
        few = choose_pairs(pairs, utterances)
        if not chosen:
            for pair in few:
                sides = [stimulus(row, utterances[row["fileid"]]) for row in (pair.correct, pair.incorrect)]
                chosen.append({"about": {c: pair.correct[c] for c in key}, "stimuli": sides, "systems": []})
        fileids = [[row["fileid"] for row in (pair.correct, pair.incorrect)] for pair in few]
        sequences = units_of(units, (fileid for both in fileids for fileid in both))
        scores = read_likelihoods(likelihoods, normalization)
        for shown, pair, both in zip(chosen, few, fileids, strict=True):
            shown["systems"].append(
                {
                    "name": name,
                    "units": [sequences[fileid] for fileid in both],
                    "log_likelihood": [scores[fileid] for fileid in both],
                    "normalization": normalization,
                    "score": pair.score,
                }
            )
    return chosen


def main() -> None:
    """Entry point: a set, units and log-likelihoods in, a few pairs with their audio out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--metric", required=True, help="what the pairs are scored as")
    parser.add_argument("--dataset", required=True, help="name of the evaluation set")
    parser.add_argument("--items", type=Path, required=True, help="items.csv of the set")
    parser.add_argument("--manifest", type=Path, required=True, help="manifest.csv of the set")
    parser.add_argument("--systems", nargs="+", required=True, help="names of the systems")
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="units of the set, one file a system")
    parser.add_argument("--likelihoods", type=Path, nargs="+", required=True, help="log-likelihoods, likewise")
    parser.add_argument(
        "--normalization",
        nargs="+",
        choices=get_args(Normalization),
        required=True,
        help="as they are scored, likewise",
    )
    parser.add_argument("--output", type=Path, required=True, help="JSON")
    given = parser.parse_args()
    counts = [len(of) for of in (given.systems, given.units, given.likelihoods, given.normalization)]
    if len(set(counts)) > 1:
        found = ", ".join(map(str, counts))
        raise InputError(f"--systems, --units, --likelihoods, --normalization: found {found}, expected as many of each")
    of_systems = zip(given.units, given.likelihoods, given.normalization, strict=True)
    pairs = collect_samples(given.items, given.manifest, dict(zip(given.systems, of_systems, strict=True)))
    shown = {"metric": given.metric, "dataset": given.dataset, "pairs": pairs}
    write_json(given.output, shown)


if __name__ == "__main__":
    run(main)
