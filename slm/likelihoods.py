"""Log-likelihoods of documents: batches of similar lengths, windows where one is longer than the context."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import Precision, computing_in
from slm.store import PAD

BATCH_TOKENS = {"cpu": 512, "cuda": 32_768}
"""Most tokens of a batch, padding counted: what is fastest where. It moves a likelihood by rounding only."""
BATCH_LOGITS = 2**28
"""Most logits of a batch: a gigabyte in float32."""
TRAINED_CONTEXT = "trained_context"
"""Key of our models' configurations: one that had read text before may have positions that no unit was seen at."""
CONTEXT_NAMES = (TRAINED_CONTEXT, "max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length")
"""What configurations call the context, the shortest first."""


class Window(NamedTuple):
    """A part of a document that the model sees at once."""

    start: int
    """Its first input, counted in the document."""
    length: int
    """Its inputs."""
    num_scored: int
    """Its last predictions, which no window before it made."""


def windows(num_inputs: int, context: int | None, stride: int | None) -> Iterator[Window]:
    """The windows of a document: every prediction is made once, all but the first window's with a full context.

    The first window is the document's first `context` inputs. Each further one reaches `stride` inputs further, the
    last to the document's end, and its last predictions are scored: those have at least `context` - `stride` tokens
    to their left. A window's positions start at 0, as if the document began there without BOS.

    >>> [tuple(window) for window in windows(10, 4, 3)]
    [(0, 4, 4), (3, 4, 3), (6, 4, 3)]

    Args:
        context: Most inputs of a window; None has no limit.
        stride: None where the document has to fit.

    Raises:
        ValueError: It does not.
    """
    if context is None or num_inputs <= context:
        yield Window(0, num_inputs, num_inputs)
        return
    if stride is None:
        raise ValueError(f"{num_inputs} inputs, expected at most {context}")
    yield Window(0, context, context)
    for scored in range(context, num_inputs, stride):
        end = min(scored + stride, num_inputs)
        yield Window(end - context, context, end - scored)


def context_of(config: PreTrainedConfig) -> int | None:
    """Most inputs of a model; None where its configuration names no limit."""
    config = config.get_text_config()
    named = (getattr(config, name, None) for name in CONTEXT_NAMES)
    return next((length for length in named if isinstance(length, int) and length > 0), None)


def batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences in batches: longest first, so that little is padded, within a budget of tokens.

    A sequence longer than the budget is a batch by itself.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel,
    documents: Sequence[np.ndarray],
    max_tokens: int,
    *,
    stride: int | None = None,
    precision: Precision = "float32",
) -> Iterator[tuple[list[int], Tensor]]:
    """Score documents, longest first.

    Right padding needs no mask: attention is causal, and what follows a document's end is not scored.

    Args:
        documents: BOS, tokens, EOS each.
        max_tokens: Most tokens of a batch.
        stride: That of the windows of a document longer than the model's context; None where there is none.
        precision: Of matrix products; log p is computed in float32.

    Yields:
        The documents of a batch, by index, and the log-likelihoods in nats of their tokens after the first,
        float64 (batch,). A document of several windows comes several times: the sum is its log-likelihood.
    """
    context = context_of(model.config)
    parts = [(i, window) for i, tokens in enumerate(documents) for window in windows(len(tokens) - 1, context, stride)]
    max_tokens = min(max_tokens, BATCH_LOGITS // model.config.get_text_config().vocab_size)
    for batch in batches([window.length for _, window in parts], max_tokens):
        longest = parts[batch[0]][1].length
        tokens = np.full((len(batch), longest + 1), PAD, dtype=np.int64)
        scored = np.zeros((len(batch), longest), dtype=bool)
        for row, part in enumerate(batch):
            index, (start, length, num_scored) = parts[part]
            tokens[row, : length + 1] = documents[index][start : start + length + 1]
            scored[row, length - num_scored : length] = True
        padded = torch.from_numpy(tokens).to(model.device)
        with computing_in(precision, model.device.type):
            logits = model(padded[:, :-1], use_cache=False).logits.float()  # (batch, time, vocabulary)
        chosen = logits.gather(2, padded[:, 1:, None]).squeeze(2)
        nats = (chosen - logits.logsumexp(2)) * torch.from_numpy(scored).to(model.device)  # (batch, time)
        yield [parts[part][0] for part in batch], nats.double().sum(1)
