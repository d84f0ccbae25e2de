"""Every two systems of an experiment against each other, for the report."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import combinations

from eval.compare import judge
from eval.evidence import Files, score_file
from eval.paired import Comparison, compare, out_of_reach
from eval.system_pages import SystemPage

MOST_COMPARED = 8
"""Systems that are compared in the report, 28 pairs; a comparison of any others is a target of its own."""


@dataclass(frozen=True, slots=True)
class PairOfSystems:
    """Two systems, the verdict on them, and a row of text for every metric.

    Attributes:
        out_of_reach: Tests that could show no difference, however large.
    """

    a: str
    b: str
    verdict: str
    rows: Sequence[Sequence[str]]
    out_of_reach: Collection[Comparison]


def compare_all(pages: Sequence[SystemPage], files: Files) -> list[PairOfSystems]:
    """Compare the first `MOST_COMPARED` systems with each other; those with a language model come first.

    Args:
        files: Score files; systems without any are left out, and so are two that share no score.
    """
    paths = {
        page.name: {
            (s.metric, s.dataset, s.condition, s.slm, s.seed): f for s in page.scores if (f := score_file(s, files))
        }
        for page in pages
    }
    order = sorted(pages, key=lambda page: not page.trainings)
    names = [page.name for page in order if paths[page.name]][:MOST_COMPARED]
    return [
        _pair(a, b, compare(list(paths[a].values()), list(paths[b].values())))
        for a, b in combinations(names, 2)
        if {key[:4] for key in paths[a]} & {key[:4] for key in paths[b]}
    ]


def _pair(a: str, b: str, comparisons: Sequence[Comparison]) -> PairOfSystems:
    return PairOfSystems(a, b, *judge(a, b, comparisons), out_of_reach(comparisons))
