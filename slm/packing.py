"""Packing: whole documents laid side by side in contexts of one length.

Tokens are predicted in pairs: a document of n tokens is n - 1 inputs, each with the next token as its
target. The rule, which is part of what a number of steps means:

- a document is packed whole; one with more pairs than the context is cut into pieces of the context's
  length, each a document of its own from there on; every pair is in exactly one piece
- pieces go longest first into the fullest context that has room (best fit; Ding et al., 2024); what
  room is left at a context's end is padding
- pieces do not see each other: attention is causal within a piece, and positions start at 0 in each; where documents
  are `together` instead, a context is one piece: each document is predicted from those before it too
- every epoch has all pieces once; which piece of equal ones goes where, and the order of the contexts,
  are drawn from (seed, epoch)

Lengths alone decide how many contexts an epoch has, so the contexts of any step follow from (seed, step).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from artifacts.seeds import generator
from slm.store import PAD, TokenStore

Documents = Literal["apart", "together"]
"""Whether the documents of a context see each other."""

_PACKED = "whole documents, best fit, longest first; cut where longer than the context"
RULES: dict[Documents, str] = {
    "apart": f"{_PACKED}; attention within each",
    "together": f"{_PACKED}; attention over the whole context",
}
"""Recorded with every model."""

IGNORED = -100
"""Target of padding: no prediction is scored there (PyTorch's ignore_index)."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Contexts as arrays, int64 (contexts, context length)."""

    inputs: np.ndarray
    """Tokens; PAD behind the last piece."""
    targets: np.ndarray
    """The token after each; IGNORED at padding."""
    positions: np.ndarray
    """Place of each token in its piece, from 0; 0 at padding."""
    pieces: np.ndarray
    """Which piece of the context a token belongs to, from 0; -1 at padding."""
    num_predicted: int
    """Targets that are scored."""


class PackedCorpus:
    """The documents of some token stores (of one vocabulary), as an endless sequence of contexts.

    Args:
        context: Tokens of a context.
        seed: With the epoch, decides the order.
        documents: Which documents of each store (`slm.subsets`), rising; all of them where left out.
        together: Whether the documents of a context see each other.

    Attributes:
        num_contexts: Contexts of one epoch.
        num_predicted: Predicted tokens of one epoch.
    """

    def __init__(
        self,
        stores: Sequence[TokenStore],
        context: int,
        seed: int,
        documents: Sequence[np.ndarray] | None = None,
        together: bool = False,
    ) -> None:
        self.stores, self.context, self.seed, self.together = list(stores), context, seed, together
        of_each = [None] * len(stores) if documents is None else documents
        pieces = (cut(store.offsets, context, chosen) for store, chosen in zip(stores, of_each, strict=True))
        starts, lengths = zip(*pieces, strict=True)
        self._store = np.repeat(np.arange(len(stores)), [len(part) for part in lengths])
        self._start, self._length = np.concatenate(starts), np.concatenate(lengths)
        self.num_predicted = int(self._length.sum())
        self._plan(0)
        self.num_contexts = len(self._contexts)

    def _plan(self, epoch: int) -> None:
        """Pack one epoch; the last one planned is kept."""
        draw = generator(self.seed, "packing", epoch)
        order = draw.permutation(len(self._length))
        order = order[np.argsort(-self._length[order], kind="stable")]
        contexts = best_fit(self._length[order], self.context)
        by_context = np.argsort(contexts, kind="stable")
        pieces = np.split(order[by_context], np.cumsum(np.bincount(contexts))[:-1])
        self._epoch, self._contexts = epoch, [pieces[number] for number in draw.permutation(len(pieces))]

    def batch(self, first: int, size: int) -> Batch:
        """The contexts `first` to `first + size` of the endless sequence."""
        inputs = np.full((size, self.context), PAD, dtype=np.int64)
        targets = np.full((size, self.context), IGNORED, dtype=np.int64)
        positions = np.zeros((size, self.context), dtype=np.int64)
        pieces = np.full((size, self.context), -1, dtype=np.int64)
        for row in range(size):
            epoch, number = divmod(first + row, self.num_contexts)
            if epoch != self._epoch:
                self._plan(epoch)
            end = 0
            for count, piece in enumerate(self._contexts[number]):
                begin, end = end, end + self._length[piece]
                start = self._start[piece]
                tokens = self.stores[self._store[piece]].tokens[start : start + end - begin + 1]
                inputs[row, begin:end], targets[row, begin:end] = tokens[:-1], tokens[1:]
                positions[row, begin:end] = np.arange(end - begin)
                pieces[row, begin:end] = count
            if self.together:
                positions[row, :end], pieces[row, :end] = np.arange(end), 0
        return Batch(inputs, targets, positions, pieces, int((targets != IGNORED).sum()))


def cut(offsets: np.ndarray, context: int, documents: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """First token and number of pairs of every piece, in order of the documents; each (pieces,).

    Args:
        offsets: First token of every document, and the end of the last; (documents + 1,).
        documents: Those to cut; all of them where left out.
    """
    firsts, pairs = offsets[:-1], np.diff(offsets) - 1
    if documents is not None:
        firsts, pairs = firsts[documents], pairs[documents]
    pieces_of = -(-pairs // context)
    document = np.repeat(np.arange(len(pairs)), pieces_of)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces_of) - pieces_of, pieces_of)
    return firsts[document] + number * context, np.minimum(pairs[document] - number * context, context)


def best_fit(lengths: np.ndarray, capacity: int) -> np.ndarray:
    """Give each length, in order, to the fullest bin that has room for it; a new bin where none has.

    Args:
        lengths: From 1 to `capacity`; (pieces,).

    Returns:
        The bin of each, numbered by first use; (pieces,).
    """
    bins_with_room: list[list[int]] = [[] for _ in range(capacity + 1)]
    occupied = 0  # bit r is set where bins_with_room[r] is not empty
    bin_of = np.empty(len(lengths), dtype=np.int64)
    num_bins = 0
    for piece, length in enumerate(lengths.tolist()):
        fitting = occupied >> length
        if fitting:
            room = length + (fitting & -fitting).bit_length() - 1  # lowest set bit: the least room that will do
            chosen = bins_with_room[room].pop()
            if not bins_with_room[room]:
                occupied ^= 1 << room
        else:
            room, chosen = capacity, num_bins
            num_bins += 1
        bin_of[piece] = chosen
        bins_with_room[room - length].append(chosen)
        occupied |= 1 << (room - length)
    return bin_of
