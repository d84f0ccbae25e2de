"""What the scores of an experiment show: of one system against chance, of two against each other.

A difference is that of `eval.paired`, on the items that both were scored on, wherever both have their tables of items.
Elsewhere the intervals of the two scores decide: a difference is shown where they do not overlap, which asks for more
than a paired interval that leaves out zero.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from artifacts.files import read_json_object
from eval.metrics import Metric, metric
from eval.paired import Comparison, compare
from eval.results import Estimate, Result, estimate, group, standard
from eval.scores import IDENTITY
from eval.wording import figure_text, interval_text

type Outcome = Literal["better", "worse", "open"]
type Identity = tuple[Any, ...]
type Files = Mapping[Identity, Path]
type Measurement = tuple[str, str, str | None]

NAMES = {
    "abx_continuous": "ABX error",
    "abx_codebook": "ABX error of codebook predictions",
    "abx_units": "unit ABX error",
    "map_words": "MAP of words",
    "swuggy_all": "sWUGGY",
    "swuggy_in_vocab": "sWUGGY in-vocab",
}
"""What sentences call a metric, where tables call it otherwise."""
SPEAKERS = {"within": "within speaker", "across": "across speakers"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One measurement of a system, against chance or against another system.

    Attributes:
        dataset: Empty where all measurements of the metric are on one.
        other: The other system's score; None against chance.
        difference: The score minus the other, or minus chance.
        low: Lower end of the difference's 95% interval; None where the two could not be paired.
    """

    metric: str
    dataset: str
    condition: str | None
    value: Estimate
    other: Estimate | None
    difference: float
    low: float | None
    high: float | None

    @property
    def metric_name(self) -> str:
        """The metric as sentences call it."""
        return spoken_name(self.metric)

    @property
    def condition_name(self) -> str:
        """Under which condition, and on which dataset where that is in question."""
        dataset = f"({self.dataset})" if self.dataset else ""
        return f"{SPEAKERS.get(self.condition or '', '')} {dataset}".strip()

    @property
    def outcome(self) -> Outcome:
        """Whether it is shown to be better or worse; ``open`` where neither is."""
        low, high = self.low, self.high
        if (low is None or high is None) and self.other is not None:
            low, high = _apart(self.value, self.other)
        if low is None or high is None or low <= 0 <= high:
            return "open"
        return "better" if (low > 0) == (metric(self.metric).better == "higher") else "worse"

    def text(self, name: str) -> str:
        """Its figures in words, after what was measured."""
        how = metric(self.metric)
        own = f"{name} {figure_text(self.value.value, how)}"
        if self.other is None:
            return own + interval_text(self.value.low, self.value.high, how)
        return f"{own} against {figure_text(self.other.value, how)}, {self._difference_text(how)}"

    def _difference_text(self, how: Metric) -> str:
        sign = 1 if self.difference >= 0 else -1
        points = " points" if how.percent else ""
        low, high = (self.low, self.high) if sign > 0 else (_negated(self.high), _negated(self.low))
        size = figure_text(abs(self.difference), how, bare=True)
        return f"{size}{points}{interval_text(low, high, how)} {'higher' if sign > 0 else 'lower'}"


def _negated(end: float | None) -> float | None:
    return None if end is None else -end


def _apart(a: Estimate, b: Estimate) -> tuple[float | None, float | None]:
    """The smallest and the largest difference that the two intervals leave."""
    if a.low is None or a.high is None or b.low is None or b.high is None:
        return None, None
    return a.low - b.high, a.high - b.low


def spoken_name(name: str) -> str:
    """A metric as sentences call it."""
    return NAMES.get(name, metric(name).label)


def score_files(folder: Path) -> dict[Identity, Path]:
    """The score files under a folder, by what they are scores of.

    Raises:
        InputError: A file is not JSON.
    """
    found = {}
    for path in sorted(folder.rglob("*.json")):
        score = read_json_object(path)
        found[_identity(score)] = path
    return found


def _identity(score: Mapping[str, Any]) -> Identity:
    # Not the hours: `read_results` makes those of one corpus the same.
    return tuple(score.get(field) for field in IDENTITY if field != "hours")


def score_file(result: Result, files: Files) -> Path | None:
    """The file of a score; None where there is none."""
    return files.get(_identity(result.model_dump()))


def against_chance(results: Sequence[Result], metrics: Sequence[str]) -> list[Finding]:
    """Each measurement of a system that has a chance level, against it.

    Args:
        results: Scores of one system.
    """
    findings = []
    for (name, dataset, condition), scores in _measurements(results, metrics).items():
        value, chance = estimate(scores), metric(name).chance
        if value is None or chance is None:
            continue
        low = None if value.low is None else value.low - chance
        high = None if value.high is None else value.high - chance
        findings.append(Finding(name, dataset, condition, value, None, value.value - chance, low, high))
    return _without_lone_datasets(findings)


def against(a: Sequence[Result], b: Sequence[Result], metrics: Sequence[str], files: Files) -> list[Finding]:
    """Each measurement that two systems share.

    Args:
        a: Scores of the one; a difference is its score minus the other's.
        b: Scores of the other.
        files: Where the tables of their items lie.
    """
    findings = []
    others = _measurements(b, metrics)
    for (name, dataset, condition), scores in _measurements(a, metrics).items():
        of_other = others.get((name, dataset, condition), [])
        value, other = estimate(scores), estimate(of_other)
        if value is None or other is None:
            continue
        paired = _paired(scores, of_other, files)
        if paired is not None and paired.difference is None:
            continue  # computed in different ways: no difference means anything
        low, high = (paired.low, paired.high) if paired else (None, None)
        findings.append(Finding(name, dataset, condition, value, other, value.value - other.value, low, high))
    return _without_lone_datasets(findings)


def _measurements(results: Sequence[Result], metrics: Sequence[str]) -> dict[Measurement, list[Result]]:
    """Scores by what is measured, in the order of the metrics; several are those of training seeds."""
    wanted = [r for name in metrics for r in standard(results) if r.metric == name]
    return group(wanted, lambda r: (r.metric, r.dataset, r.condition))


def _paired(a: Sequence[Result], b: Sequence[Result], files: Files) -> Comparison | None:
    """The comparison of two systems on one measurement; None where a score has no file."""
    paths_a, paths_b = ([score_file(score, files) for score in scores] for scores in (a, b))
    if None in paths_a or None in paths_b:
        return None
    [comparison] = compare([path for path in paths_a if path], [path for path in paths_b if path])
    return comparison


def _without_lone_datasets(findings: list[Finding]) -> list[Finding]:
    """A metric that is measured on one dataset needs not name it."""
    datasets = {name: {f.dataset for f in findings if f.metric == name} for name in {f.metric for f in findings}}
    return [f if len(datasets[f.metric]) > 1 else replace(f, dataset="") for f in findings]
