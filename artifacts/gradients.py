"""The gradients of a model in one buffer: one message between workers, one norm, nothing allocated in a step."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


class Gradients:
    """Gradients of `parameters`, as views into one vector that batches add to."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self._parameters = list(parameters)
        sizes = [parameter.numel() for parameter in self._parameters]
        self.vector = torch.zeros(sum(sizes), device=self._parameters[0].device)
        parts = torch.split(self.vector, sizes)
        self._views = [part.view_as(weights) for part, weights in zip(parts, self._parameters, strict=True)]

    def clear(self) -> None:
        """Set all to zero. Frozen parameters have none, so that the optimizer leaves them as they are."""
        self.vector.zero_()
        for parameter, view in zip(self._parameters, self._views, strict=True):
            parameter.grad = view if parameter.requires_grad else None

    def average_and_clip(self, count: Tensor, clip_norm: float) -> Tensor:
        """Divide sums over `count` frames by it, then shorten them to a norm of at most `clip_norm`.

        Returns:
            The norm before it was shortened, ().
        """
        norm: Tensor = torch.linalg.vector_norm(self.vector) / count
        self.vector.mul_(torch.clamp(clip_norm / (norm + 1e-6), max=1) / count)
        return norm
