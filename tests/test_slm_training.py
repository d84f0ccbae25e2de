"""A language model learns its corpus, and what is another training is trained anew."""

import json
import shutil
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from small_slm_training import NUM_UNITS, RECIPE, changed, log_of, new_stepper, run_main, stores, trained
from torch.nn import functional
from transformers import AutoModelForCausalLM

from artifacts.errors import InputError
from artifacts.files import sha256
from slm.identity import identity
from slm.model import build_model
from slm.packing import PackedCorpus
from slm.pretrained import save_model
from slm.settings import SlmRecipe
from slm.step import Outcome, Stepper
from slm.store import TokenStore
from slm.train import train

__all__ = ["stores", "trained"]  # fixtures


def test_the_summary_says_what_was_trained(trained: Path) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    best = min(log_of(trained, "validation"), key=lambda line: line["loss"])
    assert (summary["slm"], summary["corpus"], summary["vocab_size"]) == ("opt-test", "train+more", NUM_UNITS + 2)
    assert (summary["validation_loss"], summary["best_step"]) == (best["loss"], best["step"])
    assert summary["tokens_seen"] == log_of(trained, "train")[-1]["tokens_seen"]
    assert summary["steps"] == 40
    assert summary["epochs"] > 1


def test_what_it_is_trained_on_may_have_a_name_of_its_own(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(trained, tmp_path / "seed0")
    run_main(monkeypatch, stores, tmp_path / "seed0", None, "--corpus", "both")
    before, after = (
        json.loads((folder / "seed0" / "summary.json").read_text()) for folder in (trained.parent, tmp_path)
    )
    assert after["corpus"] == "both"
    assert after["validation_loss"] == before["validation_loss"]
    assert not (tmp_path / "seed0" / "earlier-1").exists()  # the same training, which had ended


def test_the_language_is_learnt(trained: Path) -> None:
    losses = [line["loss"] for line in log_of(trained, "validation")]
    assert losses[0] > 1.5
    assert min(losses) < 1.0  # the language's entropy is about 0.7 nats a token


def test_transformers_loads_the_best_model(trained: Path, stores: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(trained / "model")
    summary = json.loads((trained / "summary.json").read_text())
    valid = TokenStore(stores / "valid")
    nats, num_predicted = 0.0, 0
    with torch.no_grad():
        for number in range(valid.num_documents):
            tokens = torch.from_numpy(valid.document(number).astype(np.int64))
            logits = model(tokens[None, :-1]).logits[0]
            nats += functional.cross_entropy(logits, tokens[1:], reduction="sum").item()
            num_predicted += len(tokens) - 1
    assert nats / num_predicted == pytest.approx(summary["validation_loss"], rel=1e-6)
    assert model.num_parameters() == summary["num_parameters"]


def test_a_tracker_shows_the_numbers_of_the_log_and_makes_no_other_training(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[str, int, float]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert (folder, purge_step) == (str(tmp_path / "seed0" / "tensorboard"), 3)

        def add_scalar(self, name: str, number: float, step: int) -> None:
            shown.append((name, step, number))

        def close(self) -> None:
            shown.append(("closed", 40, 0.0))

    fake = ModuleType("torch.utils.tensorboard")
    fake.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    folder = tmp_path / "seed0"
    run_main(monkeypatch, stores, folder, changed(training={"trackers": ["tensorboard"]}))
    for split in ("train", "validation"):
        losses = [(step, number) for name, step, number in shown if name == f"{split}/loss"]
        assert losses == [(line["step"], line["loss"]) for line in log_of(folder, split)]
    assert shown[-1] == ("closed", 40, 0.0)
    monkeypatch.setattr(Stepper, "step", None)
    run_main(monkeypatch, stores, folder)  # as finished as without the tracker


def test_a_finished_training_is_not_repeated(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_step(*arguments: Any) -> Any:
        raise AssertionError

    before = (trained / "model" / "model.safetensors").read_bytes()
    monkeypatch.setattr(Stepper, "step", no_step)
    run_main(monkeypatch, stores, trained)
    assert (trained / "model" / "model.safetensors").read_bytes() == before


def test_a_training_with_other_settings_starts_afresh_and_keeps_the_earlier_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shutil.copytree(trained, tmp_path / "seed0")
    run_main(monkeypatch, stores, folder, changed(optimizer={"learning_rate": 0.02}))
    assert "recipe.optimizer.learning_rate was 0.01, now 0.02: training anew" in capsys.readouterr().err
    assert len(log_of(folder, "train")) == len(log_of(trained, "train"))
    assert log_of(folder, "train") != log_of(trained, "train")
    assert log_of(folder / "earlier-1", "train") == log_of(trained, "train")


@pytest.mark.parametrize("begun", [True, False])
def test_a_recipe_that_is_refused_leaves_what_was_there_as_it_was(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, begun: bool
) -> None:
    folder = tmp_path / "seed0"
    if begun:
        shutil.copytree(trained, folder)

    def there() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}

    before = there()
    for model in ({"architecture": {"model_type": "no-such-model"}}, {"init": str(tmp_path / "absent")}):
        refused = SlmRecipe.model_validate(RECIPE | {"model": {**model, "context": 64}})
        with pytest.raises(InputError, match=r"no-such-model|absent"):
            run_main(monkeypatch, stores, folder, refused)
    assert there() == before


def test_a_training_from_other_weights_is_another_training(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text, folder = tmp_path / "text", tmp_path / "seed0"
    recipe = SlmRecipe.model_validate(
        {
            "model": {"init": str(text), "context": 64},
            "training": RECIPE["training"] | {"steps": 2},
            "optimizer": RECIPE["optimizer"] | {"warmup_steps": 0},
        }
    )
    for seed in (0, 0, 1):
        save_model(build_model(changed().model, 20, seed), text)
        run_main(monkeypatch, stores, folder, recipe)
        capsys.readouterr() if seed == 0 else None
    assert "init.model.safetensors was" in (said := capsys.readouterr().err)
    assert "training anew, the earlier training is in" in said
    assert [path.name for path in folder.glob("earlier-*")] == ["earlier-1"]
    weights = sha256(text / "model.safetensors")
    assert json.loads((folder / "summary.json").read_text())["init"]["model.safetensors"] == weights


@pytest.mark.parametrize(
    ("validate_every", "message"),
    [
        (7, r"step \d+: found a loss of .* expected finite numbers"),
        (1, "validation: found a loss of (nan|inf), expected"),
    ],
)
def test_a_loss_that_is_not_finite_stops_the_training(
    stores: Path, tmp_path: Path, validate_every: int, message: str
) -> None:
    recipe = changed(optimizer={"learning_rate": 1e30, "warmup_steps": 0}, training={"validate_every": validate_every})
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    with pytest.raises(InputError, match=message):
        train(new_stepper(recipe), corpus, corpus, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_weights_spoilt_by_the_last_update_are_not_saved(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    take_step = Stepper.step

    def step_that_spoils(stepper: Stepper, *arguments: Any) -> Outcome:
        outcome = take_step(stepper, *arguments)
        if arguments[-1] == 9:
            next(stepper.model.parameters()).data.fill_(torch.inf)
        return outcome

    monkeypatch.setattr(Stepper, "step", step_that_spoils)
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    with pytest.raises(InputError, match=r"step 10: .* found a weight that is not finite"):
        train(new_stepper(changed()), corpus, corpus, tmp_path)
    assert not (tmp_path / "checkpoints").exists()


def test_a_training_knows_both_of_two_stores_of_one_corpus_name(stores: Path) -> None:
    first, second = TokenStore(stores / "train"), TokenStore(stores / "more")
    second.corpus = first.corpus
    both, other = (identity(changed(), 0, some, first)["tokens"] for some in ([first, second], [second, second]))
    assert both != other
    assert len(both) == 2


def test_the_last_logged_loss_stays_on_the_progress_line(
    stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("artifacts.progress.LINE_EVERY_S", 0)
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    train(new_stepper(changed(training={"steps": 10})), corpus, corpus, tmp_path)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ") and "left" in line]
    assert ["loss" in line for line in lines] == [False] * 2 + [True] * 8


def test_documents_together_are_another_training_and_said_so(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_main(monkeypatch, stores, tmp_path / "seed0", changed(training={"documents": "together"}))
    apart, together = (json.loads((place / "summary.json").read_text()) for place in (trained, tmp_path / "seed0"))
    assert apart["packing"].endswith("attention within each")
    assert together["packing"].endswith("attention over the whole context")
    assert log_of(tmp_path / "seed0", "train") != log_of(trained, "train")
    assert together["tokens_seen"] == apart["tokens_seen"]
