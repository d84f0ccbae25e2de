"""A released file of the full size, without weights, is the model that the registry says."""

import math
from pathlib import Path

import pytest
import torch
import transformers
from released_files import BASE, KERNELS, LARGE, STRIDES, XLARGE, affine, fairseq_shapes, to_torchaudio

from units import conformer, data2vec2
from units.conversion import to_transformers
from units.layouts import LAYOUTS
from units.registry import REGISTRY

WITH_LAYOUT = {name: released for name, released in REGISTRY.items() if released.model_type in LAYOUTS}
FULL_SIZES = {12: BASE, 24: LARGE, 48: XLARGE}


@pytest.mark.parametrize("name", WITH_LAYOUT)
def test_a_file_of_the_full_size_is_the_entry(name: str) -> None:
    released = WITH_LAYOUT[name]
    sizes = FULL_SIZES[released.num_layers]
    is_wavlm = "wavlm" in name
    options = {"is_large": sizes is not BASE, "conv_bias": sizes is not BASE and not is_wavlm, "is_wavlm": is_wavlm}
    shapes = fairseq_shapes(sizes, **options)
    if name == "hubert-phoneme":
        shapes = {to_torchaudio(key): shape for key, shape in shapes.items()}
    if released.codebook_size is not None:
        shapes |= affine("pred_head.layers.0", 256, 768) | {
            "loss_module.codebook.weight": (released.codebook_size, 256)
        }
    with torch.device("meta"):
        tensors = {key: torch.empty(shape) for key, shape in shapes.items()}
    layout = LAYOUTS[released.model_type]
    content = {layout.containers[0]: tensors} if layout.containers else tensors
    parts = to_transformers(content, layout, released.head_size, Path("file.pt"))
    assert sum(tensor.numel() for tensor in parts.tensors.values()) == released.num_parameters
    assert (parts.config["num_hidden_layers"], parts.config["hidden_size"]) == (released.num_layers, released.dim)
    config = transformers.AutoConfig.for_model(**parts.config)
    assert config.num_attention_heads == sizes.heads
    assert 16000 / math.prod(config.conv_stride) == released.frame_rate_hz


@pytest.mark.parametrize("name", ["data2vec2-base", "data2vec2-large", "eh-mam"])
def test_data2vec_2_of_the_full_size_is_the_entry(name: str) -> None:
    released = REGISTRY[name]
    sizes = FULL_SIZES[released.num_layers]
    model = {
        "extractor": [[512, kernel, stride] for kernel, stride in zip(KERNELS, STRIDES, strict=True)],
        "hidden_size": released.dim,
        "num_heads": sizes.heads,
        "ffn_size": sizes.ffn,
        "position_layers": 5,
        "position_kernel": 19,
        "position_groups": 16,
    }
    with torch.device("meta"):
        built = data2vec2.Model(data2vec2.Sizes.model_validate(model), released.num_layers)
    assert sum(parameter.numel() for parameter in built.parameters()) == released.num_parameters


def test_the_conformer_of_the_full_size_is_the_entry() -> None:
    released = REGISTRY["conformer-asr"]
    model = {"num_mels": 80, "channels": [64, 32], "hidden_size": 512, "num_heads": 8, "ffn_size": 2048, "kernel": 31}
    with torch.device("meta"):
        built = conformer.Model(conformer.Sizes.model_validate(model), released.num_layers)
    last_norm = 2 * 512  # counted by the release, and of no layer
    assert sum(parameter.numel() for parameter in built.parameters()) + last_norm == released.num_parameters
    assert released.dim == 512
