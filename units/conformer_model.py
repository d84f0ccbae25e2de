"""The layers of SpeechBrain's Conformer, from waveforms to the outputs of its blocks.

Speech to 80 log-mel energies at 100 Hz, normalised with the training data's mean and variance; two
strided convolutions, which leave 25 Hz; then Conformer blocks whose attention knows the distance of
two frames (as Transformer-XL's, but without its sign).

The weights do not tell the analysis: its values are those of SpeechBrain's recipe
``conformer_large.yaml`` for LibriSpeech.
"""

import math

import torch
from pydantic import PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from artifacts.settings import Settings
from corpora.audio import SAMPLE_RATE_HZ

WINDOW, HOP = 512, 160
"""Samples of the analysis: Hamming windows of 32 ms, the transform as long, every 10 ms."""
FLOOR, RANGE_DB = 1e-10, 80.0
"""Least energy, and how far below an utterance's greatest energy the others are kept, in decibels."""
SMALLEST_STD = 1e-10
STRIDES = (2, 2)
"""Of the convolutions over time and over frequency, with kernels of 3."""


class Sizes(Settings):
    """What the weights' shapes tell of the model."""

    num_mels: PositiveInt
    """Mel filters."""
    channels: tuple[PositiveInt, PositiveInt]
    """Channels of the two strided convolutions."""
    hidden_size: PositiveInt
    """Width of the blocks."""
    num_heads: PositiveInt
    """Attention heads."""
    ffn_size: PositiveInt
    """Width of the feed-forward networks."""
    kernel: PositiveInt
    """Frames that the blocks' convolutions read; odd."""


class Normalizer(nn.Module):
    """Mean and standard deviation of each mel energy over the training data."""

    mean: Tensor
    std: Tensor

    def __init__(self, num_mels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_mels))
        self.register_buffer("std", torch.ones(num_mels))

    def forward(self, energies: Tensor) -> Tensor:
        """(..., mels) to the same."""
        return (energies - self.mean) / self.std.clamp_min(SMALLEST_STD)


class ConvolutionLayer(nn.Module):
    """Convolution over time and frequency, layer norm over frequency and channels, leaky ReLU."""

    def __init__(self, channels_in: int, channels: int, num_bands: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, 3, stride, padding=1, padding_mode="reflect")
        self.layer_norm = nn.LayerNorm((num_bands, channels))

    def forward(self, image: Tensor) -> Tensor:
        """(batch, channels, bands, frames) to the same, with half the bands and frames."""
        convolved = self.layer_norm(self.conv(image).transpose(1, 3))  # (batch, frames, bands, channels)
        return functional.leaky_relu(convolved, 0.01).transpose(1, 3)


class FeedForward(nn.Module):
    """Layer norm and two linear layers with a swish between."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(sizes.hidden_size)
        self.fc1 = nn.Linear(sizes.hidden_size, sizes.ffn_size)
        self.fc2 = nn.Linear(sizes.ffn_size, sizes.hidden_size)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, dim) to the same."""
        output: Tensor = self.fc2(functional.silu(self.fc1(self.layer_norm(frames))))
        return output


