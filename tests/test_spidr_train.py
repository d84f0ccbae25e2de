"""Pretraining, in this process and from the command line: outputs, log, losses, wrong input."""

import json
import weakref
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_spidr_training import RECIPE, call, command, final_state, log_values, manifest, new_stepper, run_training

from artifacts.errors import InputError
from artifacts.workers import ALONE
from corpora.manifest import read_manifest
from spidr.batches import Batches
from spidr.learner import Objective, Tally, build_learner
from spidr.settings import Recipe
from spidr.train import train
from spidr.validation import validate, warn_of_collapse

__all__ = ["manifest"]  # a fixture


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
    train(new_stepper(recipe), *made, tmp_path / "training")
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
        train(new_stepper(recipe), made, made, tmp_path / "training")
    assert not list((tmp_path / "training").glob("checkpoints/*"))


def test_a_validation_loss_that_is_not_finite_stops_the_training(manifest: Path, tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {**RECIPE, "optimizer": {"learning_rate": 1e30, "warmup_steps": 0}, "training": {"steps": 1}}
    )
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(
        InputError, match=r"validation: found a loss of nan, expected .*; lower optimizer.learning_rate"
    ):
        train(new_stepper(recipe), made, made, tmp_path / "training")


def test_weights_that_are_not_finite_are_not_saved(manifest: Path, tmp_path: Path) -> None:
    optimizer = {"learning_rate": 1e39, "warmup_steps": 0}  # the first step's loss is finite, its update is not
    training = {"checkpoint_every": 1, "steps": 2, "precision": "float32"}
    recipe = Recipe.model_validate({**RECIPE, "optimizer": optimizer, "training": training})
    made = Batches(read_manifest(manifest), recipe, 0)
    with pytest.raises(InputError, match=r"step 1\b.*lower optimizer.learning_rate"):
        train(new_stepper(recipe), made, made, tmp_path / "training")
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


def test_a_collapsed_codebook_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    warn_of_collapse({"codebook_perplexity": {"5": 100.0, "6": 2.3}}, 400, 256)
    assert capsys.readouterr().err == "warning: step 400: codebook perplexity of layer 6 at 2.3 of 256: collapsed\n"
    warn_of_collapse({"codebook_perplexity": {"5": 100.0}}, 400, 256)
    assert capsys.readouterr().err == ""


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
