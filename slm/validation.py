"""How a language model in training does on documents that it does not learn from: what selects its checkpoint."""

import math

import torch
from transformers.modeling_utils import PreTrainedModel

from artifacts.checkpoints import ADVICE
from artifacts.errors import InputError
from artifacts.workers import ALONE, Workers
from slm.batches import Way, prefetch
from slm.loss import summed_loss
from slm.packing import PackedCorpus


@torch.inference_mode()
def validate(
    model: PreTrainedModel, validation: PackedCorpus, batch_size: int, way: Way = "rows", workers: Workers = ALONE
) -> float:
    """Negative log-likelihood in nats per predicted token, every document alone, in float32.

    Args:
        batch_size: Contexts that go through the network at once.
        workers: All processes of the training, who share the contexts.

    Raises:
        InputError: It is not finite.
    """
    model.eval()
    nats = torch.zeros((), dtype=torch.float64, device=model.device)
    starts = range(workers.rank * batch_size, validation.num_contexts, workers.size * batch_size)
    spans = ((first, min(batch_size, validation.num_contexts - first)) for first in starts)
    for batch in prefetch(validation, spans, way, model.device):
        nats += summed_loss(model, batch)
    workers.add_up(nats)
    loss = nats.item() / validation.num_predicted
    if not math.isfinite(loss):
        raise InputError(f"validation: found a loss of {loss}, expected a finite number; {ADVICE}")
    return loss
