"""The folder of a training: its log, its lock, and earlier trainings set aside."""

import errno
import fcntl
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError
from artifacts.lock import locked, set_aside_another
from artifacts.log import Log


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
