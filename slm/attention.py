"""Attention within the documents of a packed batch, without a dense mask.

The network sees contexts with many pieces side by side; attention alone has to know where one ends.
transformers' OPT does not hand `position_ids` to the function that makes masks, so packing left to it
leaks from document to document; and a mask over whole contexts costs the square of the context. Here
there are two ways, exact both:

- rows: queries, keys and values are laid out anew, one piece a row, where plain causal attention is exact:
  the padding at a row's end is seen by nothing before it, and read by nobody
- blocks: PyTorch's flexible attention computes the blocks of 128 x 128 scores that some piece needs, and
  looks at pieces inside the blocks where they begin or end; shapes are the same for every batch, as a
  compiled model wants it

Where each context is one piece, plain causal attention is all.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from transformers.modeling_utils import AttentionInterface

from artifacts.errors import InputError

NAME = "pieces"
"""Name of this attention among transformers' implementations."""

BLOCK = 128
"""Tokens of a side of a block, flexible attention's default."""


class Rows(NamedTuple):
    """A batch's tokens with one piece a row."""

    rows: tuple[Tensor, ...]
    """Indices into the batch's batch x time tokens; each (pieces, longest piece)."""
    places: Tensor
    """Where each of these tokens lies among the slots of `rows`, one array behind the other; (batch x time,)."""


class Blocks(NamedTuple):
    """The blocks of a batch's scores that have a piece in common; each int32."""

    partial_counts: Tensor
    """How many blocks of keys share some piece with a block of queries, but not all; (contexts, 1, blocks)."""
    partial_keys: Tensor
    """Which ones, first in their row; (contexts, 1, blocks, blocks)."""
    whole_counts: Tensor
    """How many blocks of keys are of one piece, the same as all of a block of queries behind them."""
    whole_keys: Tensor
    """Which ones."""
    pieces: Tensor
    """Number of each token's piece in its context, -1 at padding; (contexts, time)."""


type Layout = Rows | BlockMask | None
"""Where attention finds the pieces of a batch; None: each context is one piece."""


def lay_out_rows(pieces: np.ndarray, positions: np.ndarray) -> Rows:
    """Lay a packed batch out with one piece a row.

    Pieces of similar length are put together, so that less than a fifth of the rows is padding.

    Args:
        pieces: Number of each token's piece in its context, -1 at padding; (batch, time).
        positions: Place of each token in its piece, (batch, time).
    """
    tokens = np.flatnonzero(pieces >= 0)
    starts = np.flatnonzero(positions.ravel()[tokens] == 0)
    lengths = np.diff(starts, append=len(tokens))
    groups = np.ceil(4 * np.log2(lengths))
    rows, num_slots = [], 0
    places = np.zeros(pieces.size, dtype=np.int64)  # padding reads slot 0, and nobody reads padding
    for group in np.unique(groups):
        start, length = starts[groups == group, None], lengths[groups == group, None]
        slot = np.arange(length.max())
        row = tokens[start + np.minimum(slot, length - 1)]
        inside = slot < length
        places[row[inside]] = num_slots + np.flatnonzero(inside)
        num_slots += row.size
        rows.append(torch.from_numpy(row))
    return Rows(tuple(rows), torch.from_numpy(places))


def lay_out_blocks(pieces: np.ndarray) -> Blocks:
    """Find the blocks of scores of a packed batch that are computed, and those of them that need no mask.

    Numbers of pieces never fall along a context, so the first and the last of a block tell the rest.

    Args:
        pieces: As in `lay_out_rows`.
    """
    time = pieces.shape[1]
    sides = -(-time // BLOCK)
    numbers = np.where(pieces < 0, pieces.max() + 1, pieces)  # padding comes last, as if a piece
    numbers = np.pad(numbers, ((0, 0), (0, sides * BLOCK - time)), mode="edge").reshape(-1, sides, BLOCK)
    first, last = numbers[..., 0], numbers[..., -1]
    shared = np.tri(sides, dtype=bool) & (last[:, None, :] >= first[:, :, None])  # (contexts, queries, keys)
    whole = np.tri(sides, k=-1, dtype=bool) & (first[:, None, :] == last[:, :, None])
    return Blocks(*_ordered(shared & ~whole), *_ordered(whole), torch.from_numpy(pieces.astype(np.int32)))


def _ordered(chosen: np.ndarray) -> tuple[Tensor, Tensor]:
    """How many keys are chosen in each row of queries, and which, those first; a dimension for heads is added."""
    counts = chosen.sum(-1, dtype=np.int32)
    keys = np.argsort(~chosen, axis=-1, kind="stable").astype(np.int32)
    return torch.from_numpy(counts)[:, None], torch.from_numpy(keys)[:, None]


def block_mask(blocks: Blocks) -> BlockMask:
    """The blocks as flexible attention takes them, on their device and without waiting for it."""
    pieces = blocks.pieces

    def sees(context: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (pieces[context, query] == pieces[context, key])

    time = pieces.shape[1]
    return BlockMask.from_kv_blocks(*blocks[:4], BLOCK_SIZE=BLOCK, mask_mod=sees, seq_lengths=(time, time))


def attend_within_pieces(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    layout: Layout = None,
    scaling: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each piece, in the form that transformers calls.

    Args:
        query: (batch, heads, time, width).
        key, value: The same, or fewer heads, each for several of the queries'.
        attention_mask: None.
        layout: Where the pieces are; without it, each of the batch is one.
        scaling: Factor of the scores; by default one over the root of the width.
        others: What some models ask of their attention; nothing that changes it is known here.

    Returns:
        (batch, time, heads, width), and no attention weights.

    Raises:
        InputError: The model's attention is another than this.
    """
    _require_plain(attention_mask, others, query.shape[2])
    grouped = key.shape[1] != query.shape[1]
    if isinstance(layout, BlockMask):
        if dropout:
            raise InputError(f"model: found a dropout of {dropout} in attention by blocks, expected 0")
        attended = flex_attention(query, key, value, block_mask=layout, scale=scaling, enable_gqa=grouped)
        return attended.transpose(1, 2), None
    attend = partial(
        functional.scaled_dot_product_attention, dropout_p=dropout, is_causal=True, scale=scaling, enable_gqa=grouped
    )
    if layout is None:
        return attend(query, key, value).transpose(1, 2), None
    batch, heads, time, _ = query.shape
    flat = [states.transpose(1, 2).flatten(0, 1) for states in (query, key, value)]  # (tokens, heads, width)
    outputs = []
    for row in layout.rows:
        queries, keys, values = (
            states.index_select(0, row.flatten()).view(*row.shape, *states.shape[1:]).transpose(1, 2) for states in flat
        )
        outputs.append(attend(queries, keys, values).transpose(1, 2).flatten(0, 1))
    return torch.cat(outputs).index_select(0, layout.places).view(batch, time, heads, -1), None


def _require_plain(attention_mask: Tensor | None, others: dict[str, Any], time: int) -> None:
    """Refuse a model whose attention is not causal attention of all that comes before."""
    window = others.get("sliding_window")
    asked = ["sliding_window"] if window is not None and window < time else []
    asked += [name for name in ("softcap", "s_aux", "position_bias") if others.get(name) is not None]
    if attention_mask is not None:
        asked.append("attention_mask")
    if asked:
        raise InputError(f"model: found an attention with {asked[0]}, expected plain causal attention")


AttentionInterface.register(NAME, attend_within_pieces)
