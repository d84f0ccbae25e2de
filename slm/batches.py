"""Packed batches as tensors, made ahead of the step that wants them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Literal

import torch
from torch import Tensor

from slm.attention import Blocks, Layout, Rows, block_mask, lay_out_blocks, lay_out_rows
from slm.packing import Batch, PackedCorpus

Way = Literal["rows", "blocks"]
"""How attention keeps pieces apart (`slm.attention`)."""

AHEAD = 4
"""Batches that are made while the device works on another."""


@dataclass(frozen=True, slots=True)
class TensorBatch:
    """A packed batch; the first three are (contexts, time)."""

    inputs: Tensor
    targets: Tensor
    positions: Tensor
    pieces: Rows | Blocks | None
    """Where the pieces are; None where each context is one."""
    num_predicted: int
    """Targets that are scored."""

    @property
    def layout(self) -> Layout:
        """What attention is told of the pieces."""
        return block_mask(self.pieces) if isinstance(self.pieces, Blocks) else self.pieces

    def pin(self) -> "TensorBatch":
        """The same in memory that a GPU copies from while the host goes on."""
        return self._each(lambda tensor: tensor.pin_memory())

    def to(self, device: torch.device) -> "TensorBatch":
        """The same on the device, without waiting for the copies of what is pinned."""
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "TensorBatch":
        pieces = self.pieces
        if isinstance(pieces, Rows):
            pieces = Rows(tuple(map(change, pieces.rows)), change(pieces.places))
        elif pieces is not None:
            pieces = Blocks(*map(change, pieces))
        return TensorBatch(
            change(self.inputs), change(self.targets), change(self.positions), pieces, self.num_predicted
        )


def as_tensors(batch: Batch, way: Way) -> TensorBatch:
    """A packed batch as tensors in host memory, its pieces laid out for attention."""
    pieces: Rows | Blocks | None = None
    if batch.pieces.max() > 0:
        pieces = lay_out_blocks(batch.pieces) if way == "blocks" else lay_out_rows(batch.pieces, batch.positions)
    inputs, targets, positions = map(torch.from_numpy, (batch.inputs, batch.targets, batch.positions))
    return TensorBatch(inputs, targets, positions, pieces, batch.num_predicted)


def prefetch(
    corpus: PackedCorpus, spans: Iterable[tuple[int, int]], way: Way, device: torch.device
) -> Iterator[TensorBatch]:
    """Batches in order, packed by a background thread, on their way to the device.

    Args:
        spans: First context and number of contexts of each.
    """

    def read(span: tuple[int, int]) -> TensorBatch:
        batch = as_tensors(corpus.batch(*span), way)
        return batch.pin() if device.type == "cuda" else batch

    remaining = iter(spans)
    pool = ThreadPoolExecutor(1, thread_name_prefix="pack batch")  # the corpus keeps the plan of one epoch
    try:
        ahead: deque[Future[TensorBatch]] = deque(pool.submit(read, span) for span in islice(remaining, AHEAD))
        while ahead:
            batch = ahead.popleft().result()
            ahead.extend(pool.submit(read, span) for span in islice(remaining, 1))
            yield batch.to(device)
    finally:
        pool.shutdown(cancel_futures=True)
