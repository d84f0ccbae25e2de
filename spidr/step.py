"""One training step. Nothing here waits for the device."""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from artifacts.gradients import Gradients
from artifacts.seeds import seed_for
from artifacts.workers import Workers
from spidr.batches import Batch
from spidr.codebook import ClusterStatistics
from spidr.learner import Objective, SpidR, Tally
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import OptimizerSettings, Recipe

Forward = Callable[[Tensor, Tensor, Tensor | None], Tally]


class Outcome(NamedTuple):
    """What a step was like, on the device."""

    objective: Objective
    """Before the step, over all batches of all workers."""
    gradient_norm: Tensor
    """Before clipping, ()."""


class Stepper:
    """A model with what it takes to train it: gradients, optimizer, other workers.

    Args:
        learner: On its device, in training mode.
        recipe: All of it is used but the sizes of batches.
        seed: Dropout follows from it.
        workers: All processes of the training; each has a copy of the model, and calls `step` with its
            share of the batches. Copies stay the same: what batches add up to is exchanged.

    Attributes:
        share: Which of a step's batches are this worker's.

    Raises:
        InputError: The batches of a step cannot be shared out evenly.
    """

    def __init__(self, learner: SpidR, recipe: Recipe, seed: int, workers: Workers) -> None:
        self.learner, self.recipe, self.seed, self.workers = learner, recipe, seed, workers
        self.share = workers.share_of(recipe.batches.batches_per_step, "batches.batches_per_step")
        learnt = [parameter for parameter in learner.parameters() if parameter.requires_grad]
        self.gradients = Gradients(learnt)
        self.optimizer = build_optimizer(learnt, recipe.optimizer)
        # On a CPU it takes three minutes and a step is no faster.
        compiles = recipe.training.compile and self.gradients.vector.is_cuda
        self._forward: Forward = compiled(learner) if compiles else learner

    def step(self, batches: Iterable[Batch], step: int) -> Outcome:
        """Student by gradient descent, codebooks and teacher by moving averages (section 3).

        The loss is averaged over the masked frames of all batches of all workers, and codebooks move
        by the frames of all: how many devices share the work makes no difference.

        Args:
            batches: This worker's, on the device, at least one.
            step: Number of steps done before this one; the schedules follow from it.
        """
        self._set_schedules(step)
        self.gradients.clear()
        tally: Tally | None = None
        for batch in batches:
            torch.manual_seed(seed_for(self.seed, "dropout", batch.number))
            with autocast(self.recipe, batch.waveforms.device):
                added: Tally = self._forward(batch.waveforms, batch.masked, batch.kept)
            added.loss.backward()  # type: ignore[no-untyped-call]
            tally = added.detach() if tally is None else tally.plus(added.detach())
        if tally is None:
            raise ValueError("a step needs a batch")
        tally = exchange(tally, self.workers)
        self.workers.add_up(self.gradients.vector)
        gradient_norm = self.gradients.average_and_clip(tally.num_masked, self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        self.learner.codebooks.update(tally.clusters)
        decay = teacher_decay(step, self.recipe.teacher)
        if decay is not None:
            self.learner.update_teacher(decay)
        return Outcome(Objective.of(tally), gradient_norm)

    def _set_schedules(self, step: int) -> None:
        settings = self.recipe.optimizer
        frozen = settings.freeze_extractor_step is not None and step >= settings.freeze_extractor_step
        self.learner.student.extractor.requires_grad_(not frozen)
        self.learner.student.projection.requires_grad_(not frozen)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, settings)


def build_optimizer(parameters: list[torch.nn.Parameter], settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over student, mask embedding and heads; teacher and codebooks have no gradient."""
    return torch.optim.AdamW(
        parameters,
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def autocast(recipe: Recipe, device: torch.device) -> torch.autocast:
    """The arithmetic that the recipe asks for."""
    return torch.autocast(device.type, torch.bfloat16, enabled=recipe.training.precision == "bfloat16")


def exchange(tally: Tally, workers: Workers) -> Tally:
    """The tally of all workers, by one message."""
    if workers.size == 1:
        return tally
    tensors = [*tally[:3], *tally.clusters]
    message = torch.cat([tensor.flatten() for tensor in tensors])
    workers.add_up(message)
    parts = torch.split(message, [tensor.numel() for tensor in tensors])
    loss, num_masked, predictions, sums, counts = (
        part.view_as(tensor) for part, tensor in zip(parts, tensors, strict=True)
    )
    return Tally(loss, num_masked, predictions, ClusterStatistics(sums, counts))


def compiled(learner: SpidR, backend: str | Callable[..., Any] = "inductor") -> Forward:
    """The forward pass as one graph: a break, or a value that the host would wait for, is an error.

    Numbers of rows, samples and masked frames differ from batch to batch; the graph is made for all. Where
    the compiler chooses its kernels by a size, such as 4,096 frames in all, it makes another: by default
    the ninth of them would end the training.

    Args:
        backend: What makes code of the graph.
    """
    torch._dynamo.config.recompile_limit = 100
    forward: Forward = torch.compile(learner, fullgraph=True, dynamic=True, backend=backend)
    return forward
