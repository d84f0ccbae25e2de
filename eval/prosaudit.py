"""prosAudit: does the language model find speech with a pause where it belongs more likely than with one elsewhere?

Rules of ZeroSpeech (de Seyssel et al. 2023): stimuli are paired by type, id and voice, voices averaged by type and id.
``protosyntax`` has pauses between and inside of prosodic phrases, ``lexical`` between and inside of words; each is a
score of its own.
"""

from artifacts.errors import InputError, run
from eval.pairs import (
    FILES,
    PairArguments,
    mean_over_voices,
    parse_arguments,
    read_pairs,
    require_same_order,
    scores_by,
    write_pair_score,
)

COLUMNS = ("id", "voice", "type", "subtype")
KEY = ("type", "id", "voice")
TYPES = ("protosyntax", "lexical")


def score_prosaudit(given: PairArguments) -> None:
    """Write ``prosaudit`` under both conditions, their means by subtype and by voice, and their items.

    Raises:
        InputError: A type is not there, or is another.
    """
    pairs = read_pairs(given.items, given.likelihoods, columns=COLUMNS, key=KEY, normalization=given.normalization)
    require_same_order(given.items, KEY)
    found = {pair.correct["type"] for pair in pairs}
    if found != set(TYPES):
        raise InputError(f"{given.items}: found types {', '.join(sorted(found))}, expected {', '.join(TYPES)}")
    columns = {"type": lambda item: item.correct["type"], "id": lambda item: item.correct["id"], **FILES}
    for condition in TYPES:
        of_type = [pair for pair in pairs if pair.correct["type"] == condition]
        items = mean_over_voices(of_type, key=("type", "id"))
        breakdown = {"subtype": scores_by(items, "subtype"), "voice": scores_by(of_type, "voice")}
        write_pair_score(given, "prosaudit", items, columns, breakdown, condition=condition)


def main() -> None:
    """Entry point: log-likelihoods and items in, two scores out."""
    score_prosaudit(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
