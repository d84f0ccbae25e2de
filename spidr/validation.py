"""How the training does on speech it does not learn from (figure 2): averages over batches of training size."""

import math
import sys
from typing import Any

import torch
from torch import Tensor

from artifacts.checkpoints import ADVICE
from artifacts.errors import InputError
from artifacts.workers import Workers
from spidr.batches import Batches, name_left_out, prefetch
from spidr.learner import Objective, SpidR
from spidr.step import autocast

COLLAPSED = 0.05
"""A codebook whose perplexity is below this share of its codewords (13 of 256) has collapsed."""


@torch.no_grad()
def validate(learner: SpidR, batches: Batches, device: torch.device, workers: Workers) -> dict[str, Any]:
    """Loss and perplexities of one epoch of `batches`, the same crops and masks every time.

    Perplexities are taken over each batch and then averaged (section 4.2). Workers share the batches. How many
    utterances were left out as bad is `utterances_left_out`; each is named on standard error.

    Raises:
        InputError: An audio file is not what the manifest says, or the loss is not finite.
    """
    learner.eval()
    num_codebooks, num_batches = learner.settings.num_codebooks, batches.batches_per_epoch
    total = torch.zeros(4, num_codebooks, dtype=torch.float64, device=device)
    num_left_out = 0  # this worker's
    for batch in prefetch(batches, range(workers.rank, num_batches, workers.size), device):
        with autocast(batches.recipe, device):
            tally = learner(batch.waveforms, batch.masked)
        total += figures(Objective.of(tally))
        num_left_out += name_left_out([batch])
    learner.train()
    workers.add_up(total)
    measured = name_figures(total / num_batches, learner.settings.codebook_layers)
    if not math.isfinite(measured["loss"]):
        raise InputError(f"validation: found a loss of {measured['loss']}, expected a finite number; {ADVICE}")
    return {**measured, "utterances_left_out": int(workers.total(num_left_out))}


@torch.no_grad()
def figures(objective: Objective) -> Tensor:
    """Loss (the same K times), both perplexities and number of codewords in use, float64 (4, K)."""
    loss, *per_layer = objective
    return torch.stack([loss.expand_as(per_layer[0]).double(), *per_layer])


def name_figures(values: Tensor, layers: list[int]) -> dict[str, Any]:
    """What `figures` measured as plain numbers; per layer, but for the loss."""
    loss, *others = values.tolist()
    names = ("codebook_perplexity", "prediction_perplexity", "active_codewords")
    per_layer = [dict(zip(map(str, layers), row, strict=True)) for row in others]
    return {"loss": loss[0], **dict(zip(names, per_layer, strict=True))}


def warn_of_collapse(validation: dict[str, Any], step: int, codebook_size: int) -> None:
    """Name the layers whose codebook has collapsed to a few codewords, on standard error."""
    collapsed = {
        layer: value for layer, value in validation["codebook_perplexity"].items() if value < COLLAPSED * codebook_size
    }
    if collapsed:
        layers = ", ".join(f"layer {layer} at {value:.1f}" for layer, value in collapsed.items())
        print(f"warning: step {step}: codebook perplexity of {layers} of {codebook_size}: collapsed", file=sys.stderr)
