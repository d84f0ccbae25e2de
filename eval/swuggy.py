"""sWUGGY: does the language model find a word more likely than a nonword that looks like it (section 4.1)?

Rules of ZeroSpeech 2021 (Nguyen et al. 2020): word and nonword are paired by voice and id, voices averaged by id.
``in_vocab`` are the words that occur in LibriSpeech, i.e. with a frequency of at least 1. All means are taken from the
pairs themselves; the tool reads its own back from four decimals, and an empty band makes them NaN.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from artifacts.errors import InputError, run
from eval.pairs import (
    Breakdown,
    Item,
    Pair,
    PairArguments,
    mean_over_voices,
    parse_arguments,
    read_pairs,
    scores_by,
    write_pair_score,
)

COLUMNS = ("id", "voice", "frequency", "word", "phones", "length")
FREQUENCY_BANDS = {
    "oov": (0, 1),
    "1-5": (1, 5),
    "5-20": (5, 20),
    "20-100": (20, 100),
    "100-": (100, math.inf),
}


def score_swuggy(given: PairArguments) -> None:
    """Write ``swuggy_all`` and ``swuggy_in_vocab``, their breakdowns and their items.

    Raises:
        InputError: Stimuli and likelihoods do not match, a frequency is no count, or no word is in the vocabulary.
    """
    pairs = read_pairs(
        given.items, given.likelihoods, columns=COLUMNS, key=("voice", "id"), normalization=given.normalization
    )
    items = mean_over_voices(pairs, key=("id",))
    frequency = {item.correct["id"]: _frequency(given.items, item) for item in items}
    nonword = "word" if any(item.incorrect["word"] for item in items) else "phones"
    columns = {
        "id": lambda item: item.correct["id"],
        "word": lambda item: item.correct["word"],
        "nonword": lambda item: item.incorrect[nonword],
        "frequency": lambda item: item.correct["frequency"],
        "length": lambda item: item.correct["length"],
    }
    in_vocab = [item for item in items if frequency[item.correct["id"]] >= 1]
    if not in_vocab:
        raise InputError(f"{given.items}: no word with a frequency of 1 or more, expected some in the vocabulary")
    for metric, chosen in (("swuggy_all", items), ("swuggy_in_vocab", in_vocab)):
        write_pair_score(given, metric, chosen, columns, _breakdown(chosen, pairs, frequency))


def _frequency(path: Path, item: Item) -> float:
    text = item.correct["frequency"]
    try:
        frequency = float(text)
    except ValueError:
        frequency = math.nan
    if not 0 <= frequency < math.inf:
        raise InputError(f"{path}: frequency of {item.correct['fileid']} is {text!r}, expected a count")
    return frequency


def _breakdown(items: Sequence[Item], pairs: Sequence[Pair], frequency: Mapping[str, float]) -> Breakdown:
    """Items by frequency band (empty ones too) and by length, and their pairs by voice."""
    chosen = {item.correct["id"] for item in items}
    return {
        "frequency": {
            name: [item.score for item in items if low <= frequency[item.correct["id"]] < high]
            for name, (low, high) in FREQUENCY_BANDS.items()
        },
        "length": scores_by(items, "length"),
        "voice": scores_by((pair for pair in pairs if pair.correct["id"] in chosen), "voice"),
    }


def main() -> None:
    """Entry point: log-likelihoods and items in, two scores out."""
    score_swuggy(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
