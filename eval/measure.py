"""A metric of units as a ratio of sums over speakers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

type Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Measure:
    """A metric as a ratio of sums over speakers, ``transform(sum(numerator) / sum(denominator))``.

    What is no ratio (information measures, the R-value) is written as one by its influence function, pooled
    probabilities and rates held fixed: to first order that is how it varies when speakers are drawn again, without
    the upward bias entropies of a resample have.

    Attributes:
        items: What the metric is over.
        n: How many of them there are.
        conditions: How it is computed, beyond what holds for all metrics of units.
    """

    numerator: Floats  # (S,)
    denominator: Floats  # (S,)
    items: str
    n: int
    transform: Callable[[float], float] = float
    conditions: Mapping[str, Any] = field(default_factory=dict)

    @property
    def value(self) -> float:
        """The metric over all speakers."""
        return self.transform(float(self.numerator.sum() / self.denominator.sum()))

    def by_speaker(self, speakers: Sequence[str]) -> list[dict[str, Any]]:
        """Ratio and denominator of each speaker who says something: the rows of the score's table."""
        return [
            {"speaker": speaker, "score": float(numerator / denominator), "weight": float(denominator)}
            for speaker, numerator, denominator in zip(speakers, self.numerator, self.denominator, strict=True)
            if denominator > 0
        ]
