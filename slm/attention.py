"""Attention within the documents of a packed batch, without a mask.

The network sees contexts with many pieces side by side; attention alone has to know where one ends.
transformers' OPT does not hand `position_ids` to the function that makes masks, so packing left to it
leaks from document to document; and a mask over whole contexts costs the square of the context. Here
queries, keys and values are laid out anew, one piece a row, where plain causal attention is exact: the
padding at a row's end is seen by nothing before it, and read by nobody.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import AttentionInterface

NAME = "pieces"
"""Name of this attention among transformers' implementations."""


def lay_out(pieces: np.ndarray, positions: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """Where attention finds a packed batch's tokens, and where the batch finds attention's outputs.

    Pieces of similar length are put together, so that less than half of the rows is padding.

    Args:
        pieces: Number of each token's piece in its context, -1 at padding; (batch, time).
        positions: Place of each token in its piece, (batch, time).

    Returns:
        Arrays (pieces, longest piece) of indices into the batch's batch x time tokens; and for each of
        these its place among the slots of those arrays, one array behind the other, (batch x time,).
    """
    tokens = np.flatnonzero(pieces >= 0)
    starts = np.flatnonzero(positions.ravel()[tokens] == 0)
    lengths = np.diff(starts, append=len(tokens))
    groups = np.ceil(np.log2(lengths))
    rows, num_slots = [], 0
    places = np.zeros(pieces.size, dtype=np.int64)  # padding reads slot 0, and nobody reads padding
    for group in np.unique(groups):
        start, length = starts[groups == group, None], lengths[groups == group, None]
        slot = np.arange(length.max())
        row = tokens[start + np.minimum(slot, length - 1)]
        inside = slot < length
        places[row[inside]] = num_slots + np.flatnonzero(inside)
        num_slots += row.size
        rows.append(row)
    return rows, places


def attend_within_pieces(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    rows: list[Tensor],
    places: Tensor,
    scaling: float,
    dropout: float = 0.0,
    **ignored: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each piece, in the form that transformers calls.

    Args:
        query, key, value: (batch, heads, time, width).
        rows, places: The batch as `lay_out` lays it out.

    Returns:
        (batch, time, heads, width), and no attention weights.
    """
    batch, heads, time, width = query.shape
    flat = [states.transpose(1, 2).reshape(batch * time, heads * width) for states in (query, key, value)]
    outputs = []
    for row in rows:
        queries, keys, values = (
            states.index_select(0, row.flatten()).view(*row.shape, heads, width).transpose(1, 2) for states in flat
        )
        attended = functional.scaled_dot_product_attention(
            queries, keys, values, dropout_p=dropout, is_causal=True, scale=scaling
        )
        outputs.append(attended.transpose(1, 2).reshape(row.numel(), heads * width))
    return torch.cat(outputs).index_select(0, places).view(batch, time, heads, width), None


AttentionInterface.register(NAME, attend_within_pieces)
