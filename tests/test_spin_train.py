"""Fine-tuning by Spin, in this process and from the command line: resumption, what stops it, what is refused."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY
from safetensors.torch import load_file, save_file
from small_spin_training import (
    assert_same_training,
    call,
    command,
    manifest,
    read_log,
    recipe_of,
    run_training,
    write_hub,
    write_spidr,
)

import spidr.batches
import spidr.step
import spidr.train
from artifacts.errors import InputError, Stopped
from artifacts.settings import parse_settings, read_yaml
from artifacts.workers import ALONE
from corpora.manifest import Utterance, read_manifest
from spidr.encoder import load_learner, write_encoder
from spidr.learner import build_learner
from spidr.settings import Recipe
from units.spin.batches import Batches
from units.spin.model import Spin, load_base
from units.spin.settings import SpinRecipe
from units.spin.train import Stepper, train

__all__ = ["manifest"]  # a fixture


def test_a_stopped_training_ends_as_if_it_had_never_stopped(manifest: Path, tmp_path: Path) -> None:
    base = write_hub(tmp_path / "base", "hubert")  # with dropout
    run_training(base, manifest, tmp_path / "whole")
    for done in (1, 2, 3):  # a step at a time
        with pytest.raises(Stopped, match=f"stopped by time budget of .* s after step {done} of 6, saved: start again"):
            run_training(base, manifest, tmp_path / "stopped", time_budget_s=1e-9)
    run_training(base, manifest, tmp_path / "stopped")
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")
    lines = read_log(tmp_path / "whole")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"loss", "agreement", "code_perplexity", "prediction_perplexity", "learning_rate"} < lines[0].keys()


def test_a_loss_that_is_not_finite_names_the_files_and_saves_nothing(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of(optimizer={"learning_rate": 1e38, "warmup_steps": 0})
    spin = Spin(load_base(write_spidr(tmp_path / "base")), recipe.model, 0)
    with pytest.raises(InputError, match=r"step \d: found a .*, expected finite numbers; lower .*learning_rate"):
        train(Stepper(spin, recipe, 0), Batches(read_manifest(manifest), recipe, 0), tmp_path / "training")
    assert not list((tmp_path / "training").glob("checkpoints/*"))


def test_bad_audio_is_one_line_although_another_process_reads_it(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "audio" / "u5.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"u5\.wav: not readable as audio") as error:
        run_training(write_spidr(tmp_path / "base"), manifest, tmp_path / "training")
    assert "\n" not in str(error.value)


def test_a_signal_saves_and_stops(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_spidr(tmp_path / "base")
    take_step = Stepper.step

    def signalled(self: Stepper, views: Any, step: int) -> Any:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, views, step)

    monkeypatch.setattr(Stepper, "step", signalled)
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 2 of 6, saved: start again to go on"):
        call(command(base, manifest, tmp_path / "spun", 6), monkeypatch)
    assert [path.name for path in (tmp_path / "spun" / "training" / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert not (tmp_path / "spun" / "config.json").exists()


def test_another_base_trains_anew(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_spidr(tmp_path / "base")
    call(command(base, manifest, tmp_path / "spun", 3), monkeypatch)
    call(command(base, manifest, tmp_path / "spun", 4), monkeypatch)  # to train longer is no other training
    assert "training anew" not in capsys.readouterr().err
    config = (base / "config.json").read_bytes()
    write_encoder(base, build_learner(load_learner(base).settings, 1), {})
    assert (base / "config.json").read_bytes() == config
    call(command(base, manifest, tmp_path / "spun", 4), monkeypatch)
    assert "training anew" in capsys.readouterr().err


def test_a_base_whose_source_has_changed_is_refused(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_hub(tmp_path / "base", "hubert")
    weights = base / "source" / "model.safetensors"
    save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="the source has changed; describe the encoder anew"):
        call(command(base, manifest, tmp_path / "spun", 1), monkeypatch)


@pytest.mark.slow
def test_on_recorded_speech_views_come_to_agree(recorded: Path, tmp_path: Path) -> None:
    paths = sorted(recorded.glob("audio/*/*.flac"))[:60]
    utterances = [Utterance(path.stem, path, soundfile.info(path).frames, path.parent.name) for path in paths]
    pretraining = parse_settings(Recipe, read_yaml(TINY.parent / "spidr" / "tiny.yaml"), "recipe")
    pretraining = pretraining.model_copy(update={"training": pretraining.training.model_copy(update={"steps": 250})})
    made = spidr.batches.Batches(utterances, pretraining, 0), spidr.batches.Batches(utterances[:4], pretraining, 1)
    stepper = spidr.step.Stepper(build_learner(pretraining.model, 0).train(), pretraining, 0, ALONE)
    spidr.train.train(stepper, *made, tmp_path / "spidr" / "training")
    write_encoder(tmp_path / "spidr", stepper.learner, {})

    recipe = parse_settings(SpinRecipe, read_yaml(TINY.parent / "spin" / "tiny.yaml"), "recipe")
    spin = Spin(load_base(tmp_path / "spidr"), recipe.model, 0)
    train(Stepper(spin, recipe, 0), Batches(utterances, recipe, 0), tmp_path / "training")
    lines = [json.loads(line) for line in (tmp_path / "training" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    assert lines[-1]["loss"] < np.log(64)  # what knows nothing of the frames gives
    assert lines[-1]["agreement"] > 1.3 * lines[0]["agreement"]
    assert lines[-1]["code_perplexity"] > lines[0]["code_perplexity"]
