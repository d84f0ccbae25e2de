"""Steps at the paper's size on a GPU that is only pretended: tensors with shapes, kinds and a device, without values.

What a real one would refuse, or wait for, is an error here: tensors of two devices in one operation, a value that the
host asks for, and in a step of training a copy between host and device that the host waits for. Nothing is computed;
there is no backward pass, which needs a real device.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from torch import Tensor
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoConfig, AutoModel
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
from units.quantizers import Assigner, Quantizer
from units.spin.batches import Views
from units.spin.model import Base, Spin, load_base
from units.spin.settings import SpinRecipe
from units.spin.train import Stepper as SpinStepper

GPU = torch.device("cuda")
CONFIG = REPOSITORY / "config"


class NoCopyWaitedFor(TorchDispatchMode):
    """Refuses copies between host and device that are not ``non_blocking``: a tensor made of a number is such a one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        if func is torch.ops.aten._to_copy.default and args[0].device != found.device:
            assert kwargs.get("non_blocking"), f"{tuple(found.shape)} is copied from {args[0].device} to {found.device}"
        return found


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
        stepper = Stepper(learner_of(recipe), recipe, 0, ALONE)
        with NoCopyWaitedFor():
            objective, norm = stepper.step([batch, batch], step)
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


def test_units_are_assigned_on_the_gpu(gpu: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: tensor)  # a pretended tensor has no numbers
    centroids = {"centroids": np.zeros((500, 768), np.float32)}
    assigner = Assigner(Quantizer(Path("kmeans"), "kmeans", 500, "spidr", 6, 50.0, centroids), GPU)
    products = []
    multiply = torch.Tensor.__matmul__
    monkeypatch.setattr(torch.Tensor, "__matmul__", lambda *of: products.append(multiply(*of)) or products[-1])
    with torch.autocast("cuda", torch.bfloat16):
        units = assigner(np.zeros((4, 499, 768), np.float32))
    assert [(product.device.type, product.dtype) for product in products] == [("cuda", torch.float32)]
    assert (units.shape, units.dtype) == ((4, 499), torch.int64)


def base_of(kind: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Base:
    """A base at its paper's size, whose weights are made on the GPU instead of being read and moved there."""
    monkeypatch.setattr(torch.nn.Module, "to", lambda self, _: self)
    described: dict[str, Any] = {"num_layers": 12, "frame_rate_hz": 50.0, "tap": "block"}
    if kind == "spidr":
        learner = learner_of(load_settings(Recipe, str(CONFIG / "spidr/base.yaml")))
        monkeypatch.setattr("units.spin.spidr.load_learner", lambda _: learner)
    else:
        with GPU:
            model = AutoModel.from_config(AutoConfig.for_model(kind))
        monkeypatch.setattr(AutoModel, "from_pretrained", lambda *_, **__: (model, {"missing_keys": []}))
        described |= {"source": kind, "standardize": True}
    (folder / "config.json").write_text(json.dumps({"family": "spidr" if kind == "spidr" else "hub", **described}))
    return load_base(folder)


@pytest.mark.parametrize("kind", ["hubert", "wavlm", "spidr"])
def test_a_step_of_spin_stays_on_the_gpu_and_waits_for_nothing(
    gpu: None, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_settings(SpinRecipe, str(CONFIG / "spin/base.yaml"))
    assert recipe.training.precision == "bfloat16"
    with GPU:
        spin = Spin(base_of(kind, tmp_path, monkeypatch), recipe.model, 0)
    crops = np.zeros((15, recipe.batches.max_samples), np.float32)
    stepper = SpinStepper(spin, recipe, 0)
    with NoCopyWaitedFor():
        tally, norm = stepper.step(Views(["a"] * len(crops), crops, crops), 0)
    assert {(figure.device.type, figure.dtype) for figure in (*tally, norm)} == {("cuda", torch.float32)}
    with pytest.raises(DataDependentOutputException):
        tally.loss.item()


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
    stepper = SlmStepper(model, recipe, 0, ALONE)
    with NoCopyWaitedFor():
        outcome = stepper.step([batch] * recipe.training.accumulation, 5)
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
