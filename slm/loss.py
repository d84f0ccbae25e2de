"""What a language model loses on packed documents."""

from torch import Tensor
from torch.nn import functional
from transformers.modeling_utils import PreTrainedModel

from slm.batches import TensorBatch
from slm.packing import IGNORED


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
    logits = packed_logits(model, batch).float().flatten(0, 1)
    return functional.cross_entropy(logits, batch.targets.flatten(), ignore_index=IGNORED, reduction="sum")
