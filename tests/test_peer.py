"""Our pretraining beside that of the authors' package `spidr` (PyPI): the same numbers from the same weights.

The package runs in a process of its own (benchmarks/peer.py). Weights go to it, and come back, as released
checkpoints, so that the table of names is held against the package too.
"""

import os
import subprocess
from collections.abc import Callable, Mapping
from math import exp, prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor
from torch.nn import functional

from artifacts.settings import load_settings
from artifacts.workers import ALONE
from spidr.batches import Batch
from spidr.encoder import load_encoder, write_encoder
from spidr.layouts import LAYOUTS
from spidr.learner import Objective, SpidR, build_learner
from spidr.masking import sample_masked_frames
from spidr.released import export_released, import_released
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
from spidr.step import Stepper

pytestmark = pytest.mark.peer

VERSION = "0.2.0"
NUM_STEPS = 10
FREEZE_STEP = 6

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
    place = os.environ.get("SPIDR_PEER", str(REPOSITORY / ".peer" / "bin" / "python"))
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


def differences(found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, float]:
    """Of each tensor of two models; and of their codewords, which two of the tensors stand for."""
    assert found.keys() == wanted.keys()
    between = {name: difference(_decided(name, found[name]), _decided(name, wanted[name])) for name in wanted}
    codewords = [state["codebooks.sums"] / state["codebooks.counts"].unsqueeze(-1) for state in (found, wanted)]
    return {**between, "codewords": difference(*codewords)}


def _decided(name: str, tensor: Tensor) -> Tensor:
    """A tensor without what gradients do not decide on: a bias of the keys adds the same to all of a query's scores.

    So its gradient is rounding alone, of which Adam makes steps of any size.
    """
    if not name.endswith("attention.qkv_proj.bias"):
        return tensor
    query, _, value = tensor.chunk(3)
    return torch.cat([query, value])


@kinds
def test_the_recipe_of_the_released_code_has_the_packages_defaults(kind: str, ask: Ask) -> None:
    name = {"spidr": "released-base", "dinosr": "dinosr-base"}[kind]
    recipe = load_settings(Recipe, str(REPOSITORY / "config" / "spidr" / f"{name}.yaml"))
    found = ask({"what": "defaults", "kind": kind})
    for section, settings in in_their_terms(recipe).items():
        for key, value in settings.items():
            wanted = pytest.approx(value) if isinstance(value, float) else value
            assert found[section][key] == wanted, f"{section}.{key}"


class Outputs(NamedTuple):
    """What a model gives for a batch."""

    intermediate: Tensor
    """Feed-forward outputs, (layers, batch, frames, dim)."""
    predictions: Tensor
    """(K, batch, frames, V)."""
    loss: Tensor
    codebook_perplexity: Tensor
    prediction_perplexity: Tensor


def both_outputs(kind: str, recipe: Recipe, ask: Ask, folder: Path) -> tuple[Outputs, Outputs]:
    """Ours and the package's, of the same weights and batch."""
    learner, batches = scattered(recipe.model).eval(), make_batches(recipe.model, 1, seconds=1.6)
    write_encoder(folder, learner, {})
    answer = ask(request_of("outputs", kind, recipe, folder, batches))
    waveforms, masked = batches[0]
    encoder, layers = load_encoder(folder, torch.device("cpu")), range(1, recipe.model.num_layers + 1)
    features = encoder.features(waveforms, list(layers))
    predictions = encoder.predictions(waveforms, encoder.codebook_layers)
    with torch.no_grad():
        objective = Objective.of(learner(waveforms, masked))
    ours = Outputs(
        torch.stack([features[layer] for layer in layers]),
        torch.stack([predictions[layer] for layer in encoder.codebook_layers]),
        objective.loss,
        objective.codebook_perplexity.mean(),
        objective.prediction_perplexity.mean(),
    )
    theirs = Outputs(
        torch.stack(answer["intermediate"]),
        torch.stack(answer["predictions"]),
        *(answer[name] for name in ("loss", "target_ppl", "pred_ppl")),
    )
    return ours, theirs


def compare_outputs(kind: str, recipe: Recipe, ask: Ask, folder: Path) -> None:
    ours, theirs = both_outputs(kind, recipe, ask, folder)
    for name, *both in zip(Outputs._fields, ours, theirs, strict=True):
        for found, wanted in zip(*map(torch.atleast_1d, both), strict=True):  # layer by layer
            assert difference(found, wanted) < ROUNDING, name
    # Labels are spread, and predictions are not those of one who knows nothing.
    assert 8 < theirs.codebook_perplexity < recipe.model.codebook_size
    assert 8 < theirs.prediction_perplexity < 0.95 * recipe.model.codebook_size
    assert abs(theirs.loss - np.log(recipe.model.codebook_size)) > 1000 * ROUNDING


@shapes
@kinds
def test_outputs_loss_and_perplexities_are_the_packages(kind: str, shape: str, ask: Ask, tmp_path: Path) -> None:
    compare_outputs(kind, recipe_of(kind, SHAPES[shape]), ask, tmp_path)


@kinds
def test_so_are_those_of_the_model_of_table_5(kind: str, ask: Ask, tmp_path: Path) -> None:
    compare_outputs(kind, recipe_of(kind, {}), ask, tmp_path)


class Training(NamedTuple):
    """What ten steps did."""

    losses: list[float]
    gradient_norms: list[float]
    states: list[dict[str, Tensor]]
    """Of the model before the first step and after each; of the package's, after the last alone."""


