"""What a language model loses on packed documents."""

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from transformers.modeling_utils import PreTrainedModel

from artifacts.errors import InputError
from slm.batches import TensorBatch
from slm.packing import IGNORED

MOST_LOGITS = 2**26
"""Most logits that are held at once: a quarter of a gigabyte in float32.

A batch of the paper's has 8 million of 256 units, and of the 50,267 tokens of OPT's text 1.6 billion. Those are made in
chunks of positions, each anew for its gradient: a third more work in the last layer, a twentieth of the memory.
"""


def packed_logits(model: PreTrainedModel, batch: TensorBatch) -> Tensor:
    """Logits of packed documents, each as if it were alone; (contexts, time, vocabulary).

    Args:
        model: As `slm.model.build_model` made it: its attention knows the pieces.
        batch: On the model's device.
    """
    logits: Tensor = model(batch.inputs, position_ids=batch.positions, layout=batch.layout, use_cache=False).logits
    return logits


def summed_loss(model: PreTrainedModel, batch: TensorBatch) -> Tensor:
    """Negative log-likelihood of a batch's targets, in nats, summed over `batch.num_predicted` of them."""
    targets = batch.targets.flatten()
    vocab_size = vocabulary_of(model)
    if len(targets) * vocab_size <= MOST_LOGITS:
        return _cross_entropy(packed_logits(model, batch).flatten(0, 1), targets)
    network, head = model.base_model, model.get_output_embeddings()
    states: Tensor = network(
        batch.inputs, position_ids=batch.positions, layout=batch.layout, use_cache=False
    ).last_hidden_state
    size = max(MOST_LOGITS // vocab_size, 1)
    losses = [
        # Nothing in it is drawn at random.
        checkpoint(_loss_of_chunk, head, *chunk, use_reentrant=False, preserve_rng_state=False)
        for chunk in zip(torch.split(states.flatten(0, 1), size), torch.split(targets, size), strict=True)
    ]
    return torch.stack(losses).sum()


def _loss_of_chunk(head: nn.Module, states: Tensor, targets: Tensor) -> Tensor:
    """The loss of some positions from the last layer's states, (positions, width)."""
    kind = states.device.type
    # Weights cast once for all chunks would have the gradients of all added up in bfloat16.
    with torch.autocast(
        kind, torch.get_autocast_dtype(kind), enabled=torch.is_autocast_enabled(kind), cache_enabled=False
    ):
        return _cross_entropy(head(states), targets)


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return functional.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")


@torch.no_grad()
def require_chunks(model: PreTrainedModel, num_positions: int) -> None:
    """Check that a model's loss on batches of so many positions can be computed in chunks, where it has to be.

    Raises:
        InputError: Its logits are not its last layer's times a matrix: some models scale them.
    """
    vocab_size = vocabulary_of(model)
    if num_positions * vocab_size <= MOST_LOGITS:
        return
    inputs = torch.arange(4, device=model.device)[None]
    was_training = model.training
    model.eval()
    whole = model(inputs, use_cache=False).logits
    chunked = model.get_output_embeddings()(model.base_model(inputs, use_cache=False).last_hidden_state)
    model.train(was_training)
    if not torch.allclose(whole, chunked, rtol=1e-4, atol=1e-5):
        raise InputError(
            f"training.batch_size: found batches of {num_positions:,} tokens, expected at most "
            f"{MOST_LOGITS // vocab_size:,} for a vocabulary of {vocab_size:,} and a {model.config.model_type}, which "
            "changes its logits after its last layer; more training.accumulation makes the same step"
        )


def vocabulary_of(model: PreTrainedModel) -> int:
    """Logits of a position."""
    size: int = model.config.get_text_config().vocab_size
    return size
