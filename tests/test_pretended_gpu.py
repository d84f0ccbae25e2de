"""Steps at the paper's size on a GPU that is only pretended: tensors with shapes, kinds and a device, without values.

What a real one would refuse, or wait for, is an error here: tensors of two devices in one operation, and a value that
the host asks for. Nothing is computed; there is no backward pass, which needs a real device.
"""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import Precision
from artifacts.settings import load_settings
from artifacts.workers import ALONE
from slm.batches import as_tensors
from slm.likelihoods import log_likelihoods
from slm.model import build_model
from slm.packing import Batch as PackedBatch
from slm.settings import SlmRecipe
from slm.step import Stepper as SlmStepper
from spidr.batches import Batch
from spidr.encoder import PretrainedEncoder
from spidr.learner import SpidR
from spidr.model import Transformer
from spidr.settings import Recipe
from spidr.step import Stepper

GPU = torch.device("cuda")
CONFIG = REPOSITORY / "config"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Tensors of host memory are pretended as well, once they are used."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(Tensor, "backward", lambda self: None)
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield


def learner_of(recipe: Recipe) -> SpidR:
    with GPU:
        learner = SpidR(recipe.model)
        learner.teacher = Transformer(recipe.model).requires_grad_(False)  # a copy cannot be pretended
    return learner.train()


def batch_of(recipe: Recipe, rows: int) -> Batch:
    num_frames = recipe.model.num_frames(recipe.batches.max_samples)
    masked = torch.arange(num_frames // 2).expand(rows, -1).contiguous()
    kept = torch.ones(recipe.model.num_layers, dtype=torch.bool) if recipe.model.layer_drop else None
    return Batch(0, ["a"] * rows, torch.zeros(rows, recipe.batches.max_samples), masked, kept, {}).to(GPU)


@pytest.mark.parametrize("frames", ["all", "masked"])
@pytest.mark.parametrize("name", ["base", "dinosr-base"])
def test_a_step_of_pretraining_stays_on_the_gpu_and_waits_for_nothing(gpu: None, name: str, frames: str) -> None:
    recipe = load_settings(Recipe, str(CONFIG / f"spidr/{name}.yaml"))
    training = recipe.training.model_copy(update={"compile": False})
    model = recipe.model.model_copy(update={"codebook_frames": frames})
    recipe = recipe.model_copy(update={"training": training, "model": model})
    assert recipe.training.precision == "bfloat16"
    batch = batch_of(recipe, rows=12)
    for step in (0, recipe.num_steps - 1):
        objective, norm = Stepper(learner_of(recipe), recipe, 0, ALONE).step([batch, batch], step)
        assert {figure.device.type for figure in (*objective, norm)} == {"cuda"}
        assert {figure.dtype for figure in (*objective[:3], norm)} == {torch.float32}
        with pytest.raises(DataDependentOutputException):
            objective.loss.item()


def test_layers_and_predictions_are_read_on_the_gpu(gpu: None) -> None:
    recipe = load_settings(Recipe, str(CONFIG / "spidr/base.yaml"))
    learner = learner_of(recipe)
    encoder = PretrainedEncoder(recipe.model, learner.student, learner.heads)
    read = encoder.features_and_predictions(torch.zeros(4, 160_000).to(GPU), [0, 6, 12], [5, 12])
    assert {(found.device.type, found.dtype) for of in read for found in of.values()} == {("cuda", torch.float32)}


def language_model() -> tuple[SlmRecipe, PreTrainedModel]:
    recipe = load_settings(SlmRecipe, str(CONFIG / "slm/opt-125m.yaml"))
    with GPU:
        return recipe, build_model(recipe.model, 258, 0)


def test_a_step_of_a_language_model_stays_on_the_gpu_and_waits_for_nothing(gpu: None) -> None:
    recipe, model = language_model()
    rows, context = recipe.training.batch_size, recipe.model.context
    lengths = np.array([100, 700, 48, context - 848])
    pieces = np.tile(np.repeat(np.arange(4), lengths), (rows, 1))
    positions = np.tile(np.concatenate([np.arange(length) for length in lengths]), (rows, 1))
    tokens = np.full((rows, context), 7)
    packed = PackedBatch(
        inputs=tokens, targets=tokens, positions=positions, pieces=pieces, num_predicted=rows * context
    )
    batch = as_tensors(packed, "rows").to(GPU)
    outcome = SlmStepper(model, recipe, 0, ALONE).step([batch] * recipe.training.accumulation, 5)
    assert {(figure.device.type, figure.dtype) for figure in outcome} == {("cuda", torch.float32)}
    with pytest.raises(DataDependentOutputException):
        outcome.loss.item()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_documents_are_scored_on_the_gpu_without_waiting(gpu: None, precision: Precision) -> None:
    _, model = language_model()
    documents = [np.full(length, 7) for length in (30, 700, 2)]
    found = list(log_likelihoods(model.eval(), documents, 1024, precision=precision))
    assert sorted(index for batch, _ in found for index in batch) == [0, 1, 2]
    assert {(nats.device.type, nats.dtype) for _, nats in found} == {("cuda", torch.float64)}
