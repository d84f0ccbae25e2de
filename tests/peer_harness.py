"""The authors' package `spidr` (PyPI) in a process of its own (benchmarks/peer.py), given what ours is given.

Weights go to it, and come back, as released checkpoints, so that the table of names is held against the package too.
"""

import os
import subprocess
from collections.abc import Callable
from math import exp, prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor
from torch.nn import functional

from spidr.layouts import LAYOUTS
from spidr.learner import SpidR, build_learner
from spidr.masking import sample_masked_frames
from spidr.released import export_released
from spidr.settings import (
    SAMPLE_RATE_HZ,
    TABLE_5_EXTRACTOR,
    ExponentialTeacher,
    LinearTeacher,
    MaskingSettings,
    ModelSettings,
    Recipe,
    TeacherSettings,
)

VERSION = "0.2.0"

ROUNDING = 1e-5
"""Of float32, whose unit is 6e-8, after twelve layers of sums of up to 3072 products, added in another order."""
DRIFT = 1e-4
"""Of weights after ten steps: Adam divides by the gradient's size, so small gradients count with all their rounding."""

QUIET: dict[str, Any] = {
    "dropout": 0,
    "attention_dropout": 0,
    "layer_drop": 0,
    "codebook_frames": "masked",
    "codebook_decay": 0.8,
}
SHAPES: dict[str, dict[str, Any]] = {
    "table-5": {
        "extractor": [(24, layer.kernel, layer.stride) for layer in TABLE_5_EXTRACTOR],
        "hidden_size": 64,
        "num_layers": 4,
        "num_heads": 4,
        "ffn_size": 96,
        "num_codebooks": 3,
        "codebook_size": 24,
    },
    "other": {
        "extractor": [(16, 10, 5), (24, 8, 8), (16, 4, 4)],
        "hidden_size": 48,
        "num_layers": 3,
        "num_heads": 2,
        "ffn_size": 80,
        "position_layers": 2,
        "position_kernel": 10,
        "position_groups": 4,
        "qkv_bias": True,
        "num_codebooks": 2,
        "codebook_size": 17,
    },
}
TEACHERS: dict[str, TeacherSettings] = {
    "spidr": ExponentialTeacher(initial_decay=0.8, timescale=6),
    "dinosr": LinearTeacher(schedule="linear", initial_decay=0.7, final_decay=0.95, warmup_steps=6, freeze_step=None),
}
OPTIMIZER = {
    "learning_rate": 0.01,
    "warmup_steps": 3,
    "hold_steps": 3,
    "decay_steps": 6,
    "weight_decay": 0.1,
    "clip_norm": 2.5,
    "freeze_extractor_step": None,
}

kinds = pytest.mark.parametrize("kind", ["spidr", "dinosr"])
shapes = pytest.mark.parametrize("shape", SHAPES)

Learnt = tuple[Tensor, Tensor]
"""Waveforms and masked frames of a batch."""
Ask = Callable[[dict[str, Any]], dict[str, Any]]


@pytest.fixture(scope="session")
def interpreter() -> str:
    """The interpreter of the package's environment, named by SPIDR_PEER: its absence fails the test."""
    given = os.environ.get("SPIDR_PEER", REPOSITORY / ".peer" / "bin" / "python")
    place = str(Path(given).absolute())  # it is started in another folder
    wanted = f"expected the interpreter of an environment with spidr {VERSION}: make peer"
    if not os.access(place, os.X_OK):
        pytest.fail(f"SPIDR_PEER: found no program {place}, {wanted}")
    asked = [place, "-c", "from importlib.metadata import version; print(version('spidr'))"]
    found = subprocess.run(asked, capture_output=True, text=True, env=_environment()).stdout.strip()
    if found != VERSION:
        pytest.fail(f"SPIDR_PEER: found {place} with spidr {found or 'missing'}, {wanted}")
    return place


