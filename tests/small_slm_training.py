"""A small language model, the language that it learns, and the training that was not interrupted."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import slm.train
from artifacts.workers import ALONE
from slm.model import build_model
from slm.settings import SlmRecipe
from slm.step import Stepper
from slm.store import FIRST_UNIT, write_store
from units.records import UnitSequence, write_units

NUM_UNITS = 12
CPU = torch.device("cpu")

RECIPE: dict[str, Any] = {
    "model": {"hidden_size": 32, "num_layers": 2, "num_heads": 2, "ffn_size": 64, "context": 64},
    "optimizer": {"learning_rate": 0.01, "final_learning_rate": 0.001, "warmup_steps": 5, "clip_norm": 1.0},
    "training": {
        "steps": 40,
        "batch_size": 2,
        "accumulation": 2,
        "precision": "float32",
        "validate_every": 7,
        "checkpoint_every": 10,
        "log_every": 3,
    },
}


def changed(**sections: dict[str, Any]) -> SlmRecipe:
    """The recipe with some keys changed."""
    return SlmRecipe.model_validate({name: RECIPE[name] | sections.get(name, {}) for name in RECIPE})


def new_stepper(recipe: SlmRecipe) -> Stepper:
    return Stepper(build_model(recipe.model, FIRST_UNIT + NUM_UNITS, 0), recipe, 0, ALONE)


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Stores `train`, `more` and `valid` of a language where unit u is mostly followed by u + 1."""
    folder = tmp_path_factory.mktemp("stores")
    for name, seed in (("train", 0), ("more", 1), ("valid", 2)):
        draw = np.random.default_rng(seed)
        sequences = []
        for number in range(30):
            leaps = np.where(draw.random(int(draw.integers(5, 40))) < 0.9, 1, draw.integers(2, NUM_UNITS))
            units = (draw.integers(NUM_UNITS) + np.cumsum(leaps)) % NUM_UNITS
            sequences.append(UnitSequence(f"utt{number}", units.tolist(), [1] * len(units)))
        write_units(folder / f"{name}.jsonl", sequences)
        write_store(folder / f"{name}.jsonl", NUM_UNITS, 50.0, name, folder / name)
    return folder


def arguments(stores: Path, output: Path, recipe: SlmRecipe | None = None) -> list[str]:
    given = ["--settings", (recipe or changed()).model_dump_json(), "--slm", "opt-test", "--device", "cpu"]
    given += ["--tokens", str(stores / "train"), str(stores / "more"), "--validation-tokens", str(stores / "valid")]
    return [*given, "--output", str(output)]


def run_main(
    monkeypatch: pytest.MonkeyPatch, stores: Path, output: Path, recipe: SlmRecipe | None = None, *more: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["slm.train", *arguments(stores, output, recipe), *more])
    slm.train.main()


@pytest.fixture(scope="module")
def trained(stores: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training that was not interrupted."""
    folder = tmp_path_factory.mktemp("trained") / "seed0"
    with pytest.MonkeyPatch.context() as monkeypatch:
        run_main(monkeypatch, stores, folder)
    return folder


def log_of(folder: Path, split: str) -> list[dict[str, Any]]:
    """Lines of the log, but for what depends on the clock."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        if line["split"] == "train":
            assert line.pop("tokens_per_s") > 0
            assert 0 <= line.pop("waited_for_data") < 1
    return [line for line in lines if line["split"] == split]


def assert_same_training(folder: Path, expected: Path) -> None:
    """Log, model and summary are those of the other, but for the time that it took."""
    for name in ("model/model.safetensors", "model/config.json"):
        assert (folder / name).read_bytes() == (expected / name).read_bytes(), name
    for split in ("train", "validation"):
        assert log_of(folder, split) == log_of(expected, split)
    summaries = [json.loads((place / "summary.json").read_text()) for place in (folder, expected)]
    for summary in summaries:
        del summary["seconds"], summary["provenance"]
    assert summaries[0] == summaries[1]
