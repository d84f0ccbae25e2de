"""SALMon: does the language model hear what is not words: speaker, gender, sentiment, room, background?

Maimon et al. 2025: in the consistency tasks one of two recordings changes half-way, in the alignment tasks one does
not fit what is said. Each task is a score; ``salmon_consistency`` and ``salmon_alignment`` are the means over their
tasks, whatever the number of items of each.
"""

from artifacts.errors import InputError, run
from corpora.settings import SALMON_ALIGNMENT, SALMON_CONSISTENCY, SALMON_TASKS
from eval.pairs import (
    FILES,
    PairArguments,
    mean_over_voices,
    parse_arguments,
    read_pairs,
    scores_by,
    write_pair_score,
)

KEY = ("task", "id")
KINDS = {"salmon_consistency": SALMON_CONSISTENCY, "salmon_alignment": SALMON_ALIGNMENT}


def score_salmon(given: PairArguments) -> None:
    """Write ``salmon`` of each task, ``salmon_consistency``, ``salmon_alignment`` and their items.

    Raises:
        InputError: A task is not there, or is another.
    """
    pairs = read_pairs(given.items, given.likelihoods, columns=KEY, key=KEY, normalization=given.normalization)
    found = {pair.correct["task"] for pair in pairs}
    if found != set(SALMON_TASKS):
        differing = ", ".join(sorted(found ^ set(SALMON_TASKS)))
        raise InputError(f"{given.items}: found other tasks ({differing}), expected {', '.join(SALMON_TASKS)}")
    items = mean_over_voices(pairs, KEY)
    columns = {"task": lambda item: item.correct["task"], "id": lambda item: item.correct["id"], **FILES}
    for kind, tasks in KINDS.items():
        for task in tasks:
            of_task = [item for item in items if item.correct["task"] == task]
            write_pair_score(given, "salmon", of_task, columns, {}, condition=task)
        of_kind = [item for item in items if item.correct["task"] in tasks]
        by_task = scores_by(of_kind, "task")
        weights = [1 / len(by_task[item.correct["task"]]) for item in of_kind]
        more = {"mean": "over tasks"}
        write_pair_score(given, kind, of_kind, columns, {"task": by_task}, weights=weights, more=more)


def main() -> None:
    """Entry point: log-likelihoods and items in, a score of each task and two means out."""
    score_salmon(parse_arguments(__doc__.splitlines()[0]))


if __name__ == "__main__":
    run(main)
