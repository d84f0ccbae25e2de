"""Self-distillation: student, teacher, prediction heads and codebooks (section 3, figure 1)."""

from collections.abc import Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from artifacts.seeds import generator, seed_for
from spidr.codebook import ClusterStatistics, Codebooks, instance_norm, perplexity
from spidr.model import Encoder, LayerOutput
from spidr.settings import ModelSettings


class Heads(nn.Module):
    """The prediction heads phi of K layers: one linear projection each (equation 1)."""

    def __init__(self, num_codebooks: int, codebook_size: int, dim: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_codebooks, codebook_size, dim) * 0.02)
        self.bias = nn.Parameter(torch.zeros(num_codebooks, codebook_size))

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (K, N, V) of frames (K, N, dim)."""
        return torch.baddbmm(self.bias.unsqueeze(1), frames, self.weight.transpose(1, 2))


class Objective(NamedTuple):
    """What one batch gives, all on the device; nothing of it has been waited for."""

    loss: Tensor
    """Equation 3, ()."""
    codebook_perplexity: Tensor
    """Of the labels of all frames, (K,)."""
    prediction_perplexity: Tensor
    """Of the predictions at the masked frames, (K,)."""
    clusters: ClusterStatistics
    """For the update of the codebooks."""


class SpidR(nn.Module):
    """The model as it is trained. With ``predict_from: last_layer`` it is DinoSR.

    The teacher is a copy of the student's Transformer alone and reads the student's own projected
    frames, unmasked: the downsampling module is learnt by gradient descent only (figure 1). So it is
    in data2vec and DinoSR (`ema_transformer_only`), and the released model counts 183,245,824
    parameters, which is student, mask embedding, heads and one more Transformer.
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.settings = settings
        sizes = (settings.num_codebooks, settings.codebook_size, settings.hidden_size)
        self.student = Encoder(settings)
        self.projection_dropout = nn.Dropout(settings.projection_dropout)
        self.mask_embedding = nn.Parameter(torch.rand(settings.hidden_size))  # uniform, as in wav2vec 2.0
        self.heads = Heads(*sizes)
        self.codebooks = Codebooks(*sizes, settings.codebook_decay)
        self.teacher = deepcopy(self.student.transformer).requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "SpidR":
        """Set training mode; the teacher never has dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, waveforms: Tensor, masked: Tensor, kept: Sequence[bool] | None = None) -> Objective:
        """The objective of a batch.

        Args:
            waveforms: (batch, samples) at 16 kHz.
            masked: Indices of the masked frames, ascending, (batch, num_masked).
            kept: For each layer of the student, whether layer drop leaves it in; all by default. The
                head of a layer left out has nothing to predict from, and counts for nothing in the loss.
        """
        frames = self.student.frames(waveforms)
        mask = torch.zeros(frames.shape[:2], dtype=torch.bool, device=frames.device).scatter(1, masked, True)
        corrupted = torch.where(
            mask.unsqueeze(-1), self.mask_embedding.to(frames.dtype), self.projection_dropout(frames)
        )
        outputs = self.student.transformer(corrupted, kept=kept)
        labels, clusters = self._labels(frames.detach())

        rows = torch.arange(len(masked), device=masked.device).unsqueeze(1)
        where = (rows * frames.shape[1] + masked).flatten()  # of the masked frames among all, (N,)
        logits = self.heads(self._read_by_heads(outputs, where))
        log_probabilities = functional.log_softmax(logits, dim=-1, dtype=torch.float32)  # (K, N, V)
        targets = labels.index_select(1, where).unsqueeze(-1)
        losses = -log_probabilities.gather(-1, targets).mean((1, 2))  # (K,)
        return Objective(
            loss=self._mean_of_heads(losses, kept),
            codebook_perplexity=perplexity(clusters.counts / labels.shape[1]),
            prediction_perplexity=perplexity(log_probabilities.detach().exp().mean(1)),
            clusters=clusters,
        )

    @torch.no_grad()
    def _labels(self, frames: Tensor) -> tuple[Tensor, ClusterStatistics]:
        """Equation 2: the teacher's labels of all frames, (K, batch * frames), and their statistics."""
        outputs = self.teacher(frames)
        embeddings = torch.stack([outputs[layer].ffn for layer in self.settings.codebook_layers])
        embeddings = instance_norm(embeddings.float()).flatten(1, 2)  # (K, batch * frames, dim)
        with torch.autocast(embeddings.device.type, enabled=False):
            labels = self.codebooks.assign(embeddings)
            return labels, self.codebooks.summarise(embeddings, labels)

    def _read_by_heads(self, outputs: list[LayerOutput], where: Tensor) -> Tensor:
        """What each head reads at the masked frames, (K, N, dim).

        SpidR's head k reads the feed-forward output of layer k. All heads of DinoSR read the last
        layer's full output.
        """
        if self.settings.predict_from == "last_layer":
            last = outputs[-1].block.flatten(0, 1).index_select(0, where)
            return last.expand(self.settings.num_codebooks, -1, -1)
        read = [outputs[layer].ffn.flatten(0, 1).index_select(0, where) for layer in self.settings.codebook_layers]
        return torch.stack(read)

    def _mean_of_heads(self, losses: Tensor, kept: Sequence[bool] | None) -> Tensor:
        if kept is None or self.settings.predict_from == "last_layer":
            return losses.mean()
        present = [kept[layer - 1] for layer in self.settings.codebook_layers]
        return torch.stack([loss for loss, is_kept in zip(losses, present, strict=True) if is_kept]).mean()

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """Move the teacher towards the student; positional embeddings are copied (section 3)."""
        teacher, student = self.teacher, self.student.transformer
        for copy, original in zip(teacher.positions.parameters(), student.positions.parameters(), strict=True):
            copy.copy_(original)
        followers = [*teacher.layer_norm.parameters(), *teacher.layers.parameters()]
        followed = [*student.layer_norm.parameters(), *student.layers.parameters()]
        get_ema_multi_avg_fn(decay)(followers, followed, None)  # type: ignore[no-untyped-call]


def build_learner(settings: ModelSettings, seed: int) -> SpidR:
    """A model with its initial weights, on the CPU: the same for the same seed, whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        return SpidR(settings)


def draw_kept_layers(settings: ModelSettings, seed: int, step: int) -> list[bool]:
    """Layer drop of one step: for each layer of the student, whether it runs.

    Drawn on the host, from the seed and the step alone: the device waits for nothing, and all
    devices of a training leave out the same layers. A draw that leaves no layer with a head is
    answered by keeping them all.
    """
    kept = generator(seed, "layer drop", step).random(settings.num_layers) >= settings.layer_drop
    heads = [layer - 1 for layer in settings.codebook_layers]
    return kept.tolist() if kept[heads].any() else [True] * settings.num_layers
