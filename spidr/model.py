"""The encoder of SpidR and DinoSR: convolutional extractor, positional convolutions, post-norm Transformer.

The backbone of wav2vec 2.0 in its ``layer_norm`` mode, with data2vec's stack of positional
convolutions (section 4.1, appendix A.1). All rows of a batch have the same length, in training and
in inference: there is no padding, so no attention mask, and the positional convolutions need no
re-masking. Layers count from 1; layer 0 is the input of the first block.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from spidr.convolution import convolve, convolve_groups
from spidr.settings import Convolution, ModelSettings


class LayerOutput(NamedTuple):
    """What a layer gives, each (batch, frames, dim)."""

    block: Tensor
    """The output of the whole block."""
    ffn: Tensor
    """The feed-forward network's output before dropout, residual and layer norm: the z of section 3."""


class ConvolutionLayer(nn.Module):
    """Convolution without bias, layer norm over channels, GELU."""

    def __init__(self, channels_in: int, settings: Convolution) -> None:
        super().__init__()
        self.conv = nn.Conv1d(channels_in, settings.channels, settings.kernel, settings.stride, bias=False)
        self.layer_norm = nn.LayerNorm(settings.channels)
        nn.init.kaiming_normal_(self.conv.weight)

    def forward(self, signal: Tensor) -> Tensor:
        """(batch, time, channels) to (batch, shorter time, channels)."""
        return functional.gelu(self.layer_norm(convolve(signal, self.conv.weight, self.conv.stride[0])))


class Extractor(nn.Module):
    """The downsampling module: waveform to frames, 50 a second."""

    def __init__(self, settings: Sequence[Convolution]) -> None:
        super().__init__()
        channels_in = [1, *(layer.channels for layer in settings[:-1])]
        self.conv_layers = nn.Sequential(
            *(ConvolutionLayer(channels, layer) for channels, layer in zip(channels_in, settings, strict=True))
        )

    def forward(self, waveforms: Tensor) -> Tensor:
        """(batch, samples), standardised, to (batch, frames, channels)."""
        frames: Tensor = self.conv_layers(waveforms.unsqueeze(-1))
        return frames


