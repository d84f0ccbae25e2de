"""A training that is stopped loses little: checkpoints, log and lock of a training folder."""

import errno
import fcntl
import json
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
from artifacts.lock import locked, set_aside_another
from artifacts.log import Log


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


def test_a_resumed_log_is_that_of_a_training_without_interruption(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path, 0) as log:
        for step in (1, 2, 3):
            log.write({"step": step})
    with path.open("a") as file:
        file.write('{"step": 4, "lo')
    with Log(path, 2) as log:
        log.write({"step": 3, "again": True})
    assert [json.loads(line) for line in path.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2},
        {"step": 3, "again": True},
    ]


def test_two_processes_never_train_in_one_folder(tmp_path: Path) -> None:
    code = f"from pathlib import Path\nfrom artifacts.lock import locked\nwith locked(Path({str(tmp_path)!r})): pass"
    with locked(tmp_path), pytest.raises(InputError, match="another process is training here"), locked(tmp_path):
        pass
    with locked(tmp_path):
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process is training here" in other.stderr
    with locked(tmp_path):
        pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_on_a_disk_without_locks_a_training_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    def flock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path / "training"):
        pass
    missing = f"this disk has no locks ({os.strerror(number)}): nothing keeps a second process out"
    assert capsys.readouterr().err == f"warning: {tmp_path / 'training'}: {missing}\n"


def test_a_lock_that_fails_on_a_disk_that_has_them_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path):
        pass


def test_a_training_set_aside_takes_the_place_of_none_that_was(tmp_path: Path) -> None:
    for seed in range(4):  # to earlier-1, -2 and -3
        set_aside_another(tmp_path, {"seed": seed})
    for number in (1, 2):
        (tmp_path / f"earlier-{number}" / "settings.json").unlink()
        (tmp_path / f"earlier-{number}").rmdir()
    (tmp_path / "earlier-runs").mkdir()  # somebody's own
    set_aside_another(tmp_path, {"seed": 4})
    assert json.loads((tmp_path / "earlier-4" / "settings.json").read_text()) == {"seed": 3}


def test_a_training_with_other_settings_sets_the_earlier_one_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_aside_another(tmp_path, {"recipe": {"rate": 0.1}, "seed": 0})
    (tmp_path / "log.jsonl").write_text("earlier")
    (tmp_path / "tensorboard").mkdir()
    set_aside_another(tmp_path, {"recipe": {"rate": 0.1}, "seed": 0})
    assert (tmp_path / "log.jsonl").exists()
    assert capsys.readouterr().err == ""
    set_aside_another(tmp_path, {"recipe": {"rate": 0.2}, "seed": 0})
    assert "recipe.rate was 0.1, now 0.2" in capsys.readouterr().err
    assert not (tmp_path / "log.jsonl").exists()
    assert not (tmp_path / "tensorboard").exists()
    assert (tmp_path / "earlier-1" / "log.jsonl").read_text() == "earlier"
