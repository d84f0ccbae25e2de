"""A fine-tuning of a small encoder by Spin: its recipe, its bases, its speech, what it ended as."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers

from corpora.manifest import Utterance, read_manifest, write_manifest
from spidr.encoder import write_encoder
from spidr.learner import build_learner
from spidr.settings import ModelSettings
from units.spin.batches import Batches
from units.spin.model import Spin, load_base
from units.spin.settings import SpinRecipe
from units.spin.train import Stepper, main, train
from units.weights import source_checksums

pytest.importorskip("parselmouth")

RECIPE: dict[str, Any] = {
    "model": {"frozen_blocks": 1, "head_size": 6, "codebook_size": 5},
    "optimizer": {"learning_rate": 0.003, "warmup_steps": 2, "decay_steps": 4},
    "batches": {"min_samples": 3000, "max_samples": 5000, "max_batch_samples": 20_000, "num_buckets": 2},
    "training": {"log_every": 2, "checkpoint_every": 3, "precision": "float32"},
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = SIZES | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def write_hub(folder: Path, model_type: str, **options: Any) -> Path:
    """A small HuBERT Base, or what is asked for, as a folder that `describe` would make."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **(SMALL | options))
    transformers.AutoModel.from_config(config).save_pretrained(folder / "source")
    described = {"family": "hub", "model_type": model_type, "frame_rate_hz": 50.0, "tap": "block", "num_layers": 3}
    source = str(folder / "source")
    described |= {"source": source, "revision": None, "checksums": source_checksums(source), "standardize": False}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def write_spidr(folder: Path) -> Path:
    settings = ModelSettings(
        extractor=((8, 20, 20), (8, 16, 16)), hidden_size=16, num_layers=3, num_heads=2, ffn_size=16,
        position_layers=1, position_kernel=3, position_groups=2, num_codebooks=2, codebook_size=8, dropout=0,
        attention_dropout=0,
    )  # fmt: skip
    write_encoder(folder, build_learner(settings, 0), {})
    return folder


BASES: dict[str, Callable[[Path], Path]] = {
    "hubert": lambda folder: write_hub(folder, "hubert"),
    "hubert-large": lambda folder: write_hub(
        folder, "hubert", do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True
    ),
    "wavlm": lambda folder: write_hub(folder, "wavlm"),
    "spidr": write_spidr,
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Buzzes at several pitches in noise: voiced, so that all of the perturbation is gone through."""
    rng = np.random.default_rng(0)
    utterances = []
    for index in range(12):
        num_samples = 3200 + 200 * index
        pulses = np.floor(np.arange(num_samples) * (100 + 20 * index) / 16_000)
        path = tmp_path / "audio" / f"u{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.3 * np.diff(pulses, prepend=0) + 0.01 * rng.normal(size=num_samples), 16_000)
        utterances.append(Utterance(path.stem, path, num_samples, "s"))
    write_manifest(tmp_path / "manifest.csv", utterances)
    return tmp_path / "manifest.csv"


def recipe_of(steps: int = 6, **changes: Any) -> SpinRecipe:
    return SpinRecipe.model_validate({**RECIPE, **changes, "training": {**RECIPE["training"], "steps": steps}})


def run_training(base: Path, manifest: Path, folder: Path, steps: int = 6, **options: Any) -> Spin:
    recipe = recipe_of(steps)
    spin = Spin(load_base(base), recipe.model, 0)
    train(Stepper(spin, recipe, 0), Batches(read_manifest(manifest), recipe, 0), folder, **options)
    return spin


def assert_same_training(folder: Path, expected: Path, step: int = 6) -> None:
    name = Path("checkpoints") / f"step-{step:08d}.pt"
    found, wanted = (torch.load(place / name, weights_only=True) for place in (folder, expected))
    assert found["num_samples"] == wanted["num_samples"]
    assert len(wanted["learnt"]) > 3
    for key, tensor in wanted["learnt"].items():
        assert torch.equal(found["learnt"][key], tensor), key
    for index, moments in wanted["optimizer"]["state"].items():
        for key, tensor in moments.items():
            assert torch.equal(found["optimizer"]["state"][index][key], tensor)
    assert read_log(folder) == read_log(expected)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What it says but for times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("audio_s_per_s") > 0
        assert 0 <= line.pop("waited_for_data") < 1
    return lines


def command(base: Path, manifest: Path, output: Path, steps: int) -> list[str]:
    recipe = recipe_of(steps).model_dump_json()
    files = ["--base", str(base), "--train", str(manifest), "--output", str(output)]
    return [sys.executable, "-m", "units.spin.train", "--settings", recipe, "--device", "cpu", *files]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does, in this process: torch and transformers take seconds to import."""
    monkeypatch.setattr(sys, "argv", arguments[2:])
    main()
