"""Checkpoints: they hold what was there when they were taken, and a damaged one is passed over."""

import errno
import os
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts import checkpoints
from artifacts.checkpoints import CheckpointWriter, load_newest_checkpoint, require_finite
from artifacts.errors import InputError


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    with CheckpointWriter(folder, keep) as checkpoints:
        for step in steps:
            checkpoints.save(step, {"step": step, "weights": torch.full((1000,), float(step))})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_newest_checkpoints_are_kept_and_the_newest_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 10, 20, 100)
    assert names(tmp_path) == ["step-00000020.pt", "step-00000100.pt"]
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 100
    assert torch.equal(state["weights"], torch.full((1000,), 100.0))


def test_a_folder_without_checkpoints_has_none(tmp_path: Path) -> None:
    assert load_newest_checkpoint(tmp_path / "absent") is None


class Disk:
    """In the place of `torch.save`: a disk that can be slow, or full."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._save = torch.save
        self.is_ready = threading.Event()
        self.is_full = False
        monkeypatch.setattr(torch, "save", self.save)

    def save(self, *arguments: Any) -> None:
        self.is_ready.wait(30)
        if self.is_full:
            raise OSError("no space left")
        self._save(*arguments)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_a_checkpoint_holds_what_was_there_when_it_was_taken(tmp_path: Path, disk: Disk) -> None:
    weights, moments, numbers = torch.zeros(1000), [torch.zeros(2, 3)[:, 1]], {"losses": [1.0]}
    with CheckpointWriter(tmp_path, 2) as checkpoints:
        checkpoints.save(10, {"weights": weights, "optimizer": {"state": moments}, "numbers": numbers, "pair": (1, 2)})
        weights += 1
        moments[0] += 1
        moments.append(torch.ones(1))
        numbers["losses"].append(0.5)
        disk.is_ready.set()
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert torch.equal(state["weights"], torch.zeros(1000))
    assert len(state["optimizer"]["state"]) == 1
    assert torch.equal(state["optimizer"]["state"][0], torch.zeros(2))
    assert (state["numbers"], state["pair"]) == ({"losses": [1.0]}, (1, 2))


def test_a_training_comes_back_as_it_was(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.rand(8, 4)).sum().backward()
    optimizer.step()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    with CheckpointWriter(tmp_path, 2) as checkpoints:
        checkpoints.save(1, state)
    loaded = load_newest_checkpoint(tmp_path)
    assert loaded is not None
    assert isinstance(loaded["model"], OrderedDict)
    assert loaded["model"]._metadata == state["model"]._metadata  # the versions of the modules
    for key, value in state["model"].items():
        assert torch.equal(loaded["model"][key], value)
    for key, moments in state["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(loaded["optimizer"]["state"][key][name], value)
    assert loaded["optimizer"]["param_groups"] == state["optimizer"]["param_groups"]


def test_weights_that_are_tied_are_written_once(tmp_path: Path) -> None:
    weights = torch.rand(100, 100)
    for name, state in (("one", {"a": weights}), ("tied", {"a": weights, "b": weights.detach(), "c": weights.T})):
        with CheckpointWriter(tmp_path / name, 2) as checkpoints:
            checkpoints.save(1, state)
    one, tied = ((tmp_path / name / "step-00000001.pt").stat().st_size for name in ("one", "tied"))
    assert tied < 2.5 * one  # the transposed is laid out otherwise
    loaded = load_newest_checkpoint(tmp_path / "tied")
    assert loaded is not None
    assert torch.equal(loaded["b"], weights)
    assert torch.equal(loaded["c"], weights.T)


def test_the_training_goes_on_while_a_checkpoint_is_written_and_the_next_waits_for_it(
    tmp_path: Path, disk: Disk
) -> None:
    with CheckpointWriter(tmp_path, 2) as checkpoints:
        checkpoints.save(10, {"step": 10})
        assert load_newest_checkpoint(tmp_path) is None
        threading.Timer(0.2, disk.is_ready.set).start()
        checkpoints.save(20, {"step": 20})
        assert "step-00000010.pt" in names(tmp_path)
        checkpoints.wait()
        assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt"]


def test_a_write_that_failed_is_an_error_of_the_next_save_and_of_no_later_one(tmp_path: Path, disk: Disk) -> None:
    disk.is_ready.set()
    with CheckpointWriter(tmp_path, 2) as checkpoints:
        disk.is_full = True
        checkpoints.save(10, {"step": 10})
        with pytest.raises(OSError, match="no space left"):
            checkpoints.save(20, {"step": 20})
        disk.is_full = False
        checkpoints.save(30, {"step": 30})
    assert names(tmp_path) == ["step-00000030.pt"]


def test_the_last_write_is_waited_for_and_its_failure_is_an_error(tmp_path: Path, disk: Disk) -> None:
    disk.is_full = True
    with pytest.raises(OSError, match="no space left"), CheckpointWriter(tmp_path, 2) as checkpoints:
        checkpoints.save(10, {"step": 10})
        disk.is_ready.set()
    assert names(tmp_path) == []


def test_a_failed_write_does_not_hide_what_ended_the_training(
    tmp_path: Path, disk: Disk, capsys: pytest.CaptureFixture[str]
) -> None:
    disk.is_full = True
    with pytest.raises(InputError, match="a loss"), CheckpointWriter(tmp_path, 2) as checkpoints:
        checkpoints.save(10, {"step": 10})
        disk.is_ready.set()
        raise InputError("a loss is not finite")
    assert f"warning: {tmp_path}: the last checkpoint was not written (no space left)" in capsys.readouterr().err


def test_a_process_killed_while_it_writes_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    code = f"""
import time, torch
from pathlib import Path
from artifacts.checkpoints import CheckpointWriter

