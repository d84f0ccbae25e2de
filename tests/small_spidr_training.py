"""A pretraining of a small model on noise: its recipe, its speech, what it ended as."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from artifacts.workers import ALONE
from corpora.manifest import Utterance, read_manifest, write_manifest
from spidr.batches import Batches
from spidr.learner import build_learner
from spidr.settings import Recipe
from spidr.step import Stepper
from spidr.train import main, train

RECIPE: dict[str, Any] = {
    "model": {
        "extractor": [[8, 20, 20], [8, 16, 16]],
        "hidden_size": 16,
        "num_layers": 3,
        "num_heads": 2,
        "ffn_size": 16,
        "position_layers": 1,
        "position_kernel": 3,
        "position_groups": 2,
        "layer_drop": 0.2,
        "num_codebooks": 2,
        "codebook_size": 8,
    },
    "optimizer": {"warmup_steps": 2, "hold_steps": 4, "decay_steps": 2, "freeze_extractor_step": 6},
    "batches": {"max_samples": 8000, "max_batch_samples": 24_000, "batches_per_step": 1, "num_buckets": 2},
    "training": {
        "log_every": 2,
        "validate_every": 4,
        "checkpoint_every": 3,
        "keep_checkpoints": 2,
        "precision": "float32",
    },
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    utterances = []
    for index in range(12):
        path = tmp_path / "audio" / f"u{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, rng.normal(size=4000 + 700 * index) * 0.1, 16_000)
        utterances.append(Utterance(path.stem, path, 4000 + 700 * index, "s"))
    write_manifest(tmp_path / "manifest.csv", utterances)
    return tmp_path / "manifest.csv"


def new_stepper(recipe: Recipe) -> Stepper:
    return Stepper(build_learner(recipe.model, 0).train(), recipe, 0, ALONE)


def run_training(manifest: Path, folder: Path, steps: int = 8, **training: Any) -> Path:
    """Train in this process for `steps` steps, or go on with what is in `folder`."""
    recipe = Recipe.model_validate({**RECIPE, "training": {**RECIPE["training"], "steps": steps, **training}})
    utterances = read_manifest(manifest)
    made = Batches(utterances, recipe, 0), Batches(utterances[:4], recipe, 1)
    train(new_stepper(recipe), *made, folder)
    return folder


def final_state(folder: Path, step: int = 8) -> dict[str, Any]:
    state: dict[str, Any] = torch.load(folder / "checkpoints" / f"step-{step:08d}.pt", weights_only=True)
    return state


def log_values(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        for key in ("audio_s_per_s", "waited_for_data"):
            line.pop(key, None)
    return lines


def assert_same_training(folder: Path, expected: Path) -> None:
    found, wanted = final_state(folder), final_state(expected)
    assert found["num_samples"] == wanted["num_samples"]
    for name, tensor in wanted["learner"].items():  # student, heads, codebooks, teacher
        assert torch.equal(found["learner"][name], tensor), name
    for index, moments in wanted["optimizer"]["state"].items():
        for name, tensor in moments.items():
            assert torch.equal(found["optimizer"]["state"][index][name], tensor)
    assert log_values(folder) == log_values(expected)


def by_others(manifest: Path) -> Path:
    """The same speech by speakers of other names, to validate on."""
    others = manifest.with_name("others.csv")
    write_manifest(others, [replace(u, speaker=f"{u.speaker}-other") for u in read_manifest(manifest)])
    return others


def command(manifest: Path, output: Path, *more: str, steps: int = 4, **model: Any) -> list[str]:
    training = {**RECIPE["training"], "steps": steps}
    recipe = {**RECIPE, "training": training, "model": {**RECIPE["model"], **model}}
    files = ["--train", str(manifest), "--validation", str(by_others(manifest)), "--output", str(output)]
    return [sys.executable, "-m", "spidr.train", "--settings", json.dumps(recipe), "--device", "cpu", *files, *more]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does, in this process: torch takes seconds to import."""
    monkeypatch.setattr(sys, "argv", arguments[2:])
    main()
