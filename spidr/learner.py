"""Self-distillation: student, teacher, prediction heads and codebooks (section 3, figure 1)."""

from copy import deepcopy
from typing import NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import get_ema_multi_avg_fn

from artifacts.seeds import seed_for
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


class Tally(NamedTuple):
    """What a batch gives, as sums on the device: those of several batches, or devices, add up."""

    loss: Tensor
    """Cross-entropy, summed over the masked frames, averaged over the heads, ()."""
    num_masked: Tensor
    """Number of masked frames, ()."""
    predictions: Tensor
    """Probabilities predicted at the masked frames, summed, (K, V)."""
    clusters: ClusterStatistics
    """Of the frames that move the codebooks."""

    def detach(self) -> "Tally":
        """The same sums without their graph."""
        return self._replace(loss=self.loss.detach())

    def plus(self, other: "Tally") -> "Tally":
        """The tally of both."""
        return Tally(
            loss=self.loss + other.loss,
            num_masked=self.num_masked + other.num_masked,
            predictions=self.predictions + other.predictions,
            clusters=ClusterStatistics(
                self.clusters.sums + other.clusters.sums, self.clusters.counts + other.clusters.counts
            ),
        )


class Objective(NamedTuple):
    """What training is judged by, on the device; nothing of it has been waited for."""

    loss: Tensor
    """Equation 3, ()."""
    codebook_perplexity: Tensor
    """Of the labels (section 4.2), (K,)."""
    prediction_perplexity: Tensor
    """Of the predictions at the masked frames, (K,)."""
    active_codewords: Tensor
    """Number of codewords that some frame is nearest to, (K,)."""

    @classmethod
    def of(cls, tally: Tally) -> Self:
        """The averages of what was summed."""
        counts = tally.clusters.counts
        return cls(
            loss=tally.loss / tally.num_masked,
            codebook_perplexity=perplexity(counts / counts.sum(-1, keepdim=True)),
            prediction_perplexity=perplexity(tally.predictions / tally.num_masked),
            active_codewords=(counts > 0).sum(-1),
        )


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
        if settings.predict_from == "same_layer":  # nothing is predicted from the output of the last block
            self.student.transformer.layers[-1].final_layer_norm.requires_grad_(False)

    def train(self, mode: bool = True) -> "SpidR":
        """Set training mode; the teacher never has dropout."""
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, waveforms: Tensor, masked: Tensor, kept: Tensor | None = None) -> Tally:
        """The tally of a batch.

        Args:
            waveforms: (batch, samples) at 16 kHz.
            masked: Indices of the masked frames, ascending, (batch, num_masked).
            kept: For each layer of the student, whether layer drop leaves it in, bool (num_layers,).
        """
        frames = self.student.frames(waveforms)
        mask = torch.zeros(frames.shape[:2], dtype=torch.bool, device=frames.device).scatter(1, masked, True)
        corrupted = torch.where(
            mask.unsqueeze(-1), self.mask_embedding.to(frames.dtype), self.projection_dropout(frames)
        )
        outputs = self.student.transformer(corrupted, kept=kept)
        rows = torch.arange(masked.shape[0], device=masked.device).unsqueeze(1)
        where = (rows * frames.shape[1] + masked).flatten()  # of the masked frames among all, (N,)
        targets, clusters = self._targets(frames.detach(), where)

        logits = self.heads(self._read_by_heads(outputs, where))
        log_probabilities = functional.log_softmax(logits, dim=-1, dtype=torch.float32)  # (K, N, V)
        losses = -log_probabilities.gather(-1, targets.unsqueeze(-1)).sum((1, 2))  # (K,)
        return Tally(
            loss=losses.mean(),
            num_masked=torch.full((), where.shape[0], dtype=torch.float32, device=where.device),
            predictions=log_probabilities.detach().exp().sum(1),
            clusters=clusters,
        )

    @torch.no_grad()
    def _targets(self, frames: Tensor, where: Tensor) -> tuple[Tensor, ClusterStatistics]:
        """Equation 2: the teacher's labels of the masked frames, (K, N), and the statistics for equation 4."""
        outputs = self.teacher(frames)
        embeddings = torch.stack([outputs[layer].ffn for layer in self.settings.codebook_layers])
        embeddings = instance_norm(embeddings.float()).flatten(1, 2)  # (K, batch * frames, dim)
        with torch.autocast(embeddings.device.type, enabled=False):
            if self.settings.codebook_frames == "masked":
                embeddings = embeddings.index_select(1, where)
                labels = targets = self.codebooks.assign(embeddings)
            else:
                labels = self.codebooks.assign(embeddings)
                targets = labels.index_select(1, where)
            return targets, self.codebooks.summarise(embeddings, labels)

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

    @torch.no_grad()
    def update_teacher(self, decay: float) -> None:
        """Move the teacher towards the student; positional embeddings are copied (section 3)."""
        teacher, student = self.teacher, self.student.transformer
        torch._foreach_copy_(list(teacher.positions.parameters()), list(student.positions.parameters()))
        followers = [*teacher.layer_norm.parameters(), *teacher.layers.parameters()]
        followed = [*student.layer_norm.parameters(), *student.layers.parameters()]
        get_ema_multi_avg_fn(decay)(followers, followed, None)  # type: ignore[no-untyped-call]


def build_learner(settings: ModelSettings, seed: int) -> SpidR:
    """A model with its initial weights, on the CPU: the same for the same seed, whatever the device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed_for(seed, "weights"))
        return SpidR(settings)