def train_ours(learner: SpidR, recipe: Recipe, batches: list[Learnt]) -> Training:
    stepper = Stepper(learner.train(), recipe, 0, ALONE)
    training = Training([], [], [clone(learner)])
    kept = None if recipe.model.layer_drop == 0 else torch.zeros(recipe.model.num_layers, dtype=torch.bool)
    for step, (waveforms, masked) in enumerate(batches):
        outcome = stepper.step([Batch(step, [], waveforms, masked, kept, {})], step)
        training.losses.append(outcome.objective.loss.item())
        training.gradient_norms.append(outcome.gradient_norm.item())
        training.states.append(clone(learner))
    return training


def train_theirs(kind: str, recipe: Recipe, batches: list[Learnt], ask: Ask, folder: Path) -> Training:
    answer = ask(request_of("train", kind, recipe, folder, batches))
    checkpoint = folder / "trained.pt"
    torch.save({"model": answer["model"]}, checkpoint)
    learner, steps = import_released(checkpoint, LAYOUTS[kind], recipe.model)
    assert steps == len(batches)
    return Training(answer["losses"], answer["gradient_norms"], [learner.state_dict()])


def clone(learner: SpidR) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in learner.state_dict().items()}


def both_trainings(
    kind: str, recipe: Recipe, ask: Ask, folder: Path, num_steps: int = NUM_STEPS, shifted: bool = True
) -> tuple[Training, Training]:
    """Ours and the package's, from the same weights, with the same batches and the same decays of the teacher."""
    learner, batches = scattered(recipe.model), make_batches(recipe.model, num_steps)
    write_encoder(folder, learner, {})
    theirs = train_theirs(kind, recipe, batches, ask, folder)
    return train_ours(learner, with_their_decay(recipe) if shifted else recipe, batches), theirs


def compare_trainings(ours: Training, theirs: Training, recipe: Recipe) -> None:
    assert ours.losses == pytest.approx(theirs.losses, rel=ROUNDING)
    assert ours.gradient_norms == pytest.approx(theirs.gradient_norms, rel=DRIFT)
    assert min(ours.gradient_norms) < recipe.optimizer.clip_norm < max(ours.gradient_norms)  # some are shortened
    for name, found in differences(ours.states[-1], theirs.states[-1]).items():
        assert found < DRIFT, name
    # The output of SpidR's last block is not read, so nothing moves the layer norm that ends it.
    last = f"student.transformer.layers.{recipe.model.num_layers - 1}.final_layer_norm"
    for name, moved in differences(ours.states[-1], ours.states[0]).items():
        unread = recipe.model.predict_from == "same_layer" and name.startswith(last)
        assert moved == 0 if unread else moved > 100 * DRIFT, name


@shapes
@kinds
def test_ten_steps_are_the_packages(kind: str, shape: str, ask: Ask, tmp_path: Path) -> None:
    recipe = recipe_of(kind, SHAPES[shape])
    ours, theirs = both_trainings(kind, recipe, ask, tmp_path)
    compare_trainings(ours, theirs, recipe)


@shapes
@kinds
def test_so_are_ten_steps_of_which_the_last_ones_freeze(kind: str, shape: str, ask: Ask, tmp_path: Path) -> None:
    """Extractor and projection are frozen; and DinoSR's teacher, one step earlier (`with_their_decay`)."""
    recipe = recipe_of(kind, SHAPES[shape], optimizer={**OPTIMIZER, "freeze_extractor_step": FREEZE_STEP})
    ours, theirs = both_trainings(kind, recipe, ask, tmp_path)
    compare_trainings(ours, theirs, recipe)
    frozen = {"student.extractor": FREEZE_STEP, "student.projection": FREEZE_STEP}
    if kind == "dinosr":
        frozen["teacher"] = FREEZE_STEP - 1
    for name, tensor in ours.states[-1].items():
        freezes = [step for part, step in frozen.items() if name.startswith(part)]
        stays = [torch.equal(tensor, state[name]) for state in ours.states]
        if freezes:
            assert stays == [step >= freezes[0] for step in range(NUM_STEPS + 1)], name


@kinds
def test_a_dropped_layer_does_what_the_packages_does(kind: str, ask: Ask, tmp_path: Path) -> None:
    recipe = recipe_of(kind, {**SHAPES["table-5"], "layer_drop": 1 - 1e-6})  # all are dropped
    ours, theirs = both_trainings(kind, recipe, ask, tmp_path, num_steps=2)
    assert ours.losses == pytest.approx(theirs.losses, rel=ROUNDING)
    for name, found in differences(ours.states[-1], theirs.states[-1]).items():
        assert found < DRIFT, name


@kinds
def test_the_packages_teacher_is_one_step_ahead_in_its_decay(kind: str, ask: Ask, tmp_path: Path) -> None:
    recipe = recipe_of(kind, SHAPES["table-5"])
    ours, theirs = both_trainings(kind, recipe, ask, tmp_path, num_steps=1, shifted=False)
    for name, found in differences(ours.states[-1], theirs.states[-1]).items():
        follows = name.startswith("teacher") and not name.startswith("teacher.positions")
        assert found > 10 * DRIFT if follows else found < DRIFT, name


@kinds
def test_a_step_in_bfloat16_is_the_packages_but_for_rounding(kind: str, ask: Ask, tmp_path: Path) -> None:
    recipe = recipe_of(kind, SHAPES["table-5"], precision="bfloat16")
    ours, theirs = both_trainings(kind, recipe, ask, tmp_path, num_steps=1)
    assert ours.losses == pytest.approx(theirs.losses, rel=0.02)
