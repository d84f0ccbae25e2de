"""Spin's recipe, and its entry in an experiment."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from units.spin.settings import OptimizerSettings, SpinRecipe, learning_rate
from workflow.reading import read_experiment


def test_the_learning_rate_rises_and_falls_linearly() -> None:
    rates = {step: learning_rate(step, OptimizerSettings()) for step in (0, 1250, 2500, 4999, 6000)}
    assert rates == pytest.approx({0: 1e-6, 1250: 5.05e-5, 2500: 1e-4, 4999: 1e-6, 6000: 1e-6})
    middle = learning_rate(2500 + 1000, OptimizerSettings())
    assert middle == pytest.approx(1e-4 - (1e-4 - 1e-6) * 1000 / 2499)
    assert SpinRecipe().num_steps == 5000


@pytest.mark.parametrize(
    ("recipe", "said"),
    [
        ({"model": {"epsilon": 0.01}}, "model.epsilon: found 0.01, expected"),
        ({"batches": {"min_samples": 300_000}}, "max_samples: found 272000, expected more than min_samples 300000"),
        ({"batches": {"min_samples": 600}}, "batches.min_samples: found 600, expected at least 640"),
        ({"perturbation": {"lowest_q": 6}}, "lowest_q: found 6, expected less than highest_q"),
        (
            {"perturbation": {"pitch_floor_hz": 39}},
            "pitch_floor_hz: found 39, expected at least 40: 20 times pitch_ratio",
        ),
        ({"codebook": {}}, "codebook: unknown key"),
    ],
)
def test_a_wrong_recipe_is_one_line(recipe: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said) as error:
        parse_settings(SpinRecipe, recipe, "recipe.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("recipe", sorted((TINY.parent / "spin").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_recipes_are_recipes(recipe: Path) -> None:
    read = parse_settings(SpinRecipe, yaml.safe_load(recipe.read_text()), str(recipe))
    if recipe.stem == "base":
        assert read == SpinRecipe()


# The experiment.


def with_spin(tmp_path: Path, spin: dict[str, Any], **encoders: Any) -> Path:
    """The tiny experiment with an encoder fine-tuned by Spin."""
    experiment = yaml.safe_load(TINY.read_text())
    entry = {"family": "spin", "recipe": "spin/tiny.yaml", "base": "spidr", "train": ["train"], "layers": [4]}
    experiment["encoders"] |= {**encoders, "spun": entry | {"quantizers": ["codebook"]} | spin}
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    return path


HUBERT = {"family": "hub", "source": "hubert-base", "layers": [12]}


@pytest.mark.parametrize(
    ("spin", "said"),
    [
        (
            {"base": "nobody"},
            "encoders.spun.base: found 'nobody', expected one of the HuBERTs, WavLMs and SpidRs: spidr",
        ),
        ({"base": "mfcc"}, "encoders.spun.base: found 'mfcc', expected one of"),
        ({"base": "dinosr"}, "encoders.spun.base: found 'dinosr', expected one of"),
        ({"base": "wav2vec"}, "encoders.spun.base: found 'wav2vec', expected one of"),
        ({"base": "spun"}, "encoders.spun.base: found 'spun', expected one of"),
        ({"train": ["lexical"]}, "encoders.spun.train: found 'lexical', expected one of the corpora of layout folder"),
        ({"train": []}, "encoders.spun.train: found"),
        ({"layers": [3, 4]}, r"encoders.spun.layers: found \[3, 4\] with quantizer codebook, expected \[4\]"),
        ({"layers": [5]}, "encoders.spun.layers: found 5, expected 0 to 4"),
        ({"recipe": "spin/base.yaml"}, "found model.frozen_blocks 10, expected at most 3: the encoder has 4 layers"),
        ({"base": "hubert", "layers": [13]}, "encoders.spun.layers: found 13, expected 0 to 12"),
    ],
)
def test_a_wrong_entry_is_one_line(tmp_path: Path, spin: dict[str, Any], said: str) -> None:
    wav2vec = HUBERT | {"source": "wav2vec2-base"}
    with pytest.raises(InputError, match=said) as error:
        read_experiment(with_spin(tmp_path, spin, hubert=HUBERT, wav2vec=wav2vec))
    assert "\n" not in str(error.value)


def test_a_fine_tuning_of_hubert_is_read(tmp_path: Path) -> None:
    spin = {"base": "hubert", "recipe": "spin/base.yaml", "layers": [12]}
    experiment = read_experiment(with_spin(tmp_path, spin, hubert=HUBERT))
    assert "spun-L12-codebook" in experiment.all_systems
    assert "spun" not in experiment.logged_encoders  # figure 2 is of pretrainings


def test_the_workflow_plans_the_fine_tuning(tmp_path: Path) -> None:
    target = "results/tiny/units/spun-L04-codebook/dev.jsonl"
    done = snakemake(tmp_path, "-n", "-p", target, experiment=with_spin(tmp_path, {}))
    assert done.returncode == 0, done.stderr[-3000:]
    text = done.stdout + done.stderr
    (job,) = [part for part in text.split("\n\n") if "rule finetune_spin:" in part]
    for named in ("input: results/tiny/encoders/spidr/config.json", "corpora/train/manifest.csv", "encoders/spun/base"):
        assert named in job
    assert "--base results/tiny/encoders/spidr --settings" in text
    assert json.dumps({"frozen_blocks": 2})[1:-1].replace(" ", "") in text.replace(" ", "")
    assert "rule pretrain:" in text
    assert text.count("encoders/spun/spin.safetensors") >= 2  # made, and read by those who make units
