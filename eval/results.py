"""The rows of `scores.csv`, and the means of them that tables and figures show."""

import re
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from artifacts.errors import InputError
from artifacts.files import read_csv
from artifacts.settings import parse_settings
from eval.metrics import metric
from eval.scores import IDENTITY, Subject

OURS = "ours"
"""Source of what was measured here."""
TOPLINE = "phones"
"""The encoder that is no encoder: the annotated phones."""
TOPLINES = (TOPLINE, "text")
"""Those that are no encoders: what language models make of the phones, or of the text, is what units may aim at."""
CODEBOOK = "Codebook"
"""What units from codebook predictions are called."""
MEAN = "mean"
"""Condition of a score from elsewhere that is itself the mean over datasets and speaker conditions."""
REQUIRED = ("source", "model", "encoder", "metric", "value")
"""Fields that a score from elsewhere cannot do without."""


class Result(Subject):
    """One row of `scores.csv`, or of a table of scores from elsewhere."""

    source: str
    metric: str
    dataset: str = ""
    """Empty where a score from elsewhere does not tell."""
    condition: str | None = None
    value: float
    low: float | None = None
    high: float | None = None
    n: int | None = None
    table: int | None = None
    """The paper's table that prints it, for a published score; it is shown in no other."""
    group: str | None = None
    """The block of a table that it belongs to."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of scores as a fraction.

    Attributes:
        low: Lower end of the 95% interval, where every score has one. The ends are the means of the scores' ends,
            as if the scores rose and fell together: too wide rather than too narrow.
        spread: Standard deviation over training seeds, where there are several.
        over: What it is a mean of: two estimates over other things are not to be subtracted.
    """

    value: float
    low: float | None = None
    high: float | None = None
    spread: float | None = None
    over: frozenset[tuple[str | float | None, ...]] = frozenset()


def read_results(paths: Iterable[Path], *, by_table: bool = False) -> list[Result]:
    """Read score tables, ours or from elsewhere, in the order given.

    They have the fields of `scores.csv` or some of them, those of `REQUIRED` at least, and may have ``table`` and
    ``group``; other columns are not read. What several tables say alike is read once.

    Args:
        by_table: Read a score once for each of the paper's tables that prints it.

    Raises:
        InputError: A malformed row, one without a condition that its metric needs, or one that contradicts an earlier
            one, named by file and line.
    """
    results = []
    seen: dict[tuple[object, ...], tuple[float, str]] = {}
    for path in paths:
        for line, row in read_csv(path, REQUIRED):
            where = f"{path}, line {line}"
            given = {field: row[field] for field in Result.model_fields if row.get(field)}
            result = parse_settings(Result, given, where)
            conditions = metric(result.metric).conditions
            if result.condition is None and None not in conditions:
                expected = ", ".join(map(str, conditions))
                raise InputError(f"{where}: condition: missing, expected one of {expected} or another of its own")
            identity = (*(getattr(result, field) for field in IDENTITY), result.table if by_table else None)
            if identity in seen:
                value, earlier = seen[identity]
                if value != result.value:
                    raise InputError(f"{where}: found {result.value}, but {value} in {earlier} for the same score")
                continue
            seen[identity] = result.value, where
            results.append(result)
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
        return max(h for h in named[result.slm, result.corpus] if alike_hours(h, result.hours))

    return [result.model_copy(update={"hours": hours(result)}) for result in results]


def alike_hours(one: float, other: float) -> bool:
    """Whether two numbers of hours are of the same speech, up to what frames make of it."""
    return abs(one - other) <= 0.02 * other


def standard(results: Iterable[Result]) -> list[Result]:
    """Those under the paper's conditions, which are the ones that means are taken over."""
    return [result for result in results if result.condition in metric(result.metric).conditions]