class Projection(nn.Module):
    """Layer norm of the extractor's frames, then to the Transformer's width."""

    def __init__(self, channels: int, hidden_size: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(channels)
        self.projection = nn.Linear(channels, hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, channels) to (batch, frames, dim)."""
        projected: Tensor = self.projection(self.layer_norm(frames))
        return projected


class PositionalConvolution(nn.Module):
    """One of the stacked grouped convolutions that stand for positional embeddings (data2vec)."""

    def __init__(self, hidden_size: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(hidden_size, hidden_size, kernel, padding=kernel // 2, groups=groups)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, dim) to the same; the layer norm over channels has no parameters."""
        if frames.is_cuda:
            assert self.conv.bias is not None
            convolved = convolve_groups(frames, self.conv.weight, self.conv.groups) + self.conv.bias
        else:
            # Two-dimensional, so that channels stay innermost in memory: half the time on a CPU.
            image = frames.transpose(1, 2).unsqueeze(2)  # (batch, dim, 1, frames), a view
            weight, padding = self.conv.weight.unsqueeze(2), (0, *self.conv.padding)
            convolved = functional.conv2d(image, weight, self.conv.bias, padding=padding, groups=self.conv.groups)
            convolved = convolved.squeeze(2).transpose(1, 2)
        return functional.gelu(functional.layer_norm(convolved, frames.shape[-1:]))


class Attention(nn.Module):
    """Multi-head self-attention over all frames of a row."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.num_heads = settings.num_heads
        self.dropout = settings.attention_dropout
        self.qkv_proj = nn.Linear(settings.hidden_size, 3 * settings.hidden_size, bias=settings.qkv_bias)
        self.out_proj = nn.Linear(settings.hidden_size, settings.hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, dim) to the same."""
        split = self.qkv_proj(frames).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (batch, heads, frames, dim / heads)
        dropout = self.dropout if self.training else 0.0
        attended = functional.scaled_dot_product_attention(query, key, value, dropout_p=dropout)
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected


class FeedForward(nn.Module):
    """Two linear layers with a GELU between."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.fc1 = nn.Linear(settings.hidden_size, settings.ffn_size)
        self.dropout = nn.Dropout(settings.ffn_dropout)
        self.fc2 = nn.Linear(settings.ffn_size, settings.hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, dim) to the same."""
        output: Tensor = self.fc2(self.dropout(functional.gelu(self.fc1(frames))))
        return output


class Block(nn.Module):
    """A Transformer layer with its layer norms after the residual connections."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self.attention = Attention(settings)
        self.attention_layer_norm = nn.LayerNorm(settings.hidden_size)
        self.feed_forward = FeedForward(settings)
        self.final_layer_norm = nn.LayerNorm(settings.hidden_size)
        self.dropout = nn.Dropout(settings.dropout)

    def forward(self, frames: Tensor) -> LayerOutput:
        """One layer on frames of (batch, frames, dim)."""
        frames = self.attention_layer_norm(frames + self.dropout(self.attention(frames)))
        ffn = self.feed_forward(frames)
        return LayerOutput(self.final_layer_norm(frames + self.dropout(ffn)), ffn)


class Transformer(nn.Module):
    """Positional convolutions and blocks: the part of the encoder that the teacher copies."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        kernel = settings.position_kernel // settings.position_layers
        self.positions = nn.Sequential(
            *(
                PositionalConvolution(settings.hidden_size, kernel, settings.position_groups)
                for _ in range(settings.position_layers)
            )
        )
        self.layer_norm = nn.LayerNorm(settings.hidden_size)
        self.dropout = nn.Dropout(settings.dropout)
        self.layers = nn.ModuleList(Block(settings) for _ in range(settings.num_layers))
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):  # BERT's initialisation, as in wav2vec 2.0
                nn.init.normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, frames: Tensor, num_layers: int | None = None, kept: Tensor | None = None) -> list[LayerOutput]:
        """Outputs of layers 0 to `num_layers`, so that index k is layer k.

        Args:
            frames: Projected frames, (batch, frames, dim).
            num_layers: Stop after this layer; the layers above are not computed. All by default.
            kept: For each layer, whether the batch goes through it, bool (num_layers,); through all by
                default. A layer left out (layer drop) hands its input on. Its feed-forward network has
                its say all the same, to its prediction head: so every step is the same graph, with a
                gradient for every weight.

        Layer 0 is the input of the first block under either name: it has no feed-forward network.
        """
        hidden = self.dropout(self.layer_norm(frames + self.positions(frames)))
        outputs = [LayerOutput(hidden, hidden)]
        for index, layer in enumerate(self.layers[:num_layers]):
            block, ffn = layer(hidden)
            hidden = block if kept is None else torch.where(kept[index], block, hidden)
            outputs.append(LayerOutput(hidden, ffn))
        return outputs


class Encoder(nn.Module):
    """The whole encoder, from waveforms to the outputs of its layers."""

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        self._field, self._hop = settings.receptive_field, settings.hop
        self.extractor = Extractor(settings.extractor)
        self.projection = Projection(settings.extractor[-1].channels, settings.hidden_size)
        self.transformer = Transformer(settings)

    def frames(self, waveforms: Tensor) -> Tensor:
        """Projected frames x of section 3, (batch, frames, dim), of waveforms (batch, samples) at 16 kHz.

        Each waveform is standardised first: mean 0, variance 1.
        """
        standardised = functional.layer_norm(waveforms, waveforms.shape[-1:], eps=1e-5)
        # Without the samples that no frame sees, the lengths that a convolution is given are all odd, or all even, and
        # one compiled graph serves them; after a sample more there is always something to cut.
        seen = (waveforms.shape[-1] - self._field) // self._hop * self._hop + self._field
        projected: Tensor = self.projection(self.extractor(functional.pad(standardised, (0, 1))[:, :seen]))
        return projected

    def forward(self, waveforms: Tensor, num_layers: int | None = None) -> list[LayerOutput]:
        """Outputs of layers 0 to `num_layers` for waveforms (batch, samples)."""
        outputs: list[LayerOutput] = self.transformer(self.frames(waveforms), num_layers)
        return outputs
