"""A step of a language model: gradients, precision, compiled blocks, batches made ahead, learning rate."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from small_slm_training import CPU, NUM_UNITS, changed, stores
from torch._dynamo.testing import CompileCounter

from artifacts.workers import ALONE
from slm.batches import as_tensors, prefetch
from slm.loss import packed_logits
from slm.model import build_model
from slm.packing import IGNORED, PackedCorpus
from slm.settings import OptimizerSettings, SlmRecipe
from slm.step import Outcome, Stepper, compile_blocks, learning_rate
from slm.store import TokenStore

__all__ = ["stores"]  # a fixture


def one_step(recipe: SlmRecipe, corpus: PackedCorpus, step: int) -> Outcome:
    """A step of an untrained model."""
    settings = recipe.training
    numbers = range(step * settings.accumulation, (step + 1) * settings.accumulation)
    packed = [corpus.batch(number * settings.batch_size, settings.batch_size) for number in numbers]
    model = build_model(recipe.model, NUM_UNITS + 2, 0)
    outcome = Stepper(model, recipe, 0, ALONE).step([as_tensors(batch, "rows") for batch in packed], step)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    return outcome


def test_accumulated_batches_make_the_gradient_of_one(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    norms, losses = [], []
    for batch_size, accumulation in ((6, 1), (3, 2), (1, 6)):
        recipe = changed(model={"dropout": 0.0}, training={"batch_size": batch_size, "accumulation": accumulation})
        outcome = one_step(recipe, corpus, 3)
        losses.append(outcome.loss.item())
        norms.append(outcome.gradient_norm.item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_bfloat16_learns_nearly_the_same(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = changed(model={"dropout": 0.0}, training={"precision": precision})
        losses.append(one_step(recipe, corpus, 0).loss.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


def test_blocks_share_one_graph_and_compiled_they_compute_the_same(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    counter = CompileCounter()
    compiled, plain = (build_model(changed(model={"num_layers": 4}).model, NUM_UNITS + 2, 0).eval() for _ in range(2))
    compile_blocks(compiled, backend=counter)
    for first in (0, 2, 4):
        packed = corpus.batch(first, 2)
        with torch.no_grad():
            found = packed_logits(compiled, as_tensors(packed, "blocks"))
            expected = packed_logits(plain, as_tensors(packed, "rows"))
        there = torch.from_numpy(packed.targets) != IGNORED
        torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-5)
    assert counter.frame_count == 1


def test_batches_are_those_of_the_corpus_whatever_is_made_ahead(stores: Path) -> None:
    corpus, again = (PackedCorpus([TokenStore(stores / "train")], 64, 0) for _ in range(2))
    spans = [(first, 2) for first in (0, 2, 9, 40, 41, 3)]
    for span, batch in zip(spans, prefetch(corpus, spans, "rows", CPU), strict=True):
        expected = again.batch(*span)
        assert np.array_equal(batch.inputs.numpy(), expected.inputs)
        assert np.array_equal(batch.targets.numpy(), expected.targets)
        assert batch.num_predicted == expected.num_predicted


def test_the_learning_rate_rises_then_falls_to_its_final_value() -> None:
    settings = OptimizerSettings(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(step, 104, settings) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[53] == pytest.approx(0.55)  # half way down
    assert rates[-1] == pytest.approx(0.1)
    assert all(before > after for before, after in pairwise(rates[3:]))
