"""One training step. Nothing here waits for the device."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

from artifacts.gradients import Gradients
from artifacts.seeds import seed_for
from artifacts.workers import Workers
from slm.batches import TensorBatch, Way
from slm.loss import require_chunks, summed_loss
from slm.settings import OptimizerSettings, SlmRecipe


class Outcome(NamedTuple):
    """What a step was like, on the device."""

    loss: Tensor
    """Before the step, in nats per token over all batches of all workers, ()."""
    gradient_norm: Tensor
    """Before clipping, ()."""


class Stepper:
    """A model with what it takes to train it: gradients, optimizer, other workers.

    Args:
        model: On its device.
        recipe: All of it is used.
        seed: Dropout follows from it.
        workers: All processes of the training; each has a copy of the model, and calls `step` with its
            share of the batches. Copies stay the same: what batches add up to is exchanged.

    Attributes:
        share: Which of a step's batches are this worker's.

    Raises:
        InputError: The batches of a step cannot be shared out evenly, or are too large for this model.
    """

    def __init__(self, model: PreTrainedModel, recipe: SlmRecipe, seed: int, workers: Workers) -> None:
        self.model, self.recipe, self.seed, self.workers = model, recipe, seed, workers
        self.share = workers.share_of(recipe.training.accumulation, "training.accumulation")
        require_chunks(model, recipe.training.batch_size * recipe.model.context)
        self.gradients = Gradients(model.parameters())
        self.optimizer = build_optimizer(model, recipe.optimizer)

    def step(self, batches: Sequence[TensorBatch], step: int) -> Outcome:
        """One update of the weights.

        Every predicted token of the step weighs the same, however batches and workers divide them.

        Args:
            batches: This worker's share, on the device.
            step: Number of steps done before this one.
        """
        settings, device = self.recipe.training, self.model.device
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings.steps, self.recipe.optimizer)
        self.model.train()
        self.gradients.clear()
        nats = torch.zeros((), device=device)
        for index, batch in zip(self.share, batches, strict=True):
            torch.manual_seed(seed_for(self.seed, "dropout", step * settings.accumulation + index))
            with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
                loss = summed_loss(self.model, batch)
            loss.backward()  # type: ignore[no-untyped-call]
            nats += loss.detach()
        count = torch.full((), float(sum(batch.num_predicted for batch in batches)), device=device)
        tally = torch.stack([nats, count])
        self.workers.add_up(tally)
        self.workers.add_up(self.gradients.vector)
        gradient_norm = self.gradients.average_and_clip(tally[1], self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        return Outcome(tally[0] / tally[1], gradient_norm)


def build_optimizer(model: PreTrainedModel, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over all weights."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """Learning rate of a step, counted from 0: a linear rise, then half a cosine down to the last step."""
    peak, final, warmup = settings.learning_rate, settings.final_learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step + 1 - warmup) / (num_steps - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def compile_blocks(model: PreTrainedModel, backend: str = "inductor") -> None:
    """Compile the model's blocks: one graph that all of them share; a break in it is an error.

    Args:
        backend: What makes code of the graph.
    """
    torch._dynamo.config.recompile_limit = 100  # the ninth kind of batch, counting those of scoring, would be an error
    blocks = next(layers for layers in model.modules() if isinstance(layers, nn.ModuleList))
    for block in blocks:
        block.compile(fullgraph=True, backend=backend)


def choose_way(model: PreTrainedModel, recipe: SlmRecipe) -> Way:
    """How attention keeps pieces apart: by blocks where they are compiled, which those with dropout cannot be."""
    dropout = getattr(model.config, "attention_dropout", 0) or getattr(model.config, "attn_pdrop", 0)
    return "blocks" if model.device.type == "cuda" and recipe.training.compile and not dropout else "rows"
