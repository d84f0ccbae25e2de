"""A language model learns its corpus, and an interrupted training ends like one that was not."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn import functional
from transformers import AutoModelForCausalLM

import slm.train
from artifacts.errors import InputError, Stopped
from artifacts.files import sha256
from artifacts.settings import load_settings, parse_settings
from artifacts.workers import ALONE
from slm.batches import as_tensors, prefetch
from slm.identity import identity
from slm.loss import packed_logits
from slm.model import build_model
from slm.packing import IGNORED, PackedCorpus
from slm.pretrained import save_model
from slm.settings import OptimizerSettings, Slm, SlmRecipe
from slm.step import Outcome, Stepper, compile_blocks, learning_rate
from slm.store import TokenStore, write_store
from slm.train import train
from units.records import UnitSequence, write_units

NUM_UNITS = 12
CPU = torch.device("cpu")
CONFIG = Path(__file__).parent.parent / "config" / "slm"

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


@pytest.mark.parametrize("stop", [4, 13, 39])
def test_a_resumed_training_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: int
) -> None:
    take_step = Stepper.step

    def step_until_stop(*arguments: Any) -> Outcome:
        if arguments[-1] == stop:
            raise KeyboardInterrupt
        return take_step(*arguments)

    folder = tmp_path / "seed0"
    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "step", step_until_stop)
        with pytest.raises(KeyboardInterrupt):
            run_main(patch, stores, folder)
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)


SLOWLY = """
import time, slm.train
from artifacts.errors import run
from slm.step import Stepper

step = Stepper.step

def slow_step(*arguments):
    time.sleep(0.1)
    return step(*arguments)

Stepper.step = slow_step
run(slm.train.main)
"""


def test_a_training_stopped_by_a_signal_is_saved_at_once_and_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    command = [sys.executable, "-c", SLOWLY, *arguments(stores, folder)]
    job = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    while job.poll() is None and not ((folder / "log.jsonl").exists() and log_of(folder, "train")):
        time.sleep(0.01)
    job.send_signal(signal.SIGTERM)
    _, messages = job.communicate(timeout=30)
    assert job.returncode == 75, messages
    found = re.fullmatch(
        r"stopped by SIGTERM after step (\d+) of 40, saved: start again to go on", messages.splitlines()[-1]
    )
    assert found is not None, messages
    assert 3 <= int(found[1]) < 40
    assert max(path.name for path in (folder / "checkpoints").iterdir()) == f"step-{int(found[1]):08d}.pt"
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)


KILLED = """
import os, signal, sys, time
from pathlib import Path
import slm.train
from artifacts.errors import run
from slm.step import Stepper

step, saved = Stepper.step, Path(sys.argv[sys.argv.index("--output") + 1]) / "checkpoints" / "step-00000010.pt"

def killed_in_step_13(stepper, batches, number):
    if number == 13:
        while not saved.exists():
            time.sleep(0.01)
        stepper.gradients.average_and_clip = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
    return step(stepper, batches, number)

