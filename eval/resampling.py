"""What intervals and tests draw: items, or together all items of a speaker, a word or a pair of phones.

Items that belong together are not independent (`eval.statistics`). What a score's interval was drawn from stands with
its conditions, and a comparison of two scores draws the same.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy.typing as npt

from eval.metrics import Resampled
from eval.statistics import NUM_RESAMPLES, bootstrap_interval
from eval.wording import count_text

COLUMNS: Mapping[Resampled, tuple[str, ...]] = {
    "items": (),
    "speakers": ("speaker",),
    "words": ("label",),
    "pairs": ("phone_a", "phone_b"),
}
"""Columns of a per-item table that items which are drawn together share; none where each stands for itself."""
NAMES: Mapping[Resampled, tuple[str, str]] = {
    "items": ("item", "items"),
    "speakers": ("speaker", "speakers"),
    "words": ("word", "words"),
    "pairs": ("pair of phones", "pairs of phones"),
}


class Interval(NamedTuple):
    """A score's 95% interval, both ends None where there is but one cluster, and what the score says of it."""

    low: float | None
    high: float | None
    conditions: dict[str, Any]


def clusters(items: Sequence[Mapping[str, Any]], resample: Resampled) -> list[str] | None:
    """The cluster of each item, as `eval.statistics` takes them; of two phones it does not matter which is A."""
    if columns := COLUMNS[resample]:
        return [" ".join(sorted(item[column] for column in columns)) for item in items]
    return None


def drawn_text(resample: Resampled, number: int) -> str:
    """What is drawn, counted: ``40 speakers``."""
    return count_text(number, *NAMES[resample])


def draw_interval(
    items: Sequence[Mapping[str, Any]],
    scores: npt.ArrayLike,
    resample: Resampled,
    *,
    seed: int,
    weights: npt.ArrayLike | None = None,
) -> Interval:
    """The interval of the weighted mean of some scores.

    Args:
        items: Rows of the per-item table, with the columns that `resample` needs.
        scores: Score of each, (n,).
        weights: Weight of each, (n,); all equal where left out.
    """
    drawn = clusters(items, resample)
    low, high = bootstrap_interval(scores, seed=seed, weights=weights, clusters=drawn)
    number = len(items) if drawn is None else len(set(drawn))
    interval = f"percentile bootstrap over {drawn_text(resample, number)}, {NUM_RESAMPLES} resamples"
    return Interval(low, high, {"resample": resample, "num_resampled": number, "interval": interval})
