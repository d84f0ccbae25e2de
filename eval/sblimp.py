"""sBLIMP: does the language model find the grammatical sentence of a minimal pair more likely (section 4.1)?

Rules of ZeroSpeech 2021 (Nguyen et al. 2020): sentences are paired by type, subtype, id and voice, voices averaged
by item; the score is the unweighted mean over items. The mean over types, which some report, stands beside it.
"""

from statistics import fmean

from artifacts.errors import run
from eval.pairs import (
    PairArguments,
    mean_over_voices,
    parse_arguments,
    read_pairs,
    require_same_order,
    scores_by,
    write_pair_score,
)

COLUMNS = ("id", "voice", "type", "subtype", "transcription")
KEY = ("type", "subtype", "id", "voice")


def score_sblimp(given: PairArguments) -> None:
    """Write ``sblimp``, its means by type and by voice, and its items."""
    pairs = read_pairs(given.items, given.likelihoods, columns=COLUMNS, key=KEY, normalization=given.normalization)
    require_same_order(given.items, KEY)
    items = mean_over_voices(pairs, key=("type", "subtype", "id"))
    columns = {
        "type": lambda item: item.correct["type"],
        "subtype": lambda item: item.correct["subtype"],
        "id": lambda item: item.correct["id"],
        "sentence": lambda item: item.correct["transcription"],
        "incorrect_sentence": lambda item: item.incorrect["transcription"],
    }
    breakdown = {"type": scores_by(items, "type"), "voice": scores_by(pairs, "voice")}
    more = {"mean_over_types": fmean(fmean(scores) for scores in breakdown["type"].values())}
    write_pair_score(given, "sblimp", items, columns, breakdown, more=more)


def main() -> None:
    """Entry point: log-likelihoods and items in, one score out."""
    score_sblimp(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
