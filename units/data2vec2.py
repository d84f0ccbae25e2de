"""data2vec 2.0 and EH-MAM: the block outputs of any layer.

The extractor and the positional convolutions are those of data2vec, and so of SpidR; the Transformer
has its layer norms after the residual connections, and ALiBi: each head's scores fall with the
distance of two frames, by a slope that has a learned scale. Released are fairseq's ``data2vec_multi``
checkpoints. There the blocks are in two lists, those of the audio encoder and those that several
modalities would share; one follows the other, and the split (0 + 12 in data2vec 2.0 Base, 8 + 16 in
Large, 4 + 8 in EH-MAM) makes no difference to the features.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn import functional

from artifacts.errors import InputError
from artifacts.settings import Settings, parse_settings
from corpora.audio import SAMPLE_RATE_HZ
from spidr.model import Extractor, PositionalConvolution, Projection
from spidr.settings import TABLE_5_EXTRACTOR, Convolution
from units.encoders import GPU_BATCH_SAMPLES
from units.tensors import fill, rename, shape_of, tensors_of

STANDARDIZE_EPS = 1e-5
"""fairseq's."""
AUDIO = "modality_encoders.AUDIO."
DROPPED = ("_ema", AUDIO + "decoder.", AUDIO + "decoder_pred.")
"""What is read in training only: the teacher, the decoder, and EH-MAM's predictor of the loss."""

NAMES = {
    # Ours: theirs, without the blocks. "#" is a number.
    "extractor.conv_layers.#.conv.weight": AUDIO + "local_encoder.conv_layers.#.0.weight",
    "extractor.conv_layers.#.layer_norm.weight": AUDIO + "local_encoder.conv_layers.#.2.1.weight",
    "extractor.conv_layers.#.layer_norm.bias": AUDIO + "local_encoder.conv_layers.#.2.1.bias",
    "projection.layer_norm.weight": AUDIO + "project_features.1.weight",
    "projection.layer_norm.bias": AUDIO + "project_features.1.bias",
    "projection.projection.weight": AUDIO + "project_features.2.weight",
    "projection.projection.bias": AUDIO + "project_features.2.bias",
    "positions.#.conv.weight": AUDIO + "relative_positional_encoder.#.0.weight",
    "positions.#.conv.bias": AUDIO + "relative_positional_encoder.#.0.bias",
    "layer_norm.weight": AUDIO + "context_encoder.norm.weight",
    "layer_norm.bias": AUDIO + "context_encoder.norm.bias",
    "alibi_scale": AUDIO + "alibi_scale",
}
BLOCK_LISTS = (AUDIO + "context_encoder.blocks", "blocks")
"""Theirs, in the order of the layers."""


class Sizes(Settings):
    """What the weights' shapes tell of the model."""

    extractor: tuple[Convolution, ...] = Field(min_length=1)
    """[channels, kernel, stride] of each convolution."""
    hidden_size: PositiveInt
    """Width of the Transformer."""
    num_heads: PositiveInt
    """Attention heads."""
    ffn_size: PositiveInt
    """Width of the feed-forward networks."""
    position_layers: PositiveInt
    """Positional convolutions."""
    position_kernel: PositiveInt
    """Frames that each of them reads."""
    position_groups: PositiveInt
    """Groups of each of them."""