def averaged(results: Iterable[Result]) -> list[Result]:
    """What a mean over datasets and conditions is taken of: the `standard` ones, or such a mean from elsewhere.

    The latter stands only where its source tells no part of it, so that nothing counts twice.
    """
    known = list(results)
    parts = standard(known)
    told = {_system(result) for result in parts}
    means = [
        r for r in known if r.condition == MEAN and len(metric(r.metric).conditions) > 1 and _system(r) not in told
    ]
    return parts + means


def _system(result: Result) -> tuple[object, ...]:
    """What a score says, but for its dataset and condition."""
    return tuple(getattr(result, field) for field in IDENTITY if field not in ("dataset", "condition"))


def drawn_scores(results: Iterable[Result], name: str) -> tuple[list[Result], str]:
    """The scores of a metric that curves and dots are made of, and the condition to name where it is not the paper's.

    Where no score is under the paper's conditions, and all are under one other (a MAP by another formula), it is those.
    """
    of_metric = [result for result in results if result.metric == name]
    found = averaged(of_metric)
    conditions = {result.condition for result in of_metric}
    if found or len(conditions) != 1:
        return found, ""
    return of_metric, str(conditions.pop())


def of_table(results: Iterable[Result], number: int) -> list[Result]:
    """Those that the paper's table of that number shows: its own, and what is not of the paper."""
    return [result for result in results if result.table in (None, number)]


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
        over=frozenset(part for result in results for part in _parts(result)),
    )


def _parts(result: Result) -> list[tuple[str | float | None, ...]]:
    """What a score is over: its dataset, condition and training; each of those that a mean from elsewhere is of."""
    training = (result.slm, result.corpus, result.hours)
    if result.condition == MEAN:
        conditions = metric(result.metric).conditions
        return [(dataset, one, *training) for dataset in result.dataset.split("_") for one in conditions]
    if result.metric == "map_words":  # as published: of dev-clean_dev-other it is the mean of the two
        return [(dataset, result.condition, *training) for dataset in result.dataset.split("_")]
    return [(result.dataset, result.condition, *training)]


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
    continuous = averaged(r for r in results if r.metric == "abx_continuous")
    chosen = {}
    for encoder, scores in group(continuous, lambda r: (r.source, r.encoder)).items():
        layers = group(scores, lambda r: r.layer)
        over = {layer: len({part for r in of_layer for part in _parts(r)}) for layer, of_layer in layers.items()}
        complete = {layer: layers[layer] for layer in layers if over[layer] == max(over.values())}
        means = {layer: fmean(r.value for r in of_layer) for layer, of_layer in complete.items()}
        chosen[encoder] = min(means, key=lambda layer: (means[layer], layer or 0))
    return chosen


UNIT_LABELS = {"kmeans": "K-means", "codebook": CODEBOOK, "spin": "Spin", "dc-spin": "DC-Spin"}


def unit_label(quantizer: str | None, num_units: int | None) -> str:
    """What tables and figures call a quantizer: ``kmeans256`` of 256 units is K-means."""
    if quantizer is None:
        return ""
    # Of DC-Spin's two codebooks, ``dc-spin50-4096``, the first is that of the units.
    name = re.sub(rf"{num_units}(-\d+)?$", "", quantizer) if num_units else quantizer
    return UNIT_LABELS.get(name, quantizer)


def training_label(slm: str | None, corpus: str | None, hours: float | None) -> str:
    """What tables and figures call a language model and what it was trained on."""
    time = None if hours is None else f"{hours:.0f} h" if hours >= 10 else f"{hours:.2g} h"
    known = ", ".join(part for part in (corpus, time) if part)
    return (f"{slm} ({known})" if known else slm) if slm else ""


def require(results: Sequence[Result], metrics: Sequence[str], what: str) -> None:
    """Refuse to draw what no score is there for.

    Raises:
        InputError: None of the metrics has a score.
    """
    if not any(result.metric in metrics for result in results):
        raise InputError(f"{what}: found no score, expected one of {', '.join(metrics)} in the scores")
