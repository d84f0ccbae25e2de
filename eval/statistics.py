"""Confidence intervals, paired tests and correlations: how sure a score is, and a difference of two.

A score is a weighted mean of its items, ``sum(weight * score) / sum(weight)``. Items that belong together
(the utterances of one speaker, the queries of one word) form a cluster, and clusters are what is drawn: items
of one cluster are not independent. Without clusters each item stands for itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from artifacts.seeds import generator

type Floats = npt.NDArray[np.float64]

NUM_RESAMPLES = 2000
CONFIDENCE = 0.95
NORMAL_QUANTILE = 1.959963984540054  # of (1 + CONFIDENCE) / 2
BLOCK_SIZE = 1 << 21  # drawn numbers held at a time


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """Mean of `b` minus `a` over the same items, its 95% interval and a two-sided p-value.

    Attributes:
        n: Clusters that the interval draws and the test flips.
    """

    difference: float
    low: float | None
    high: float | None
    p_value: float
    n: int


@dataclass(frozen=True, slots=True)
class Correlation:
    """Pearson's r, with a 95% interval where there are enough points for one."""

    r: float
    low: float | None
    high: float | None
    n: int


def bootstrap_interval(
    scores: npt.ArrayLike,
    *,
    seed: int,
    weights: npt.ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
) -> tuple[float, float] | tuple[None, None]:
    """Percentile bootstrap 95% interval of the weighted mean (Efron and Tibshirani 1993, section 13.3).

    Args:
        scores: Score of each item, (n,).
        weights: Weight of each item, (n,), positive; all equal where left out.
        clusters: Cluster each item belongs to; clusters are drawn with replacement.

    Returns:
        Low and high; both None for fewer than two clusters, of which nothing can be drawn.
    """
    totals, weight = _by_cluster(scores, weights, clusters)
    if len(totals) < 2:
        return None, None
    draws = generator(seed, "bootstrap")
    means = [totals[drawn].sum(1) / weight[drawn].sum(1) for drawn in _resamples(draws, len(totals))]
    low, high = np.quantile(np.concatenate(means), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def paired_difference(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    seed: int,
    weights: npt.ArrayLike | None = None,
    clusters: Sequence[str] | None = None,
) -> PairedDifference:
    """Compare two systems on the same items: bootstrap interval and sign-flip permutation test of b - a.

    Args:
        a: Score of each item for the first system, (n,).
        b: The same items, in the same order, for the second, (n,).
        weights: Weight of each item, (n,), the same for both.
        clusters: Cluster each item belongs to.
    """
    differences = np.asarray(b, np.float64) - np.asarray(a, np.float64)
    low, high = bootstrap_interval(differences, seed=seed, weights=weights, clusters=clusters)
    totals, weight = _by_cluster(differences, weights, clusters)
    return PairedDifference(
        difference=float(totals.sum() / weight.sum()),
        low=low,
        high=high,
        p_value=_sign_flip_p(totals, seed),
        n=len(totals),
    )


def _sign_flip_p(totals: Floats, seed: int) -> float:
    """How often the sum of the clusters' differences would be as far from zero, were their signs tosses of a coin.

    So they are under the null hypothesis that the systems are exchangeable. Of few clusters all tosses are counted; of
    more some are drawn, the observed one among them, so that p is never zero.
    """
    num_clusters = len(totals)
    # Rounding must not decide between equal sums.
    least = abs(totals.sum()) - 1e-9 * np.abs(totals).sum()
    if 2 ** (num_clusters - 1) <= NUM_RESAMPLES:
        # The sign of the last stays: a toss and its opposite are as far from zero.
        tosses = np.arange(2 ** (num_clusters - 1))[:, None] >> np.arange(num_clusters)
        return float((np.abs((1.0 - 2.0 * (tosses & 1)) @ totals) >= least).mean())
    draws = generator(seed, "sign flip")
    extreme = 1
    for size in _blocks(num_clusters):
        signs = 2.0 * draws.integers(0, 2, (size, num_clusters), dtype=np.int8) - 1.0
        extreme += int((np.abs(signs @ totals) >= least).sum())
    return extreme / (NUM_RESAMPLES + 1)


def least_p_value(num_clusters: int) -> float:
    """The least p-value that `paired_difference` can give, of clusters that all differ in the same direction."""
    return max(2.0 ** (1 - num_clusters), 1 / (NUM_RESAMPLES + 1))


def pearson(x: npt.ArrayLike, y: npt.ArrayLike) -> Correlation:
    """Pearson's r of two variables over the same points, with Fisher's z interval (n > 3).

    Raises:
        ValueError: Fewer than two points, or a variable that does not vary: r is not defined.
    """
    x, y = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if x.shape != y.shape or x.ndim != 1 or len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        raise ValueError("pearson: expected two or more points, and both variables to vary")
    n = len(x)
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1.0, 1.0))
    if n <= 3 or abs(r) == 1.0:
        return Correlation(r, None, None, n)
    z, half = np.arctanh(r), NORMAL_QUANTILE / np.sqrt(n - 3)
    return Correlation(r, float(np.tanh(z - half)), float(np.tanh(z + half)), n)


def _by_cluster(
    scores: npt.ArrayLike, weights: npt.ArrayLike | None, clusters: Sequence[str] | None
) -> tuple[Floats, Floats]:
    """Sum of weight x score and sum of weight of each cluster, in a stable order."""
    values = np.asarray(scores, np.float64)
    weight = np.ones_like(values) if weights is None else np.asarray(weights, np.float64)
    if values.ndim != 1 or values.shape != weight.shape or values.size == 0:
        raise ValueError(f"found scores of shape {values.shape}, weights of {weight.shape}; expected (n,) of both")
    if clusters is None:
        return values * weight, weight
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    return np.bincount(index, values * weight), np.bincount(index, weight)


def _blocks(num_items: int) -> Iterator[int]:
    """Sizes of blocks that add up to `NUM_RESAMPLES` and hold at most `BLOCK_SIZE` numbers each."""
    size = max(1, BLOCK_SIZE // num_items)
    for start in range(0, NUM_RESAMPLES, size):
        yield min(size, NUM_RESAMPLES - start)


def _resamples(draws: np.random.Generator, num_items: int) -> Iterator[npt.NDArray[np.int64]]:
    """Blocks of resamples with replacement, (block, num_items) indices; the result does not depend on the blocks."""
    for size in _blocks(num_items):
        yield draws.integers(0, num_items, (size, num_items))
