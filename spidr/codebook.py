"""Codebooks of the teacher's layers, clustered online (equations 2 and 4). All layers at once.

Shapes: K codebooks, V codewords each, D dimensions, N frames.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn


class ClusterStatistics(NamedTuple):
    """What equation 4 needs of a batch; statistics of several devices add up."""

    sums: Tensor
    """Sum of the frames assigned to each codeword, (K, V, D)."""
    counts: Tensor
    """Number of the frames assigned to each codeword, (K, V)."""


class Codebooks(nn.Module):
    """The codebooks C of K layers, kept as decayed sums s and counts n: C = s / n.

    Section 3 leaves the random start open. Codewords start near the origin, with standard deviation
    1 / V (one of the two starts of the original DinoSR): a frame far from all activated codewords is
    then nearest to one that has not been used yet. From standard normal codewords, tiny models
    collapse: a few short ones win every frame.
    """

    sums: Tensor
    counts: Tensor

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("sums", torch.randn(num_codebooks, codebook_size, dim) / codebook_size)
        self.register_buffer("counts", torch.ones(num_codebooks, codebook_size))

    @property
    def codewords(self) -> Tensor:
        """C of equation 4, (K, V, D)."""
        return self.sums / self.counts.unsqueeze(-1)

    def assign(self, frames: Tensor) -> Tensor:
        """Labels of frames (K, N, D): the index of the nearest codeword, (K, N) (equation 2)."""
        codewords = self.codewords
        norms = codewords.square().sum(-1).unsqueeze(1)
        # |z|^2 is the same for every codeword, so it is left out.
        distances = torch.baddbmm(norms, frames, codewords.transpose(1, 2), alpha=-2)
        return distances.argmin(-1)

    def summarise(self, frames: Tensor, labels: Tensor) -> ClusterStatistics:
        """Sums and counts of frames (K, N, D) by their labels (K, N).

        A product with the one-hot labels: fixed shapes, and no order of additions left to chance.
        """
        one_hot = frames.new_zeros(*labels.shape, self.counts.shape[-1])  # (K, N, V); functional.one_hot's are int64
        one_hot.scatter_(-1, labels.unsqueeze(-1), 1)
        return ClusterStatistics(one_hot.transpose(1, 2) @ frames, one_hot.sum(1))

    @torch.no_grad()
    def update(self, batch: ClusterStatistics) -> None:
        """Equation 4: activated codewords move, the others stay."""
        weight = (1 - self.decay) * (batch.counts > 0)  # (K, V), 0 where no frame was assigned
        self.counts.lerp_(batch.counts, weight)
        self.sums.lerp_(batch.sums, weight.unsqueeze(-1))


def instance_norm(frames: Tensor, epsilon: float = 1e-5) -> Tensor:
    """Mean 0 and variance 1 over the time of each utterance, channel by channel: (..., time, dim) to the same."""
    variance, mean = torch.var_mean(frames, dim=-2, correction=0, keepdim=True)
    return (frames - mean) * torch.rsqrt(variance + epsilon)


def perplexity(probabilities: Tensor) -> Tensor:
    """2^H of distributions (..., V), between 1 and V (section 4.2)."""
    entropy: Tensor = torch.special.entr(probabilities).sum(-1)
    return entropy.exp()
