"""A pretraining that is stopped, killed or damaged ends as if nothing had been."""

import json
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from small_spidr_training import RECIPE, assert_same_training, call, command, manifest, new_stepper, run_training

from artifacts import checkpoints
from artifacts.errors import InputError, Stopped
from artifacts.workers import Workers
from corpora.manifest import read_manifest
from spidr.batches import Batches
from spidr.encoder import load_encoder
from spidr.settings import Recipe
from spidr.train import train

__all__ = ["manifest"]  # a fixture


def test_a_stopped_training_ends_as_if_it_had_never_stopped(manifest: Path, tmp_path: Path) -> None:
    whole = run_training(manifest, tmp_path / "whole")
    stopped = run_training(manifest, tmp_path / "stopped", steps=5)
    (stopped / "checkpoints" / "step-00000005.pt").unlink()  # it goes on from step 3, before the log's last line
    run_training(manifest, stopped)
    # The validation at step 5, where the stopped training thought that it ended, is cut with the rest.
    assert_same_training(stopped, whole)


def test_a_training_whose_time_is_up_saves_and_goes_on(manifest: Path, tmp_path: Path) -> None:
    whole = run_training(manifest, tmp_path / "whole")
    recipe = Recipe.model_validate({**RECIPE, "training": {**RECIPE["training"], "steps": 8}})
    utterances = read_manifest(manifest)
    made = Batches(utterances, recipe, 0), Batches(utterances[:4], recipe, 1)
    for done in range(1, 8):  # a step at a time
        said = f"stopped by time budget of .* s after step {done} of 8, saved: start again to go on"
        with pytest.raises(Stopped, match=said):
            train(new_stepper(recipe), *made, tmp_path / "stopped", time_budget_s=1e-9)
    # Nothing is left to stop after the last step.
    train(new_stepper(recipe), *made, tmp_path / "stopped", time_budget_s=1e-9)
    assert_same_training(tmp_path / "stopped", whole)


def test_no_worker_ends_before_the_checkpoint_is_on_disk(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A launcher ends the others as soon as one has ended with a code that is not 0."""
    order = []

    def write_slowly(*arguments: Any) -> None:
        time.sleep(0.3)
        write(*arguments)
        order.append("written")

    write = checkpoints._write
    monkeypatch.setattr(checkpoints, "_write", write_slowly)
    monkeypatch.setattr(Workers, "wait", lambda self: order.append("met"))
    recipe = Recipe.model_validate(RECIPE)
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(Stopped):
        train(new_stepper(recipe), made, made, tmp_path, time_budget_s=1e-9)
    assert order == ["written", "met"]


def test_sigterm_saves_and_stops(manifest: Path, tmp_path: Path) -> None:
    endless = {**RECIPE, "training": {**RECIPE["training"], "steps": 100_000, "checkpoint_every": 100_000}}
    arguments = command(manifest, tmp_path / "stopped")
    arguments[arguments.index("--settings") + 1] = json.dumps(endless)
    job = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
    log = tmp_path / "stopped" / "training" / "log.jsonl"
    while job.poll() is None and not (log.exists() and log.read_text()):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    said = job.communicate(timeout=60)[1]
    assert job.returncode == 75
    (saved,) = (tmp_path / "stopped" / "training" / "checkpoints").glob("step-*.pt")
    step = int(saved.stem.removeprefix("step-"))
    assert f"stopped by SIGTERM after step {step:,} of 100,000, saved: start again to go on" in said
    assert "Traceback" not in said
    assert not (tmp_path / "stopped" / "config.json").exists()


def test_a_damaged_checkpoint_is_passed_over(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run_training(manifest, tmp_path / "whole")
    damaged = run_training(manifest, tmp_path / "damaged", steps=6)
    newest = damaged / "checkpoints" / "step-00000006.pt"
    newest.write_bytes(newest.read_bytes()[:5000])
    run_training(manifest, damaged)
    assert "step-00000006.pt: damaged, passed over" in capsys.readouterr().err
    assert_same_training(damaged, whole)


def test_the_newest_checkpoints_are_kept(manifest: Path, tmp_path: Path) -> None:
    folder = run_training(manifest, tmp_path / "training")
    assert [path.name for path in sorted((folder / "checkpoints").iterdir())] == [
        "step-00000006.pt",
        "step-00000008.pt",
    ]


def test_a_training_past_the_last_step_is_refused(manifest: Path, tmp_path: Path) -> None:
    folder = run_training(manifest, tmp_path / "training", steps=3)
    with pytest.raises(InputError, match=r"checkpoints: found a training of 3 steps, expected at most 2"):
        run_training(manifest, folder, steps=2)


def test_the_command_writes_an_encoder_and_goes_on_after_a_kill(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    call(command(manifest, whole, steps=40), monkeypatch)
    job = subprocess.Popen(command(manifest, killed, steps=40), stderr=subprocess.DEVNULL)
    while job.poll() is None and not list(killed.glob("training/checkpoints/step-*.pt")):
        time.sleep(0.01)
    again = subprocess.run(command(manifest, killed, steps=40), capture_output=True, text=True)
    if job.poll() is None:
        assert again.returncode == 2
        assert "another process is training here" in again.stderr
        job.send_signal(signal.SIGKILL)
        job.wait()
        subprocess.run(command(manifest, killed, steps=40), check=True, capture_output=True)
    expected, found = (load_file(folder / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())
    config = json.loads((killed / "config.json").read_text())
    assert (config["family"], config["frame_rate_hz"], config["tap"]) == ("spidr", 50, "ffn")
    assert config["codebook_layers"] == [2, 3]
    summary = json.loads((killed / "training" / "summary.json").read_text())
    assert summary["steps"] == 40
    assert summary["samples_per_step"] * 40 == pytest.approx(summary["hours"] * 3600 * 16_000)
    assert 0 < summary["samples_per_step"] <= RECIPE["batches"]["max_batch_samples"]
    assert load_encoder(killed, torch.device("cpu")).num_layers == 3


def test_the_command_trains_anew_where_another_training_was_begun(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    call(command(manifest, tmp_path), monkeypatch)
    call(command(manifest, tmp_path, steps=6), monkeypatch)  # to train longer is no other training
    assert "training anew" not in capsys.readouterr().err
    call(command(manifest, tmp_path, codebook_size=9), monkeypatch)
    assert "settings.json: recipe.model.codebook_size was 8, now 9: training anew" in capsys.readouterr().err
    call(command(manifest, tmp_path, "--seed", "1", codebook_size=9), monkeypatch)
    assert "settings.json: seed was 0, now 1: training anew" in capsys.readouterr().err
    kept = [path.name for path in sorted(tmp_path.glob("training/earlier-*/checkpoints/*"))]
    assert kept == ["step-00000004.pt", "step-00000006.pt", "step-00000003.pt", "step-00000004.pt"]
