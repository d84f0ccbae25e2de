"""The recipe of a language model: the paper's is the default, and a wrong one is one line."""

from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from artifacts.settings import load_settings, parse_settings
from slm.model import build_model
from slm.settings import Slm, SlmRecipe

CONFIG = Path(__file__).parent.parent / "config" / "slm"


def test_the_papers_model_has_87_million_parameters() -> None:
    with torch.device("meta"):
        model = build_model(load_settings(SlmRecipe, str(CONFIG / "opt-125m.yaml")).model, 258, 0)
    assert round(model.num_parameters() / 1e6, 1) == 86.8


def test_the_papers_recipe_is_the_default() -> None:
    recipe = load_settings(SlmRecipe, str(CONFIG / "opt-125m.yaml"))
    assert recipe == SlmRecipe()
    assert recipe.training.batch_size * recipe.training.accumulation * recipe.model.context == 131_072


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": {"num_heads": 7}}, "model: hidden_size: found 768, expected a multiple of num_heads 7"),
        (
            {"training": {"steps": 10}},
            "recipe.yaml: optimizer.warmup_steps: found 1000, expected at most training.steps 10",
        ),
        ({"training": {"epochs": 3}}, "training.epochs: unknown key"),
        ({"optimizer": {"learning_rate": 1e-6}}, "final_learning_rate: found 5e-05, expected at most"),
    ],
)
def test_a_wrong_recipe_is_one_line_that_names_the_key(recipe: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(SlmRecipe, recipe, "recipe.yaml")


def test_a_language_model_needs_a_corpus() -> None:
    with pytest.raises(InputError, match=r"train: found \[\], expected"):
        parse_settings(Slm, {"recipe": "slm/tiny.yaml", "train": [], "validation": "valid"}, "experiment.yaml")
