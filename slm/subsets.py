"""Subsets of training corpora by hours, each within every larger one: what data scaling is measured on (figure 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from artifacts.errors import InputError
from artifacts.seeds import generator
from slm.store import TokenStore


class Subset(NamedTuple):
    """So many hours, drawn by a seed."""

    hours: float
    seed: int


def draw_subset(stores: Sequence[TokenStore], subset: Subset) -> list[np.ndarray]:
    """The documents of a subset: those of all stores in one random order, until they last its hours.

    The order is drawn from the seed alone, so that of one seed a subset of fewer hours lies within one of more. The
    document with which the hours are reached is taken whole.

    Returns:
        Of each store the documents drawn, rising; int64 (documents drawn,).

    Raises:
        InputError: A store does not know how long its documents last, or all together last less than the hours.
    """
    seconds = np.concatenate([_seconds(store) for store in stores])
    order = generator(subset.seed, "subset").permutation(len(seconds))
    drawn_hours = np.cumsum(seconds[order]) / 3600
    if not 0 < subset.hours <= drawn_hours[-1]:
        folders = ", ".join(str(store.folder) for store in stores)
        raise InputError(
            f"hours: found {subset.hours:g}, expected more than 0 and at most {drawn_hours[-1]:g}, which {folders} last"
        )
    chosen = np.sort(order[: np.searchsorted(drawn_hours, subset.hours) + 1])
    ends = np.cumsum([store.num_documents for store in stores])
    parts = np.split(chosen, np.searchsorted(chosen, ends[:-1]))
    return [part - (end - store.num_documents) for part, end, store in zip(parts, ends, stores, strict=True)]


def _seconds(store: TokenStore) -> np.ndarray:
    if store.seconds is None:
        raise InputError(f"{store.folder}: found documents of unknown duration, expected durations to count hours")
    return store.seconds


def hours_of(stores: Sequence[TokenStore], documents: Sequence[np.ndarray] | None) -> float | None:
    """Hours that some documents of each store last, all of them for None; None where a duration is unknown."""
    if any(store.seconds is None for store in stores):
        return None
    if documents is None:
        return sum(store.hours or 0 for store in stores)
    return sum(float(_seconds(store)[chosen].sum()) for store, chosen in zip(stores, documents, strict=True)) / 3600
