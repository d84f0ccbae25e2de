"""Training from the command line: outputs, resumption, damage, wrong input."""

import json
import signal
import subprocess
import sys
import time
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from artifacts import checkpoints
from artifacts.errors import InputError, Stopped
from artifacts.workers import ALONE, Workers
from corpora.manifest import Utterance, read_manifest, write_manifest
from spidr.batches import Batches
from spidr.encoder import load_encoder
from spidr.learner import Objective, Tally, build_learner
from spidr.settings import Recipe
from spidr.train import main, train
from spidr.validation import validate, warn_of_collapse

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


def run_training(manifest: Path, folder: Path, steps: int = 8, **training: Any) -> Path:
    """Train in this process for `steps` steps, or go on with what is in `folder`."""
    recipe = Recipe.model_validate({**RECIPE, "training": {**RECIPE["training"], "steps": steps, **training}})
    utterances = read_manifest(manifest)
    made = Batches(utterances, recipe, 0), Batches(utterances[:4], recipe, 1)
    train(recipe, *made, folder, 0, torch.device("cpu"))
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
    arguments = recipe, *made, tmp_path / "stopped", 0, torch.device("cpu")
    for done in range(1, 8):  # a step at a time
        said = f"stopped by time budget of .* s after step {done} of 8, saved: start again to go on"
        with pytest.raises(Stopped, match=said):
            train(*arguments, time_budget_s=1e-9)
    train(*arguments, time_budget_s=1e-9)  # nothing is left to stop after the last step
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
        train(recipe, made, made, tmp_path, 0, torch.device("cpu"), time_budget_s=1e-9)
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


