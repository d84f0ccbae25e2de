"""tSC: does the language model find a story more likely with its true ending than with a random one (section 4.1)?

TWIST's spoken StoryCloze, topic version (Hassid et al. 2023): the share of stories whose true ending wins.
"""

from artifacts.errors import run
from eval.pairs import FILES, PairArguments, mean_over_voices, parse_arguments, read_pairs, write_pair_score


def score_stories(given: PairArguments, metric: str) -> None:
    """Write `metric` and its items: the share of stories that win against those with another ending."""
    key = ("id",)
    pairs = read_pairs(given.items, given.likelihoods, columns=key, key=key, normalization=given.normalization)
    columns = {"id": lambda item: item.correct["id"], **FILES}
    write_pair_score(given, metric, mean_over_voices(pairs, key), columns, breakdown={})


def score_tsc(given: PairArguments) -> None:
    """Write ``tsc`` and its items."""
    score_stories(given, "tsc")


def main() -> None:
    """Entry point: log-likelihoods and items in, one score out."""
    score_tsc(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