Stepper.step = killed_in_step_13
run(slm.train.main)
"""


def test_a_training_killed_within_a_step_ends_bit_for_bit_like_an_uninterrupted_one(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    job = subprocess.run([sys.executable, "-c", KILLED, *arguments(stores, folder)], capture_output=True, text=True)
    assert job.returncode == -signal.SIGKILL, job.stderr
    assert log_of(folder, "train")[-1]["step"] == 12  # beyond its checkpoint
    steps: list[int] = []
    take_step = Stepper.step
    monkeypatch.setattr(Stepper, "step", lambda *given: steps.append(given[-1]) or take_step(*given))
    run_main(monkeypatch, stores, folder)
    assert steps == list(range(10, 40))
    assert_same_training(folder, trained)


def test_a_training_in_pieces_of_a_time_budget_ends_like_one_in_one_piece(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    for step in range(1, 5):
        with pytest.raises(Stopped, match=f"stopped by time budget of 1e-06 s after step {step} of 40, saved"):
            run_main(monkeypatch, stores, folder, None, "--time-budget", "1e-6")
    run_main(monkeypatch, stores, folder)
    assert_same_training(folder, trained)


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


def one_step(recipe: SlmRecipe, corpus: PackedCorpus, step: int) -> Outcome:
    """A step of an untrained model."""
    settings = recipe.training
    numbers = range(step * settings.accumulation, (step + 1) * settings.accumulation)
    packed = [corpus.batch(number * settings.batch_size, settings.batch_size) for number in numbers]
    model = build_model(recipe.model, NUM_UNITS + 2, 0)
    outcome = Stepper(model, recipe, 0, ALONE).step([as_tensors(batch, "rows") for batch in packed], step)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    return outcome


def test_accumulated_batches_make_the_gradient_of_one(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    norms, losses = [], []
    for batch_size, accumulation in ((6, 1), (3, 2), (1, 6)):
        recipe = changed(model={"dropout": 0.0}, training={"batch_size": batch_size, "accumulation": accumulation})
        outcome = one_step(recipe, corpus, 3)
        losses.append(outcome.loss.item())
        norms.append(outcome.gradient_norm.item())
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)
    assert norms == pytest.approx([norms[0]] * 3, rel=1e-4)


def test_bfloat16_learns_nearly_the_same(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = changed(model={"dropout": 0.0}, training={"precision": precision})
        losses.append(one_step(recipe, corpus, 0).loss.item())
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-2)


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
        train(recipe, corpus, corpus, tmp_path, 0, CPU)
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
        train(changed(), corpus, corpus, tmp_path, 0, CPU)
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
    train(changed(training={"steps": 10}), corpus, corpus, tmp_path, 0, CPU)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train: ") and "left" in line]
    assert ["loss" in line for line in lines] == [False] * 2 + [True] * 8


def test_blocks_share_one_graph_and_compiled_they_compute_the_same(stores: Path) -> None:
    corpus = PackedCorpus([TokenStore(stores / "train")], 64, 0)
    counter = CompileCounter()
    compiled, plain = (build_model(changed(model={"num_layers": 4}).model, NUM_UNITS + 2, 0).eval() for _ in range(2))
    compile_blocks(compiled, backend=counter)
    for first in (0, 2, 4):
        packed = corpus.batch(first, 2)
        with torch.no_grad():
            found = packed_logits(compiled, as_tensors(packed, "blocks"))
            expected = packed_logits(plain, as_tensors(packed, "rows"))
        there = torch.from_numpy(packed.targets) != IGNORED
        torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-5)
    assert counter.frame_count == 1


def test_batches_are_those_of_the_corpus_whatever_is_made_ahead(stores: Path) -> None:
    corpus, again = (PackedCorpus([TokenStore(stores / "train")], 64, 0) for _ in range(2))
    spans = [(first, 2) for first in (0, 2, 9, 40, 41, 3)]
    for span, batch in zip(spans, prefetch(corpus, spans, "rows", CPU), strict=True):
        expected = again.batch(*span)
        assert np.array_equal(batch.inputs.numpy(), expected.inputs)
        assert np.array_equal(batch.targets.numpy(), expected.targets)
        assert batch.num_predicted == expected.num_predicted


def test_documents_together_are_another_training_and_said_so(
    trained: Path, stores: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_main(monkeypatch, stores, tmp_path / "seed0", changed(training={"documents": "together"}))
    apart, together = (json.loads((place / "summary.json").read_text()) for place in (trained, tmp_path / "seed0"))
    assert apart["packing"].endswith("attention within each")
    assert together["packing"].endswith("attention over the whole context")
    assert log_of(tmp_path / "seed0", "train") != log_of(trained, "train")
    assert together["tokens_seen"] == apart["tokens_seen"]


def test_the_learning_rate_rises_then_falls_to_its_final_value() -> None:
    settings = OptimizerSettings(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(step, 104, settings) for step in range(104)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[53] == pytest.approx(0.55)  # half way down
    assert rates[-1] == pytest.approx(0.1)
    assert all(before > after for before, after in pairwise(rates[3:]))


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