def test_bad_audio_that_is_left_out_is_named_and_counted(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "audio" / "u5.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"u5\.wav: not readable as audio"):
        run_training(manifest, tmp_path / "fails")
    folder = run_training(manifest, tmp_path / "skips", bad_audio="skip")
    met = capsys.readouterr().err.count("u5.wav: not readable as audio")
    assert met > 1
    assert final_state(folder)["num_left_out"] == met


def test_bad_audio_that_validation_leaves_out_is_named_and_counted(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    speech = read_manifest(manifest)
    speech[1].path.write_bytes(b"")
    recipe = Recipe.model_validate({**RECIPE, "training": {**RECIPE["training"], "bad_audio": "skip", "steps": 8}})
    made = Batches(speech[4:], recipe, 0), Batches(speech[:4], recipe, 1)
    train(recipe, *made, tmp_path / "training", 0, torch.device("cpu"))
    counts = [line["utterances_left_out"] for line in log_values(tmp_path / "training") if line["split"] != "train"]
    assert counts == [1, 1]
    assert capsys.readouterr().err.count("left out: ") == 2
    assert final_state(tmp_path / "training")["num_left_out"] == 0  # of what is learnt from


def test_utterances_that_are_too_short_are_counted_of_both_corpora(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = command(manifest, tmp_path / "made", steps=1)
    place = arguments.index("--settings") + 1
    recipe = json.loads(arguments[place])
    recipe["batches"]["min_samples"] = 5000  # of 4,000, 4,700, 5,400 ...
    arguments[place] = json.dumps(recipe)
    call(arguments, monkeypatch)
    said = capsys.readouterr().out
    for what in ("training", "validation"):
        assert f"2 of 12 utterances for {what} are left out: shorter than 5000 samples\n" in said


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


def test_the_log_says_what_was_learnt(manifest: Path, tmp_path: Path) -> None:
    lines = log_values(run_training(manifest, tmp_path / "training"))
    assert [(line["split"], line["step"]) for line in lines] == [
        ("train", 2), ("train", 4), ("validation", 4), ("train", 6), ("train", 8), ("validation", 8)
    ]  # fmt: skip
    for line in lines:
        for key in ("codebook_perplexity", "prediction_perplexity"):
            assert list(line[key]) == ["2", "3"]
            assert all(1 <= value <= 8.001 for value in line[key].values())
        assert all(1 <= value <= 8 for value in line["active_codewords"].values())
    assert lines[0]["learning_rate"] == pytest.approx(5e-4 * 0.505)
    assert lines[0]["teacher_decay"] == pytest.approx(0.999, abs=1e-6)


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_files(manifest: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate({**RECIPE, "optimizer": {"learning_rate": 1e30, "warmup_steps": 0}})
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(
        InputError, match=r"step \d+: found a loss of .*nan, expected finite numbers; lower .* files are u\d+, u"
    ):
        train(recipe, made, made, tmp_path / "training", 0, torch.device("cpu"))
    assert not list((tmp_path / "training").glob("checkpoints/*"))


def test_a_validation_loss_that_is_not_finite_stops_the_training(manifest: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {**RECIPE, "optimizer": {"learning_rate": 1e30, "warmup_steps": 0}, "training": {"steps": 1}}
    )
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(
        InputError, match=r"validation: found a loss of nan, expected .*; lower optimizer.learning_rate"
    ):
        train(recipe, made, made, tmp_path / "training", 0, torch.device("cpu"))


def test_weights_that_are_not_finite_are_not_saved(manifest: Path, tmp_path: Path) -> None:
    optimizer = {"learning_rate": 1e39, "warmup_steps": 0}  # the first step's loss is finite, its update is not
    training = {"checkpoint_every": 1, "steps": 2, "precision": "float32"}
    recipe = Recipe.model_validate({**RECIPE, "optimizer": optimizer, "training": training})
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(InputError, match=r"step 1\b.*lower optimizer.learning_rate"):
        train(recipe, made, made, tmp_path / "training", 0, torch.device("cpu"))
    assert not list((tmp_path / "training").glob("checkpoints/*"))


def test_validation_averages_its_batches_and_keeps_none_of_them(manifest: Path) -> None:
    recipe = Recipe.model_validate(RECIPE)
    batches = Batches(read_manifest(manifest), recipe, 1)
    learner = build_learner(recipe.model, 0)
    losses, alive, most_alive = [], [], 0

    def watch(_: object, __: object, tally: Tally) -> None:
        nonlocal most_alive
        losses.append(Objective.of(tally).loss.item())
        alive.append(weakref.ref(tally.clusters.sums))
        most_alive = max(most_alive, sum(sums() is not None for sums in alive))

    learner.register_forward_hook(watch)
    measured = validate(learner, batches, torch.device("cpu"), ALONE)
    assert len(losses) == batches.batches_per_epoch > 2
    assert measured["loss"] == pytest.approx(np.mean(losses))
    assert most_alive <= 2  # this batch's and the one's before


def test_a_training_past_the_last_step_is_refused(manifest: Path, tmp_path: Path) -> None:
    folder = run_training(manifest, tmp_path / "training", steps=3)
    with pytest.raises(InputError, match=r"checkpoints: found a training of 3 steps, expected at most 2"):
        run_training(manifest, folder, steps=2)


def test_a_collapsed_codebook_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_collapse({"codebook_perplexity": {"5": 100.0, "6": 2.3}}, 400, 256)
    assert capsys.readouterr().err == "warning: step 400: codebook perplexity of layer 6 at 2.3 of 256: collapsed\n"
    warn_of_collapse({"codebook_perplexity": {"5": 100.0}}, 400, 256)
    assert capsys.readouterr().err == ""


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


def test_an_untrained_encoder_is_the_start_of_the_training_with_its_seed(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(command(manifest, tmp_path / "untrained", "--untrained"), monkeypatch)
    call(command(manifest, tmp_path / "start", steps=0), monkeypatch)
    untrained, start = (load_file(tmp_path / name / "model.safetensors") for name in ("untrained", "start"))
    assert all(torch.equal(start[name], tensor) for name, tensor in untrained.items())
    assert not (tmp_path / "untrained" / "training").exists()


def test_dinosr_is_the_model_whose_heads_read_the_last_layer(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call(command(manifest, tmp_path, "--untrained", predict_from="last_layer"), monkeypatch)
    assert json.loads((tmp_path / "config.json").read_text())["family"] == "dinosr"
