"""The defaults and outputs of our pretraining are those of the authors' package, from the same weights."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from peer_harness import (
    ROUNDING,
    SHAPES,
    Ask,
    ask,
    difference,
    in_their_terms,
    interpreter,
    kinds,
    make_batches,
    recipe_of,
    request_of,
    scattered,
    shapes,
)
from torch import Tensor

from artifacts.settings import load_settings
from spidr.encoder import load_encoder, write_encoder
from spidr.learner import Objective
from spidr.settings import Recipe

__all__ = ["ask", "interpreter"]  # fixtures

pytestmark = pytest.mark.peer


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