class Block(nn.Module):
    """A Transformer layer with its layer norms after the residual connections, under fairseq's names."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        size = sizes.hidden_size
        self.num_heads = sizes.num_heads
        self.attn = nn.ModuleDict({"qkv": nn.Linear(size, 3 * size), "proj": nn.Linear(size, size)})
        self.norm1 = nn.LayerNorm(size)
        self.mlp = nn.Sequential()
        self.mlp.add_module("fc1", nn.Linear(size, sizes.ffn_size))
        self.mlp.add_module("gelu", nn.GELU())
        self.mlp.add_module("fc2", nn.Linear(sizes.ffn_size, size))
        self.norm2 = nn.LayerNorm(size)

    def forward(self, frames: Tensor, bias: Tensor) -> Tensor:
        """One layer on frames (batch, frames, dim), with what is added to the scores, (heads, frames, frames)."""
        split = self.attn["qkv"](frames).unflatten(-1, (3, self.num_heads, -1))
        query, key, value = split.permute(2, 0, 3, 1, 4)  # each (batch, heads, frames, dim / heads)
        attended = functional.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        frames = self.norm1(frames + self.attn["proj"](attended.transpose(1, 2).flatten(2)))
        output: Tensor = self.norm2(frames + self.mlp(frames))
        return output


class Model(nn.Module):
    """The encoder with its first `num_blocks` blocks."""

    def __init__(self, sizes: Sizes, num_blocks: int) -> None:
        super().__init__()
        self.extractor = Extractor(sizes.extractor)
        self.projection = Projection(sizes.extractor[-1].channels, sizes.hidden_size)
        self.positions = nn.Sequential(
            *(
                PositionalConvolution(sizes.hidden_size, sizes.position_kernel, sizes.position_groups)
                for _ in range(sizes.position_layers)
            )
        )
        self.layer_norm = nn.LayerNorm(sizes.hidden_size)
        self.alibi_scale = nn.Parameter(torch.ones(1, 1, sizes.num_heads, 1, 1))
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(num_blocks))

    def forward(self, waveforms: Tensor) -> list[Tensor]:
        """Outputs of layers 0 to `num_blocks`, (batch, frames, dim), of waveforms (batch, samples)."""
        frames = self.projection(self.extractor(waveforms))
        outputs = [self.layer_norm(frames + self.positions(frames))]
        bias = self._alibi(frames.shape[1])
        for block in self.blocks:
            outputs.append(block(outputs[-1], bias))
        return outputs

    def _alibi(self, num_frames: int) -> Tensor:
        """What is added to the scores of each head, (heads, frames, frames)."""
        slopes = torch.tensor(alibi_slopes(self.alibi_scale.shape[2]), device=self.alibi_scale.device)
        places = torch.arange(num_frames, device=self.alibi_scale.device)
        distances = (places[:, None] - places).abs()
        return -distances * (slopes * self.alibi_scale.flatten().clamp_min(0))[:, None, None]


def alibi_slopes(num_heads: int) -> list[float]:
    """Slope of each head after ALiBi (Press et al., 2022).

    2 to the power of -8/n, -16/n, ... for n heads; where n is no power of two, those of the power below
    it, then every other one of the power above.
    """
    below = 2 ** int(math.log2(num_heads))
    slopes = [2 ** (-8 * (head + 1) / below) for head in range(below)]
    return slopes + [2 ** (-4 * (head + 1) / below) for head in range(0, 2 * (num_heads - below), 2)]


def from_released(content: Any, where: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An encoder folder's config.json and tensors from a released checkpoint.

    The extractor's strides, which a file does not tell, are those of wav2vec 2.0.

    Args:
        content: What the checkpoint holds: a dictionary with ``model``.
        where: The file, for messages.

    Raises:
        InputError: It is none of these checkpoints, or a tensor is missing, unexpected or of another shape.
    """
    model = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(model, Mapping):
        raise InputError(f"{where}: model: found {type(model).__name__}, expected a dictionary of tensors")
    found = tensors_of(model, DROPPED, where)
    blocks = [f"{name}.{i}" for name in BLOCK_LISTS for i in range(_count(found, rf"{re.escape(name)}\.(\d+)\."))]
    sizes = _infer(found, blocks, where)
    with torch.device("meta"):
        expected = Model(sizes, len(blocks))
    names = {ours: _released_name(ours, blocks) for ours in expected.state_dict()}
    tensors = rename(found, names, expected, where)
    config = {
        "family": "data2vec2",
        "frame_rate_hz": SAMPLE_RATE_HZ / math.prod(layer.stride for layer in sizes.extractor),
        "tap": "block",
        "num_layers": len(blocks),
        "standardize": True,
        "model": sizes.model_dump(mode="json"),
    }
    return config, tensors


