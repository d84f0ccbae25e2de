"""SpeechBrain's Conformer for recognition (``asr-conformer-transformerlm-librispeech``): outputs of its blocks.

Layer k is the output of block k after its last layer norm; the norm after all blocks, which decoder
and CTC read through, is left out.
"""

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from corpora.audio import SAMPLE_RATE_HZ
from units.conformer_model import HOP, STRIDES, Model, Sizes
from units.encoders import GPU_BATCH_SAMPLES
from units.tensors import fill, rename, shape_of, tensors_of

DROPPED = ("1.decoder.", "1.custom_tgt_module.", "1.positional_encoding", "1.encoder.norm.", "2.", "3.")
"""Decoder, tables of positions, the norm after all blocks, and the outputs of decoder and CTC."""
NORMALIZER = {"normalizer.mean": "glob_mean", "normalizer.std": "glob_std"}
"""Ours: theirs, of the file normalizer.ckpt."""
LAYER = "1.encoder.layers.#"
NAMES = {
    # Ours: theirs, of the file asr.ckpt. "#" is the number of a layer.
    "front.#.conv": "0.convblock_#.convs.conv_0.conv",
    "front.#.layer_norm": "0.convblock_#.convs.norm_0.norm",
    "projection": "1.custom_src_module.layers.0.w",
    "layers.#.ffn_1.layer_norm": f"{LAYER}.ffn_module1.0",
    "layers.#.ffn_1.fc1": f"{LAYER}.ffn_module1.1.ffn.0",
    "layers.#.ffn_1.fc2": f"{LAYER}.ffn_module1.1.ffn.3",
    "layers.#.attention_layer_norm": f"{LAYER}.norm1.norm",
    "layers.#.attention.qkv.weight": f"{LAYER}.mha_layer.in_proj_weight",
    "layers.#.attention.distances": f"{LAYER}.mha_layer.linear_pos",
    "layers.#.attention.content_bias": f"{LAYER}.mha_layer.pos_bias_u",
    "layers.#.attention.distance_bias": f"{LAYER}.mha_layer.pos_bias_v",
    "layers.#.attention.out_proj": f"{LAYER}.mha_layer.out_proj",
    "layers.#.convolution.layer_norm": f"{LAYER}.convolution_module.layer_norm",
    "layers.#.convolution.gate": f"{LAYER}.convolution_module.bottleneck.0",
    "layers.#.convolution.depthwise": f"{LAYER}.convolution_module.conv",
    "layers.#.convolution.inner_layer_norm": f"{LAYER}.convolution_module.after_conv.0",
    "layers.#.convolution.out_proj": f"{LAYER}.convolution_module.after_conv.2",
    "layers.#.ffn_2.layer_norm": f"{LAYER}.ffn_module2.0",
    "layers.#.ffn_2.fc1": f"{LAYER}.ffn_module2.1.ffn.0",
    "layers.#.ffn_2.fc2": f"{LAYER}.ffn_module2.1.ffn.3",
    "layers.#.final_layer_norm": f"{LAYER}.norm2.norm",
}


def from_released(content: Any, where: Path, normalizer: Any = None) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """An encoder folder's config.json and tensors from a released checkpoint.

    Args:
        content: What asr.ckpt holds: tensors of the front end (0), of the Transformer (1) and of others.
        where: The file, for messages.
        normalizer: What normalizer.ckpt holds, which is released beside it.

    Raises:
        InputError: One of them is another file, or a tensor is missing, unexpected or of another shape.
    """
    if not isinstance(normalizer, Mapping):
        found_kind = "none" if normalizer is None else type(normalizer).__name__
        raise InputError(f"{where}: normalizer: found {found_kind}, expected what normalizer.ckpt beside it holds")
    found = tensors_of(content, DROPPED, where)
    statistics = {name: normalizer[name] for name in NORMALIZER.values() if name in normalizer}
    found |= tensors_of(statistics, (), where)
    sizes = _infer(found, where)
    num_layers = len({match[1] for name in found if (match := re.match(r"1\.encoder\.layers\.(\d+)\.", name))})
    with torch.device("meta"):
        expected = Model(sizes, num_layers)
    names = {ours: _released_name(ours) for ours in expected.state_dict()}
    tensors = rename(found, names, expected, where)
    config = {
        "family": "conformer",
        "frame_rate_hz": SAMPLE_RATE_HZ / (HOP * math.prod(STRIDES)),
        "tap": "block",
        "num_layers": num_layers,
        "standardize": False,
        "model": sizes.model_dump(mode="json"),
    }
    return config, tensors


def _infer(found: Mapping[str, Tensor], where: Path) -> Sizes:
    layer = LAYER.replace("#", "0")
    first, second = (shape_of(found, f"0.convblock_{index}.convs.conv_0.conv.weight", 4, where)[0] for index in (0, 1))
    head_size, num_heads = shape_of(found, f"{layer}.mha_layer.pos_bias_u", 2, where)
    ffn_size, hidden_size = shape_of(found, f"{layer}.ffn_module1.1.ffn.0.weight", 2, where)
    if head_size * num_heads != hidden_size or hidden_size % 2 != 0:
        raise InputError(
            f"{where}: {layer}.mha_layer.pos_bias_u: found {num_heads} heads of {head_size}, "
            f"expected a product of {hidden_size}, which is even"
        )
    kernel = shape_of(found, f"{layer}.convolution_module.conv.weight", 3, where)[2]
    if kernel % 2 == 0:
        raise InputError(f"{where}: {layer}.convolution_module.conv.weight: found kernel {kernel}, expected an odd one")
    (num_mels,) = shape_of(found, NORMALIZER["normalizer.mean"], 1, where)
    return Sizes(
        num_mels=num_mels,
        channels=(first, second),
        hidden_size=hidden_size,
        num_heads=num_heads,
        ffn_size=ffn_size,
        kernel=kernel,
    )


def _released_name(ours: str) -> str:
    if ours in NORMALIZER:
        return NORMALIZER[ours]
    number = re.search(r"\.(\d+)\.", ours)
    general = ours.replace(number[0], ".#.") if number else ours
    module, _, parameter = general.rpartition(".")
    theirs = NAMES[general] if general in NAMES else f"{NAMES[module]}.{parameter}"
    return theirs.replace("#", number[1]) if number else theirs


class Conformer:
    """The Conformer as an encoder; see `units.encoders.Encoder`.

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
        self.num_layers: int = config["num_layers"]
        self.frame_rate_hz: float = config["frame_rate_hz"]
        self.batch_samples = GPU_BATCH_SAMPLES if device.type == "cuda" else 0

    def dim(self, layer: int) -> int:
        """Width of every layer."""
        return self._sizes.hidden_size

    def num_frames(self, num_samples: int) -> int:
        """Frames of an utterance; fewer than 320 samples (20 ms) have none, for want of what is reflected."""
        num_frames = 1 + num_samples // HOP
        for stride in STRIDES:
            num_frames = -(-num_frames // stride) if num_frames > 1 else 0
        return num_frames

    @torch.inference_mode()
    def features(self, waveforms: np.ndarray, layers: Sequence[int]) -> dict[int, np.ndarray]:
        """Block outputs, float32 (batch, frames, dim), of waveforms of equal length (batch, samples)."""
        outputs = self._model(torch.from_numpy(waveforms).to(self._device))
        return {layer: outputs[layer].float().cpu().numpy() for layer in layers}
