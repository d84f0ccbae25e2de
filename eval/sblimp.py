"""sBLIMP: does the language model find the grammatical sentence of a minimal pair more likely (section 4.1)?

Rules of ZeroSpeech 2021 (Nguyen et al. 2020): sentences are paired by type, subtype, id and voice, voices averaged
by item; the score is the unweighted mean over items. The mean over types, which some report, stands beside it.
"""

from pathlib import Path
from statistics import fmean

from artifacts.errors import InputError, run
from artifacts.files import read_csv
from eval.pairs import PairArguments, describe, mean_over_voices, parse_arguments, read_pairs, write_pair_score

COLUMNS = ("id", "voice", "type", "subtype", "transcription")
KEY = ("type", "subtype", "id", "voice")


def score_sblimp(given: PairArguments) -> None:
    """Write ``sblimp``, its means by type and its items."""
    pairs = read_pairs(given.items, given.likelihoods, columns=COLUMNS, key=KEY, normalization=given.normalization)
    _require_same_order(given.items)
    items = mean_over_voices(pairs, key=("type", "subtype", "id"))
    columns = {
        "type": lambda item: item.correct["type"],
        "subtype": lambda item: item.correct["subtype"],
        "id": lambda item: item.correct["id"],
        "sentence": lambda item: item.correct["transcription"],
        "incorrect_sentence": lambda item: item.incorrect["transcription"],
    }
    types: dict[str, list[float]] = {}
    for item in items:
        types.setdefault(item.correct["type"], []).append(item.score)
    breakdown = {
        "by_type": {name: describe(scores) for name, scores in types.items()},
        "mean_over_types": fmean(fmean(scores) for scores in types.values()),
    }
    write_pair_score(given, "sblimp", items, columns, breakdown)


def _require_same_order(items: Path) -> None:
    """The reference tool pairs by the order of rows: the k-th correct with the k-th incorrect one. Both must agree."""
    order: dict[str, list[tuple[str, ...]]] = {"1": [], "0": []}
    for line, row in read_csv(items, (*KEY, "correct")):
        own, other = order[row["correct"]], order["0" if row["correct"] == "1" else "1"]
        own.append(tuple(row[column] for column in KEY))
        if len(own) <= len(other) and own[-1] != other[len(own) - 1]:
            raise InputError(
                f"{items}, line {line}: {row['fileid']} stands beside {' '.join(other[len(own) - 1])} by order, "
                f"but is {' '.join(own[-1])} by {', '.join(KEY)}; expected both to agree"
            )


def main() -> None:
    """Entry point: log-likelihoods and items in, one score out."""
    score_sblimp(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
