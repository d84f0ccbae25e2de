"""A training that is stopped loses little: checkpoints, log and lock of a training folder."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from artifacts.checkpoints import load_newest_checkpoint, require_finite, save_checkpoint
from artifacts.errors import InputError
from artifacts.lock import locked, set_aside_another
from artifacts.log import Log


def save(folder: Path, *steps: int, keep: int = 2) -> None:
    for step in steps:
        save_checkpoint(folder, step, {"step": step, "weights": torch.full((1000,), float(step))}, keep)


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


def test_a_training_with_other_settings_sets_the_earlier_one_aside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_aside_another(tmp_path, {"recipe": {"rate": 0.1}, "seed": 0})
    (tmp_path / "log.jsonl").write_text("earlier")
    set_aside_another(tmp_path, {"recipe": {"rate": 0.1}, "seed": 0})
    assert (tmp_path / "log.jsonl").exists()
    assert capsys.readouterr().err == ""
    set_aside_another(tmp_path, {"recipe": {"rate": 0.2}, "seed": 0})
    assert "recipe.rate was 0.1, now 0.2" in capsys.readouterr().err
    assert not (tmp_path / "log.jsonl").exists()
    assert (tmp_path / "earlier-1" / "log.jsonl").read_text() == "earlier"