def _environment() -> dict[str, str]:
    """Ours without the path of our own `spidr`, which would hide the package's."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@pytest.fixture
def ask(interpreter: str, tmp_path: Path) -> Ask:
    """Let the package answer a request of benchmarks/peer.py."""

    def ask(request: dict[str, Any]) -> dict[str, Any]:
        asked, answered = tmp_path / "request.pt", tmp_path / "answer.pt"
        torch.save({"threads": torch.get_num_threads(), **request}, asked)
        command = [interpreter, str(REPOSITORY / "benchmarks" / "peer.py"), str(asked), str(answered)]
        done = subprocess.run(command, capture_output=True, text=True, env=_environment(), cwd=tmp_path)
        assert done.returncode == 0, done.stderr[-5000:]
        answer: dict[str, Any] = torch.load(answered, weights_only=True)
        return answer

    return ask


def recipe_of(kind: str, shape: dict[str, Any], precision: str = "float32", **more: Any) -> Recipe:
    """A recipe in which everything moves far within ten steps."""
    predict_from = {"spidr": "same_layer", "dinosr": "last_layer"}[kind]
    return Recipe.model_validate(
        {
            "model": {**QUIET, **shape, "predict_from": predict_from},
            "teacher": TEACHERS[kind].model_dump(),
            "optimizer": OPTIMIZER,
            "training": {"precision": precision},
            **more,
        }
    )


def in_their_terms(recipe: Recipe) -> dict[str, dict[str, Any]]:
    """A recipe as settings of the package, section by section."""
    model, teacher, optimizer, batches = recipe.model, recipe.teacher, recipe.optimizer, recipe.batches
    if isinstance(teacher, ExponentialTeacher):
        schedule = {"ema_start_decay": teacher.initial_decay, "ema_timescale": teacher.timescale}
    else:
        schedule = {
            "ema_start_decay": teacher.initial_decay,
            "ema_final_decay": teacher.final_decay,
            "ema_final_step": teacher.warmup_steps,
        }
    freeze_step = optimizer.freeze_extractor_step
    return {
        "model": {
            "extractor_conv_layer_config": [tuple(layer) for layer in model.extractor],
            "encoder_embed_dim": model.hidden_size,
            "encoder_projection_dropout": model.projection_dropout,
            "encoder_pos_conv_kernel": model.position_kernel,
            "encoder_pos_conv_groups": model.position_groups,
            "encoder_pos_conv_depth": model.position_layers,
            "encoder_num_layers": model.num_layers,
            "encoder_num_heads": model.num_heads,
            "encoder_attention_dropout": model.attention_dropout,
            "encoder_ff_interm_features": model.ffn_size,
            "encoder_ff_interm_dropout": model.ffn_dropout,
            "encoder_dropout": model.dropout,
            "encoder_layer_drop": model.layer_drop,
            "encoder_qkv_bias": model.qkv_bias,
            "codebook_size": model.codebook_size,
            "codebook_decay": model.codebook_decay,
            "num_codebooks": model.num_codebooks,
            "freeze_step": 10**9 if freeze_step is None else freeze_step,
            **schedule,
        },
        "optimizer": {
            "lr": optimizer.learning_rate,
            "betas": optimizer.betas,
            "weight_decay": optimizer.weight_decay,
            "eps": optimizer.epsilon,
            "max_norm": optimizer.clip_norm,
            "init_lr_scale": optimizer.initial_ratio,
            "final_lr_scale": optimizer.final_ratio,
            "warmup_steps": optimizer.warmup_steps,
            "hold_steps": optimizer.hold_steps,
            "decay_steps": optimizer.decay_steps,
        },
        "masking": {
            "mask_prob": recipe.masking.start_probability * recipe.masking.span_length,
            "mask_length": recipe.masking.span_length,
        },
        "data": {
            "min_sample_size": batches.min_samples,
            "max_sample_size": batches.max_samples,
            "max_batch_length": batches.max_batch_samples,
            "num_buckets": batches.num_buckets,
        },
    }


def with_their_decay(recipe: Recipe) -> Recipe:
    """The recipe with the teacher's decays that the package has for it: at every step those of the step after.

    The package counts a step before it moves the teacher, we count it afterwards.
    """
    teacher = recipe.teacher
    if isinstance(teacher, ExponentialTeacher):
        initial = 1 - (1 - teacher.initial_decay) * exp(-1 / teacher.timescale)
        shifted: TeacherSettings = ExponentialTeacher(initial_decay=initial, timescale=teacher.timescale)
    else:
        rise = (teacher.final_decay - teacher.initial_decay) / teacher.warmup_steps
        freeze_step = recipe.optimizer.freeze_extractor_step  # one setting for both in the package
        shifted = LinearTeacher(
            schedule="linear",
            initial_decay=teacher.initial_decay + rise,
            final_decay=teacher.final_decay,
            warmup_steps=teacher.warmup_steps - 1,
            freeze_step=None if freeze_step is None else freeze_step - 1,
        )
    return recipe.model_copy(update={"teacher": shifted})


@torch.no_grad()
def scattered(settings: ModelSettings, seed: int = 0) -> SpidR:
    """A model whose tensors are all random: none is 0 or 1, student and teacher differ, codewords are of the size of
    instance-normalised embeddings."""
    learner, generator = build_learner(settings, seed), torch.Generator().manual_seed(seed)
    for name, tensor in learner.state_dict().items():
        noise = torch.randn(tensor.shape, generator=generator)
        if name == "codebooks.sums":
            tensor.copy_(noise * learner.codebooks.counts.unsqueeze(-1))
        elif name == "codebooks.counts":
            tensor.add_(noise.abs())
            learner.codebooks.sums.mul_(tensor.unsqueeze(-1))
        elif name == "heads.bias" or tensor.ndim == 1:
            tensor.add_(0.1 * noise)
        else:
            inputs = tensor.shape[-1] if name == "heads.weight" else prod(tensor.shape[1:])
            tensor.copy_(noise / inputs**0.5)
    return learner


def make_batches(settings: ModelSettings, count: int, seconds: float = 1.0) -> list[Learnt]:
    """Tones that wander in noise, about as loud as speech, and masked frames; lengths and numbers of rows differ."""
    rng = np.random.default_rng(0)
    batches = []
    for index in range(count):
        num_rows, num_samples = 2 + index % 2, int(seconds * SAMPLE_RATE_HZ) + 777 * (index * 7 % 10)
        knots = rng.uniform(100, 4000, (num_rows, num_samples // 1600 + 2))
        at = np.arange(num_samples) / 1600
        pitch = np.stack([np.interp(at, np.arange(len(row)), row) for row in knots])
        waveforms = 0.05 * np.sin(2 * np.pi * np.cumsum(pitch, 1) / SAMPLE_RATE_HZ) + 0.01
        waveforms += 0.02 * rng.standard_normal(waveforms.shape)
        masked = sample_masked_frames(rng, num_rows, settings.num_frames(num_samples), MaskingSettings())
        batches.append((torch.from_numpy(waveforms.astype(np.float32)), torch.from_numpy(masked)))
    return batches


def standardised(batches: list[Learnt]) -> list[Learnt]:
    """As the package's model wants its waveforms, which ours standardises itself."""
    return [(functional.layer_norm(waveforms, waveforms.shape[-1:], eps=1e-5), masked) for waveforms, masked in batches]


def request_of(what: str, kind: str, recipe: Recipe, folder: Path, batches: list[Learnt]) -> dict[str, Any]:
    """A request with the weights of an encoder folder, through the file of a released checkpoint."""
    checkpoint = folder / f"{kind}.pt"
    export_released(folder, LAYOUTS[kind], checkpoint)
    settings = in_their_terms(recipe)
    return {
        "what": what,
        "kind": kind,
        "model": settings["model"],
        "optimizer": settings["optimizer"],
        "weights": torch.load(checkpoint, weights_only=True)["model"],
        "batches": standardised(batches),
        "device": "cpu",
        "precision": recipe.training.precision,
        "compile": False,
    }


def difference(found: Tensor, wanted: Tensor) -> float:
    """The largest difference, over the largest value."""
    assert found.shape == wanted.shape
    return ((found - wanted).abs().max() / wanted.abs().max()).item()
