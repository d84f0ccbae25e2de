"""A loss over a large vocabulary is made in chunks, which change neither it nor its gradients."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers.modeling_utils import PreTrainedModel

import slm.loss
from artifacts.errors import InputError
from artifacts.workers import ALONE
from slm.batches import TensorBatch, Way, as_tensors
from slm.loss import require_chunks, summed_loss
from slm.model import build_model
from slm.packing import PackedCorpus
from slm.settings import ModelSettings, SlmRecipe
from slm.step import Stepper
from slm.store import TokenStore, write_store
from slm.validation import validate
from units.records import UnitSequence, write_units

NUM_UNITS, CONTEXT = 90, 32
VOCABULARY = NUM_UNITS + 2
OPT: dict[str, Any] = {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "ffn_size": 64, "context": CONTEXT}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}
OTHERS: dict[str, dict[str, Any]] = {
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
    "gpt_neox": {"intermediate_size": 64},
    "qwen2": {"intermediate_size": 64, "num_key_value_heads": 2},
    "gpt2": {},
    "granite": {"intermediate_size": 64, "num_key_value_heads": 2, "logits_scaling": 4.0},
}
CHUNK = 7
"""Positions of a chunk: of a batch of 64 the last has one."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PackedCorpus:
    folder, draw = tmp_path_factory.mktemp("store"), np.random.default_rng(0)
    lengths = draw.integers(3, 30, 12)
    units = [(np.cumsum(draw.integers(1, NUM_UNITS, length)) % NUM_UNITS).tolist() for length in lengths]
    write_units(folder / "a.jsonl", [UnitSequence(f"utt{i}", some, [1] * len(some)) for i, some in enumerate(units)])
    write_store(folder / "a.jsonl", NUM_UNITS, 50.0, "a", folder / "a")
    return PackedCorpus([TokenStore(folder / "a")], CONTEXT, 0)


def settings_of(model_type: str) -> ModelSettings:
    if model_type == "opt":
        return ModelSettings(**OPT, init_std=0.2)
    return ModelSettings(context=CONTEXT, architecture={"model_type": model_type, **SHAPE, **OTHERS[model_type]})


@contextmanager
def in_chunks(monkeypatch: pytest.MonkeyPatch, size: int = CHUNK) -> Iterator[list[int]]:
    """The logits of few positions at once; yields how many the last layer of a model had, each time."""
    positions: list[int] = []

    def count(layer: nn.Module, arguments: Any, logits: Tensor) -> None:
        if isinstance(layer, nn.Linear) and logits.shape[-1] == VOCABULARY:
            positions.append(logits.numel() // VOCABULARY)

    with monkeypatch.context() as patch, torch.nn.modules.module.register_module_forward_hook(count):
        patch.setattr(slm.loss, "MOST_LOGITS", size * VOCABULARY)
        yield positions


def loss_and_gradients(model: PreTrainedModel, batch: TensorBatch) -> tuple[float, list[Tensor]]:
    model.zero_grad()
    loss = summed_loss(model, batch)
    loss.backward()
    return loss.item(), [weights.grad.clone() for weights in model.parameters()]


@pytest.mark.parametrize("model_type", ["opt", "llama", "gpt_neox", "qwen2", "gpt2"])
def test_chunks_have_the_loss_and_the_gradients_of_all_logits_at_once(
    corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch, model_type: str
) -> None:
    model, batch = build_model(settings_of(model_type), VOCABULARY, 0).eval(), as_tensors(corpus.batch(0, 2), "rows")
    expected, gradients = loss_and_gradients(model, batch)
    with in_chunks(monkeypatch) as positions:
        require_chunks(model, 2 * CONTEXT)
        positions.clear()
        found, again = loss_and_gradients(model, batch)
    assert max(positions) == CHUNK
    assert sum(positions) == 2 * 2 * CONTEXT  # once for the loss, once for the gradient
    assert found == pytest.approx(expected, rel=1e-6)
    rounding = 1e-6 * max(whole.abs().max().item() for whole in gradients)
    for ours, whole in zip(again, gradients, strict=True):
        torch.testing.assert_close(ours, whole, rtol=1e-5, atol=rounding)


def test_few_logits_are_made_at_once_and_once(corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    model, batch = build_model(settings_of("opt"), VOCABULARY, 0), as_tensors(corpus.batch(0, 2), "rows")
    with in_chunks(monkeypatch, 2 * CONTEXT) as positions:
        loss_and_gradients(model, batch)
    assert positions == [2 * CONTEXT]


def test_dropout_is_the_same_in_chunks(corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = SlmRecipe.model_validate(
        {"model": OPT | {"dropout": 0.3}, "training": {"batch_size": 2, "accumulation": 1, "precision": "float32"}}
    )
    batch = as_tensors(corpus.batch(0, 2), "rows")
    steps = []
    for size in (2 * CONTEXT, CHUNK):
        stepper = Stepper(build_model(recipe.model, VOCABULARY, 0), recipe, 0, ALONE)
        with in_chunks(monkeypatch, size) as positions:
            steps.append(stepper.step([batch], 0))
        assert max(positions) == size
    assert steps[1].loss.item() == pytest.approx(steps[0].loss.item(), rel=1e-6)
    assert steps[1].gradient_norm.item() == pytest.approx(steps[0].gradient_norm.item(), rel=1e-5)


def test_gradients_of_chunks_in_bfloat16_add_up_in_float32(
    corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, batch = build_model(settings_of("opt"), VOCABULARY, 0).eval(), as_tensors(corpus.batch(0, 16), "rows")
    head = model.get_output_embeddings().weight
    _, exact = loss_and_gradients(model, batch)
    index = next(i for i, weights in enumerate(model.parameters()) if weights is head)
    errors = []
    for size in (16 * CONTEXT, 1):
        with in_chunks(monkeypatch, size), torch.autocast("cpu", torch.bfloat16):
            loss = summed_loss(model, batch)
        model.zero_grad()
        loss.backward()
        errors.append((head.grad - exact[index]).norm().item())
    assert 0 < errors[1] < 1.3 * errors[0]


@pytest.mark.parametrize("way", ["rows", "blocks"])
def test_validation_is_in_chunks_too(corpus: PackedCorpus, monkeypatch: pytest.MonkeyPatch, way: Way) -> None:
    model = build_model(settings_of("opt"), VOCABULARY, 0)
    expected = validate(model, corpus, 2)
    with in_chunks(monkeypatch) as positions:
        found = validate(model, corpus, 2, way)
    assert max(positions) == CHUNK
    assert sum(positions) == corpus.num_contexts * CONTEXT
    assert found == pytest.approx(expected, rel=1e-6)


def test_a_model_that_scales_its_logits_is_refused_where_chunks_are_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = SlmRecipe.model_validate({"training": {"batch_size": 2, "steps": 2000}})
    recipe = recipe.model_copy(update={"model": settings_of("granite")})
    require_chunks(build_model(recipe.model, VOCABULARY, 0), 2 * CONTEXT)
    with in_chunks(monkeypatch), pytest.raises(InputError) as caught:
        Stepper(build_model(recipe.model, VOCABULARY, 0), recipe, 0, ALONE)
    assert str(caught.value) == (
        "training.batch_size: found batches of 64 tokens, expected at most 7 for a vocabulary of 92 and a granite, "
        "which changes its logits after its last layer; more training.accumulation makes the same step"
    )
