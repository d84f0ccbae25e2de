"""How the training does on speech it does not learn from (figure 2): averages over batches of training size."""

import sys
from typing import Any

import torch
from torch import Tensor

from spidr.batches import Batches, prefetch
from spidr.learner import Objective, SpidR
from spidr.step import autocast, to_device

COLLAPSED = 0.05
"""A codebook whose perplexity is below this share of its codewords (13 of 256) has collapsed."""


@torch.no_grad()
def validate(learner: SpidR, batches: Batches, device: torch.device) -> dict[str, Any]:
    """Loss and perplexities of one epoch of `batches`, the same crops and masks every time.

    Perplexities are taken over each batch and then averaged (section 4.2).
    """
    learner.eval()
    objectives = []
    for batch in prefetch(batches, range(batches.batches_per_epoch)):
        with autocast(batches.recipe, device):
            objectives.append(learner(*to_device(batch, device)))
    learner.train()
    return measures(learner, objectives)


def measures(learner: SpidR, objectives: list[Objective]) -> dict[str, Any]:
    """Averages of what was measured over batches, as plain numbers; per layer where there are several."""

    def per_layer(values: list[Tensor]) -> dict[str, float]:
        means = torch.stack(values).float().mean(0).tolist()
        return {str(layer): mean for layer, mean in zip(learner.settings.codebook_layers, means, strict=True)}

    return {
        "loss": torch.stack([o.loss for o in objectives]).mean().item(),
        "codebook_perplexity": per_layer([o.codebook_perplexity for o in objectives]),
        "prediction_perplexity": per_layer([o.prediction_perplexity for o in objectives]),
        "active_codewords": per_layer([(o.clusters.counts > 0).sum(-1) for o in objectives]),
    }


def warn_of_collapse(validation: dict[str, Any], step: int, codebook_size: int) -> None:
    """Name the layers whose codebook has collapsed to a few codewords, on standard error."""
    collapsed = {
        layer: value for layer, value in validation["codebook_perplexity"].items() if value < COLLAPSED * codebook_size
    }
    if collapsed:
        layers = ", ".join(f"layer {layer} at {value:.1f}" for layer, value in collapsed.items())
        print(f"warning: step {step}: codebook perplexity of {layers} of {codebook_size}: collapsed", file=sys.stderr)
