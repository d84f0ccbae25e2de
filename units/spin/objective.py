"""Swapped prediction: the codes of one view are predicted from the other (Caron et al. 2020; section 3 of Spin).

Targets are Sinkhorn's: soft assignments that use all codes about equally, so that predicting one code
for everything is no solution.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from artifacts.workers import ALONE, Workers
from spidr.codebook import perplexity
from units.spin.settings import ModelSettings


class Tally(NamedTuple):
    """What a batch gives, as sums on the device: those of several workers add up."""

    loss: Tensor
    """Cross-entropy, summed over the frames, averaged over the two directions, ()."""
    num_frames: Tensor
    """Frames of one view, ()."""
    agreed: Tensor
    """Predictions of either view whose most probable code is that of the other's target, ()."""
    counts: Tensor
    """How often each code is the most probable one, in both views, (codes,)."""
    predictions: Tensor
    """Probabilities predicted in both views, summed, (codes,)."""

    def exchange(self, workers: Workers) -> "Tally":
        """The tally of all workers, by one message, without its graph."""
        parts = [part.detach() for part in self]
        message = torch.cat([part.flatten() for part in parts])
        workers.add_up(message)
        summed = torch.split(message, [part.numel() for part in parts])
        return Tally(*(sums.view_as(part) for sums, part in zip(summed, parts, strict=True)))

    def figures(self) -> dict[str, float]:
        """What the log says of it: loss, agreement (0 to 1), and perplexities of the codes (1 to K)."""
        both = 2 * self.num_frames
        return {
            "loss": (self.loss / self.num_frames).item(),
            "agreement": (self.agreed / both).item(),
            "code_perplexity": perplexity(self.counts / both).item(),
            "prediction_perplexity": perplexity(self.predictions / both).item(),
        }


def swapped_prediction(first: Tensor, second: Tensor, settings: ModelSettings, workers: Workers = ALONE) -> Tally:
    """Equation 3 of Spin, with equal weights for both directions.

    Args:
        first: Cosines of the original's frames and the codes, (frames, codes).
        second: Those of the perturbed view, in the same order.
        workers: The targets of all are made together.
    """
    targets = [sinkhorn(view.detach(), settings, workers) for view in (second, first)]
    logs = [(view / settings.temperature).log_softmax(-1) for view in (first, second)]
    loss = sum(-(target * log).sum() for target, log in zip(targets, logs, strict=True)) / 2
    codes = [log.detach().argmax(-1) for log in logs]
    used = torch.cat(codes)
    agreed = sum((code == target.argmax(-1)).sum() for code, target in zip(codes, targets, strict=True))
    return Tally(
        loss=torch.as_tensor(loss),
        num_frames=first.new_full((), len(first)),  # new_tensor would copy it to the device, and wait
        agreed=torch.as_tensor(agreed).to(first.dtype),
        # bincount would ask the device for the largest code, and wait.
        counts=first.new_zeros(first.shape[1]).index_add_(0, used, first.new_ones(len(used))),
        predictions=sum((log.detach().exp().sum(0) for log in logs), start=first.new_zeros(first.shape[1])),
    )


def sinkhorn(cosines: Tensor, settings: ModelSettings, workers: Workers = ALONE) -> Tensor:
    """Soft assignments of frames to codes, (frames, codes): each frame's add up to 1, each code's to about the same.

    Weights exp(cosine / epsilon) are scaled in turn so that all codes have one sum, over the frames of all workers,
    and all frames another.
    """
    weights = (cosines / settings.epsilon).exp()
    for _ in range(settings.iterations):
        of_codes = weights.sum(0)
        workers.add_up(of_codes)
        weights = weights / of_codes
        weights = weights / weights.sum(1, keepdim=True)
    return weights
