"""sSC: does the language model find a story more likely with its true ending than with one that contradicts it?

TWIST's spoken StoryCloze as its authors wrote it (Hassid et al. 2023): both endings are about the story's matter, so
that it is harder than tSC, whose layout and rule it shares.
"""

from artifacts.errors import run
from eval.pairs import PairArguments, parse_arguments
from eval.tsc import score_stories


def score_ssc(given: PairArguments) -> None:
    """Write ``ssc`` and its items."""
    score_stories(given, "ssc")


def main() -> None:
    """Entry point: log-likelihoods and items in, one score out."""
    score_ssc(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