class Attention(nn.Module):
    """Self-attention whose scores are of contents and of distances (Dai et al., 2019, section 3.3).

    Scores are divided by the root of the whole width, not of a head's.
    """

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        size, self.num_heads = sizes.hidden_size, sizes.num_heads
        self.qkv = nn.Linear(size, 3 * size, bias=False)
        self.distances = nn.Linear(size, size, bias=False)
        # Stored as (dim / heads, heads), and read as if it were (heads, dim / heads): so it was trained.
        self.content_bias = nn.Parameter(torch.zeros(size // self.num_heads, self.num_heads))
        self.distance_bias = nn.Parameter(torch.zeros(size // self.num_heads, self.num_heads))
        self.out_proj = nn.Linear(size, size)

    def forward(self, frames: Tensor, sinusoids: Tensor) -> Tensor:
        """Frames (batch, frames, dim) and the sinusoids of distances 0 and up, (frames, dim), to frames."""
        num_frames, size = sinusoids.shape
        split = self.qkv(frames).unflatten(-1, (self.num_heads, 3, -1))
        query, key, value = split.permute(3, 0, 2, 1, 4)  # each (batch, heads, frames, dim / heads)
        keys_of_distances = self.distances(sinusoids).unflatten(-1, (self.num_heads, -1)).permute(1, 2, 0)
        of_distances = (query + self.distance_bias.view(self.num_heads, 1, -1)) @ keys_of_distances
        places = torch.arange(num_frames, device=frames.device)
        distance = (places[:, None] - places).abs().expand(of_distances.shape)
        attended = functional.scaled_dot_product_attention(
            query + self.content_bias.view(self.num_heads, 1, -1),
            key,
            value,
            attn_mask=of_distances.gather(-1, distance) / math.sqrt(size),
            scale=1 / math.sqrt(size),
        )
        projected: Tensor = self.out_proj(attended.transpose(1, 2).flatten(2))
        return projected


class ConvolutionModule(nn.Module):
    """Gated linear unit, depthwise convolution over time, layer norm, swish and a linear layer."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.layer_norm = nn.LayerNorm(size)
        self.gate = nn.Conv1d(size, 2 * size, 1)
        self.depthwise = nn.Conv1d(size, size, sizes.kernel, padding=sizes.kernel // 2, groups=size)
        self.inner_layer_norm = nn.LayerNorm(size)
        self.out_proj = nn.Linear(size, size)

    def forward(self, frames: Tensor) -> Tensor:
        """(batch, frames, dim) to the same."""
        gated = functional.glu(self.gate(self.layer_norm(frames).transpose(1, 2)), dim=1)
        convolved = self.inner_layer_norm(self.depthwise(gated).transpose(1, 2))
        output: Tensor = self.out_proj(functional.silu(convolved))
        return output


class Layer(nn.Module):
    """A Conformer block: half a feed-forward network, attention, convolution, and the other half."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.ffn_1 = FeedForward(sizes)
        self.attention_layer_norm = nn.LayerNorm(sizes.hidden_size)
        self.attention = Attention(sizes)
        self.convolution = ConvolutionModule(sizes)
        self.ffn_2 = FeedForward(sizes)
        self.final_layer_norm = nn.LayerNorm(sizes.hidden_size)

    def forward(self, frames: Tensor, sinusoids: Tensor) -> Tensor:
        """One layer on frames (batch, frames, dim)."""
        frames = frames + self.ffn_1(frames) / 2
        frames = frames + self.attention(self.attention_layer_norm(frames), sinusoids)
        frames = frames + self.convolution(frames)
        output: Tensor = self.final_layer_norm(frames + self.ffn_2(frames) / 2)
        return output


class Model(nn.Module):
    """Everything from waveforms to the first `num_layers` blocks."""

    def __init__(self, sizes: Sizes, num_layers: int) -> None:
        super().__init__()
        self.num_mels = sizes.num_mels
        self.normalizer = Normalizer(sizes.num_mels)
        self.front = nn.Sequential()
        channels_in, num_bands = 1, sizes.num_mels
        for channels, stride in zip(sizes.channels, STRIDES, strict=True):
            num_bands = -(-num_bands // stride)
            self.front.append(ConvolutionLayer(channels_in, channels, num_bands, stride))
            channels_in = channels
        self.projection = nn.Linear(num_bands * channels_in, sizes.hidden_size)
        self.layers = nn.ModuleList(Layer(sizes) for _ in range(num_layers))

    def forward(self, waveforms: Tensor) -> list[Tensor]:
        """Outputs of layers 0 to `num_layers`, (batch, frames, dim), of waveforms (batch, samples)."""
        energies = self.normalizer(log_mel(waveforms, self.num_mels))
        image = self.front(energies.transpose(1, 2).unsqueeze(1))  # (batch, channels, bands, frames)
        outputs: list[Tensor] = [self.projection(image.permute(0, 3, 2, 1).flatten(2))]
        positions = sinusoids(outputs[0].shape[1], outputs[0].shape[2], waveforms.device)
        for layer in self.layers:
            outputs.append(layer(outputs[-1], positions))
        return outputs


def log_mel(waveforms: Tensor, num_mels: int) -> Tensor:
    """Energies in decibels, (batch, 1 + samples // 160, mels), of waveforms (batch, samples).

    An utterance's energies are at most 80 dB below its greatest.
    """
    window = torch.hamming_window(WINDOW, device=waveforms.device)
    spectrum = torch.stft(waveforms, WINDOW, HOP, window=window, pad_mode="constant", return_complex=True)
    power = torch.view_as_real(spectrum).square().sum(-1)  # (batch, frequencies, frames)
    energies = power.transpose(1, 2) @ mel_filters(num_mels).to(waveforms.device)
    decibels = 10 * energies.clamp_min(FLOOR).log10()
    return torch.maximum(decibels, decibels.amax((1, 2), keepdim=True) - RANGE_DB)


def mel_filters(num_mels: int) -> Tensor:
    """Triangles over frequency, (257, mels).

    Their centres lie at equal distances in mel (2595 log10(1 + f / 700)) from 0 to 8000 Hz; each falls to
    both sides as far as its lower neighbour's centre is away.
    """
    highest_mel = 2595 * math.log10(1 + SAMPLE_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (torch.linspace(0, highest_mel, num_mels + 2) / 2595) - 1)
    centres, widths = hertz[1:-1], hertz[1:-1] - hertz[:-2]
    frequencies = torch.linspace(0, SAMPLE_RATE_HZ / 2, WINDOW // 2 + 1)
    return (1 - (frequencies[:, None] - centres).abs() / widths).clamp_min(0)


def sinusoids(num_frames: int, size: int, device: torch.device) -> Tensor:
    """Sines and cosines, alternating, of distances 0 to `num_frames` - 1: (frames, dim)."""
    frequencies = torch.exp(torch.arange(0, size, 2, device=device) * (-math.log(10000) / size))
    phases = torch.arange(num_frames, device=device)[:, None] * frequencies
    return torch.stack((phases.sin(), phases.cos()), dim=-1).flatten(1)
