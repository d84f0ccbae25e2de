"""The rows of `scores.csv`, and the means of them that tables and figures show."""

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from artifacts.errors import InputError
from artifacts.files import read_csv
from artifacts.settings import parse_settings
from eval.metrics import metric
from eval.scores import FIELDS, Subject

TOPLINE = "phones"
"""The encoder that is no encoder: the annotated phones."""
CODEBOOK = "Codebook"
"""What units from codebook predictions are called."""


class Result(Subject):
    """One row of `scores.csv`."""

    source: str
    metric: str
    dataset: str
    condition: str | None = None
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of scores as a fraction.

    Attributes:
        low: Lower end of the 95% interval, where every score has one. The ends are the means of the scores' ends,
            as if the scores rose and fell together: too wide rather than too narrow.
        spread: Standard deviation over training seeds, where there are several.
    """

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None


def read_results(paths: Iterable[Path]) -> list[Result]:
    """Read score tables with at least the columns of `FIELDS`, in the order given.

    Raises:
        InputError: A malformed row, named by file and line.
    """
    results = []
    for path in paths:
        for line, row in read_csv(path, FIELDS):
            given = {field: row[field] for field in FIELDS if row[field]}
            results.append(parse_settings(Result, given, f"{path}, line {line}"))
    return _same_hours(results)


def _same_hours(results: Sequence[Result]) -> list[Result]:
    """The results with one number of hours for one corpus.

    Hours are counted in frames, and frames of 10 ms and of 20 ms end at different places: what two systems make of the
    same speech differs by a fraction of a percent. The largest stands for all.
    """
    named: dict[tuple[str | None, str | None], list[float]] = {}
    for result in results:
        if result.hours is not None:
            named.setdefault((result.slm, result.corpus), []).append(result.hours)

    def hours(result: Result) -> float | None:
        if result.hours is None:
            return None
        alike = [h for h in named[result.slm, result.corpus] if abs(h - result.hours) <= 0.02 * result.hours]
        return max(alike)

    return [result.model_copy(update={"hours": hours(result)}) for result in results]


def standard(results: Iterable[Result]) -> list[Result]:
    """Those under the paper's conditions, which are the ones that means are taken over."""
    return [result for result in results if result.condition in metric(result.metric).conditions]


def estimate(results: Sequence[Result]) -> Estimate | None:
    """The mean over datasets and conditions, then over seeds; None where there are no scores."""
    if not results:
        return None
    seeds = [fmean(r.value for r in of_seed) for of_seed in group(results, lambda r: r.seed).values()]
    lows = [r.low for r in results if r.low is not None]
    highs = [r.high for r in results if r.high is not None]
    complete = len(lows) == len(highs) == len(results)
    return Estimate(
        value=fmean(seeds),
        low=fmean(lows) if complete else None,
        high=fmean(highs) if complete else None,
        spread=stdev(seeds) if len(seeds) > 1 else None,
    )


def group[K: Hashable](results: Iterable[Result], key: Callable[[Result], K]) -> dict[K, list[Result]]:
    """The results by `key`, in order of first appearance."""
    groups: dict[K, list[Result]] = defaultdict(list)
    for result in results:
        groups[key(result)].append(result)
    return dict(groups)


def selected_layers(results: Iterable[Result]) -> dict[tuple[str, str], int | None]:
    """The layer of each (source, encoder) with the lowest mean of its continuous ABX errors (section 4.1).

    The mean is over all datasets and conditions; a layer that lacks one of those the others have is not considered.
    Of equal layers the first is taken.
    """
    continuous = [r for r in standard(results) if r.metric == "abx_continuous"]
    chosen = {}
    for encoder, scores in group(continuous, lambda r: (r.source, r.encoder)).items():
        layers = group(scores, lambda r: r.layer)
        most = max(len(of_layer) for of_layer in layers.values())
        means = {k: fmean(r.value for r in of_layer) for k, of_layer in layers.items() if len(of_layer) == most}
        chosen[encoder] = min(means, key=lambda layer: (means[layer], layer or 0))
    return chosen


def unit_label(quantizer: str | None, num_units: int | None) -> str:
    """What tables and figures call a quantizer: ``kmeans256`` of 256 units is K-means."""
    if quantizer is None:
        return ""
    name = quantizer.removesuffix(str(num_units)) if num_units else quantizer
    return {"kmeans": "K-means", "codebook": CODEBOOK, "spin": "Spin"}.get(name, quantizer)


def training_label(slm: str | None, corpus: str | None, hours: float | None) -> str:
    """What tables and figures call a language model and what it was trained on."""
    time = "" if hours is None else f", {hours:.0f} h" if hours >= 10 else f", {hours:.2g} h"
    return f"{slm} ({corpus}{time})" if slm else ""


def require(results: Sequence[Result], metrics: Sequence[str], what: str) -> None:
    """Refuse to draw what no score is there for.

    Raises:
        InputError: None of the metrics has a score.
    """
    if not any(result.metric in metrics for result in results):
        raise InputError(f"{what}: found no score, expected one of {', '.join(metrics)} in the scores")