def write_half(state, path):
    path.write_bytes(b"half")
    print("writing", flush=True)
    time.sleep(60)

with CheckpointWriter(Path({str(tmp_path)!r}), 2) as checkpoints:
    checkpoints.save(10, {{"step": 10}})
    checkpoints.wait()
    torch.save = write_half
    checkpoints.save(20, {{"step": 20}})
    time.sleep(60)
"""
    job = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert job.stdout is not None
    assert job.stdout.readline() == "writing\n"
    job.send_signal(signal.SIGKILL)
    job.communicate()
    assert len(names(tmp_path)) == 2  # step 10, and half of step 20 under another name
    assert load_newest_checkpoint(tmp_path) == {"step": 10}
    save(tmp_path, 20)
    assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt"]


def test_what_a_killed_writer_left_is_removed(tmp_path: Path) -> None:
    (tmp_path / ".step-00000010.pt.abc").write_bytes(b"half")
    save(tmp_path, 10)
    assert names(tmp_path) == ["step-00000010.pt"]


def flipped(content: bytes) -> bytes:
    return content[: len(content) // 2] + bytes([content[len(content) // 2] ^ 1]) + content[len(content) // 2 + 1 :]


@pytest.mark.parametrize(
    "damage", [lambda content: b"", lambda content: content[:-500], lambda content: b"junk" * 100, flipped]
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damage: "type[bytes]"
) -> None:
    save(tmp_path, 10, 20)
    newest = tmp_path / "step-00000020.pt"
    newest.write_bytes(damage(newest.read_bytes()))
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 10
    assert f"{newest}: damaged, passed over" in capsys.readouterr().err


def test_a_checkpoint_runs_no_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(tmp_path, 10)
    torch.save({"step": 20, "code": Path("x")}, tmp_path / "step-00000020.pt")
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 10
    assert "passed over" in capsys.readouterr().err


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_checkpoint_never_outlives_those_taken_after_going_back(tmp_path: Path, keep: int) -> None:
    (tmp_path / "step-00000030.pt").write_bytes(b"junk")
    save(tmp_path, 10, 20, keep=keep)
    assert names(tmp_path) == ["step-00000010.pt", "step-00000020.pt"][-keep:]


def test_whatever_bytes_change_the_checkpoint_before_is_loaded(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    newest = tmp_path / "step-00000020.pt"
    whole = newest.read_bytes()
    for place in range(-600, 0, 3):  # the archive's directory, read before any checksum
        content = bytearray(whole)
        content[place] ^= 0x80
        newest.write_bytes(content)
        state = load_newest_checkpoint(tmp_path)
        assert state is not None
        assert torch.equal(state["weights"], torch.full((1000,), float(state["step"])))


def test_a_folder_of_damaged_checkpoints_only_is_an_error(tmp_path: Path) -> None:
    save(tmp_path, 10, 20)
    for path in tmp_path.iterdir():
        path.write_bytes(b"")
    with pytest.raises(InputError, match=f"{tmp_path}: found 2 damaged checkpoints, .*; remove them to start afresh"):
        load_newest_checkpoint(tmp_path)


def failing(times: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the newest checkpoint's first readings fail as the system does."""
    left = [times]

    def read(path: Path) -> dict[str, Any]:
        if path.name == "step-00000020.pt" and left[0] > 0:
            left[0] -= 1
            raise OSError(number, os.strerror(number), str(path))
        return whole(path)

    whole = checkpoints._read
    monkeypatch.setattr(checkpoints, "_read", read)


@pytest.mark.parametrize("number", [errno.ESTALE, errno.EACCES, errno.EIO])
def test_a_checkpoint_that_the_system_does_not_let_be_read_is_not_taken_for_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    save(tmp_path, 10, 20)
    failing(2, number, monkeypatch)
    with pytest.raises(InputError, match=rf"step-00000020\.pt: found {errno.errorcode[number]} \(.*it may be whole"):
        load_newest_checkpoint(tmp_path)


def test_a_checkpoint_that_is_read_at_the_second_attempt_is_the_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save(tmp_path, 10, 20)
    failing(1, errno.ESTALE, monkeypatch)
    state = load_newest_checkpoint(tmp_path)
    assert state is not None
    assert state["step"] == 20
    assert capsys.readouterr().err == ""


def test_weights_that_are_not_finite_are_named() -> None:
    state = {"a": torch.ones(3), "steps": torch.tensor(4)}
    require_finite(state, 7)
    with pytest.raises(InputError, match=r"step 7: b\.weight: found a weight that is not finite, .*learning_rate"):
        require_finite(state | {"b.weight": torch.tensor([1.0, torch.inf])}, 7)