def _infer(found: Mapping[str, Tensor], blocks: Sequence[str], where: Path) -> Sizes:
    convolution = AUDIO + "local_encoder.conv_layers.#.0.weight"
    num_convolutions = _count(found, re.escape(convolution).replace(r"\#", r"(\d+)"))
    shapes = [shape_of(found, convolution.replace("#", str(i)), 3, where) for i in range(max(1, num_convolutions))]
    kernels = [shape[2] for shape in shapes]
    if kernels != [layer.kernel for layer in TABLE_5_EXTRACTOR]:
        expected = [layer.kernel for layer in TABLE_5_EXTRACTOR]
        raise InputError(f"{where}: found an extractor with kernels {kernels}, expected {expected}")
    position = AUDIO + "relative_positional_encoder.1.0.weight"
    hidden_size, width, position_kernel = shape_of(found, position, 3, where)
    if position_kernel % 2 == 0:
        raise InputError(f"{where}: {position}: found kernel {position_kernel}, expected an odd one")
    ffn_size, _ = shape_of(found, f"{(*blocks, 'blocks.0')[0]}.mlp.fc1.weight", 2, where)
    num_heads = shape_of(found, AUDIO + "alibi_scale", 5, where)[2]
    if hidden_size % num_heads != 0:
        raise InputError(
            f"{where}: {AUDIO}alibi_scale: found {num_heads} heads, expected a divisor of the width {hidden_size}"
        )
    return Sizes(
        extractor=tuple(
            Convolution(shape[0], shape[2], layer.stride)
            for shape, layer in zip(shapes, TABLE_5_EXTRACTOR, strict=True)
        ),
        hidden_size=hidden_size,
        num_heads=num_heads,
        ffn_size=ffn_size,
        position_layers=_count(found, re.escape(AUDIO) + r"relative_positional_encoder\.(\d+)\."),
        position_kernel=position_kernel,
        position_groups=hidden_size // width,
    )


def _count(found: Mapping[str, Tensor], pattern: str) -> int:
    """How many numbers the names have at a place."""
    return len({match[1] for name in found if (match := re.match(pattern, name))})


def _released_name(ours: str, blocks: Sequence[str]) -> str:
    number = re.search(r"\.(\d+)\.", ours)
    if number is None:
        return NAMES[ours]
    index = int(number[1])
    if ours.startswith("blocks."):
        return f"{blocks[index]}.{ours[number.end() :]}"
    if ours.startswith("positions."):  # theirs are counted from 1: before them stands a transposition
        index += 1
    return NAMES[ours.replace(number[0], ".#.")].replace("#", str(index))


class Data2Vec2:
    """data2vec 2.0 or EH-MAM as an encoder; see `units.encoders.Encoder`.

    Args:
        folder: Encoder folder, of which model.safetensors is read.
        config: Its config.json, as `from_released` makes it.
        highest_layer: Blocks above it are not loaded.

    Raises:
        InputError: The weights are missing or damaged, or do not fit the configuration.
    """

    tap = "block"

    def __init__(self, folder: Path, config: dict[str, Any], device: torch.device, highest_layer: int) -> None:
        self._sizes = parse_settings(Sizes, config.get("model"), f"{folder / 'config.json'}: model")
        with torch.random.fork_rng(devices=[]):  # random weights first, then those of the file
            self._model = Model(self._sizes, highest_layer)
        fill(self._model, folder)
        self._model = self._model.eval().to(device)
        self._device = device
        self._standardize = config["standardize"]
        self.num_layers: int = config["num_layers"]
        self.frame_rate_hz: float = config["frame_rate_hz"]
        self.batch_samples = GPU_BATCH_SAMPLES if device.type == "cuda" else 0

    def dim(self, layer: int) -> int:
        """Width of every layer."""
        return self._sizes.hidden_size

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance: what the strided convolutions leave."""
        for _, kernel, stride in self._sizes.extractor:
            num_samples = max(0, (num_samples - kernel) // stride + 1)
        return num_samples

    @torch.inference_mode()
    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Block outputs, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""
        inputs = torch.from_numpy(waveforms).to(self._device)
        if self._standardize:
            inputs = functional.layer_norm(inputs, inputs.shape[1:], eps=STANDARDIZE_EPS)
        outputs = self._model(inputs)
        return {layer: outputs[layer].float().cpu().numpy() for layer in layers}
