"""Ten steps of our pretraining are those of the authors' package, from the same weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from peer_harness import (
    DRIFT,
    OPTIMIZER,
    ROUNDING,
    SHAPES,
    Ask,
    Learnt,
    ask,
    difference,
    interpreter,
    kinds,
    make_batches,
    recipe_of,
    request_of,
    scattered,
    shapes,
    with_their_decay,
)
from torch import Tensor

from artifacts.workers import ALONE
from spidr.batches import Batch
from spidr.encoder import write_encoder
from spidr.layouts import LAYOUTS
from spidr.learner import SpidR
from spidr.released import import_released
from spidr.settings import Recipe
from spidr.step import Stepper

__all__ = ["ask", "interpreter"]  # fixtures

pytestmark = pytest.mark.peer
NUM_STEPS = 10
FREEZE_STEP = 6


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
