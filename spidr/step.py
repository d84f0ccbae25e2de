"""One training step. Nothing here waits for the device."""

import torch
from torch import Tensor

from artifacts.seeds import seed_for
from spidr.batches import Batch
from spidr.learner import Objective, SpidR, draw_kept_layers
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import OptimizerSettings, Recipe


def build_optimizer(learner: SpidR, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over student, mask embedding and heads; teacher and codebooks have no gradient."""
    return torch.optim.AdamW(
        [parameter for parameter in learner.parameters() if parameter.requires_grad],
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def to_device(batch: Batch, device: torch.device) -> tuple[Tensor, Tensor]:
    """Waveforms and masked frames of a batch as tensors on the device, without waiting for the copy."""
    waveforms, masked = torch.from_numpy(batch.waveforms), torch.from_numpy(batch.masked)
    if device.type == "cuda":
        waveforms, masked = waveforms.pin_memory(), masked.pin_memory()
    return waveforms.to(device, non_blocking=True), masked.to(device, non_blocking=True)


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The arithmetic that the recipe asks for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.training.precision == "bfloat16")


def training_step(
    learner: SpidR,
    optimizer: torch.optim.Optimizer,
    waveforms: Tensor,
    masked: Tensor,
    recipe: Recipe,
    seed: int,
    step: int,
) -> tuple[Objective, Tensor]:
    """Student by gradient descent, codebooks and teacher by moving averages (section 3).

    Args:
        waveforms: (batch, samples).
        masked: Indices of the masked frames, (batch, num_masked).
        step: Number of steps done before this one; schedules, layer drop and dropout follow from it.

    Returns:
        The objective before the step, and the norm of its gradient before clipping.
    """
    settings = recipe.optimizer
    torch.manual_seed(seed_for(seed, "dropout", step))
    frozen = settings.freeze_extractor_step is not None and step >= settings.freeze_extractor_step
    learner.student.extractor.requires_grad_(not frozen)
    learner.student.projection.requires_grad_(not frozen)
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings)

    with autocast(recipe, waveforms.device):
        objective: Objective = learner(waveforms, masked, draw_kept_layers(recipe.model, seed, step))
    optimizer.zero_grad()
    objective.loss.backward()  # type: ignore[no-untyped-call]
    gradient_norm = torch.nn.utils.clip_grad_norm_(learner.parameters(), settings.clip_norm)
    optimizer.step()
    learner.codebooks.update(objective.clusters)
    decay = teacher_decay(step, recipe.teacher)
    if decay is not None:
        learner.update_teacher(decay)
    return objective, gradient_norm
