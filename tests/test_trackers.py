"""TensorBoard and Weights & Biases are told what the log is told, where they are asked for."""

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.lock import set_aside_another
from artifacts.settings import parse_settings
from artifacts.trackers import Trackers
from slm.settings import SlmRecipe
from spidr.settings import Recipe

LINE = {
    "split": "train",
    "step": 3,
    "loss": 2.5,
    "seen": 7,
    "decay": None,
    "on": True,
    "perplexity": {"5": 1.5, "6": 2},
}
NUMBERS = {"train/loss": 2.5, "train/seen": 7, "train/perplexity/5": 1.5, "train/perplexity/6": 2}


class FakeError(Exception):
    pass


class FakeTool(ModuleType):
    """In the place of either package: writes down what it is asked for."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[Any] = []
        self.scalars: list[tuple[str, float, int]] = []
        self.Error = FakeError

    def SummaryWriter(self, log_dir: str, purge_step: int) -> "FakeTool":
        self.calls.append((log_dir, purge_step))
        return self

    def add_scalar(self, name: str, number: float, step: int) -> None:
        self.scalars.append((name, number, step))

    def close(self) -> None:
        self.calls.append("close")

    def init(self, **options: Any) -> "FakeTool":
        self.calls.append(options)
        return self

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.scalars += [(name, number, step) for name, number in numbers.items()]

    def finish(self, exit_code: int) -> None:
        self.calls.append(exit_code)


@pytest.fixture
def tensorboard(monkeypatch: pytest.MonkeyPatch) -> FakeTool:
    fake = FakeTool("torch.utils.tensorboard")
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return fake


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> FakeTool:
    fake = FakeTool("wandb")
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    return fake


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorboard", "torch.utils.tensorboard", "wandb"):
        monkeypatch.setitem(sys.modules, name, None)


def test_the_numbers_of_a_line_are_shown_by_split_key_and_inner_key(
    tmp_path: Path, tensorboard: FakeTool, wandb: FakeTool
) -> None:
    with Trackers(["tensorboard", "wandb"], tmp_path, {}) as trackers:
        trackers.write(LINE)
    expected = [(name, number, 3) for name, number in NUMBERS.items()]
    assert tensorboard.scalars == wandb.scalars == expected


def test_a_line_without_a_split_has_no_prefix(tmp_path: Path, tensorboard: FakeTool) -> None:
    with Trackers(["tensorboard"], tmp_path, {}) as trackers:
        trackers.write({"step": 1, "loss": 2.0})
    assert tensorboard.scalars == [("loss", 2.0, 1)]


def test_tensorboard_forgets_from_the_first_step_that_comes_again(tmp_path: Path, tensorboard: FakeTool) -> None:
    with Trackers(["tensorboard"], tmp_path, {}) as trackers:
        assert tensorboard.calls == []
        trackers.write(LINE)
        trackers.write(LINE | {"step": 4})
    assert tensorboard.calls == [(str(tmp_path / "tensorboard"), 3), "close"]


def test_a_training_is_one_run_of_wandb_however_often_it_is_started(tmp_path: Path, wandb: FakeTool) -> None:
    settings = {"optimizer": {"rate": 0.1}}
    for _ in range(2):
        with Trackers(["wandb"], tmp_path, settings):
            pass
    first, _, second, _ = wandb.calls
    assert first == second
    assert first == {"dir": str(tmp_path), "config": settings, "resume": "allow", "id": first["id"]}


def test_another_training_in_the_folder_is_another_run(tmp_path: Path, wandb: FakeTool) -> None:
    for seed in (0, 1):
        set_aside_another(tmp_path, {"seed": seed})
        with Trackers(["wandb"], tmp_path, {}):
            pass
    assert wandb.calls[0]["id"] != wandb.calls[2]["id"]
    assert (tmp_path / "earlier-1" / "wandb" / "id").read_text() == wandb.calls[0]["id"]


def test_wandb_learns_whether_the_training_ended_well(tmp_path: Path, wandb: FakeTool) -> None:
    with Trackers(["wandb"], tmp_path, {}):
        pass
    with pytest.raises(KeyboardInterrupt), Trackers(["wandb"], tmp_path, {}):
        raise KeyboardInterrupt
    assert [wandb.calls[1], wandb.calls[3]] == [0, 1]


def test_wandb_without_a_login_is_bad_input(tmp_path: Path, wandb: FakeTool, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> None:
        raise FakeError("No API key configured.\nUse wandb login.")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.raises(InputError, match=r"wandb did not start \(No API key configured.\); expected a login"):
        Trackers(["wandb"], tmp_path, {})


@pytest.mark.parametrize("name", ["tensorboard", "wandb"])
def test_what_is_not_installed_is_named_with_the_way_to_install_it(
    tmp_path: Path, nothing_installed: None, name: Any
) -> None:
    with pytest.raises(InputError, match=f"found {name}, which is not installed; .* -m pip install {name}"):
        Trackers([name], tmp_path, {})


def test_without_trackers_nothing_is_imported_or_written(tmp_path: Path, nothing_installed: None) -> None:
    with Trackers([], tmp_path, {}) as trackers:
        trackers.write(LINE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", [SlmRecipe, Recipe])
def test_recipes_know_both_and_no_other(kind: Any) -> None:
    asked = {"training": {"trackers": ["wandb", "tensorboard"]}}
    assert parse_settings(kind, asked, "r.yaml").training.trackers == ("wandb", "tensorboard")
    with pytest.raises(InputError, match=r'training\.trackers\.0: found "mlflow", expected'):
        parse_settings(kind, {"training": {"trackers": ["mlflow"]}}, "r.yaml")
