"""Artifacts are whole or absent, settings are checked, bad input is one line."""

import errno
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from artifacts import files, parts
from artifacts.errors import InputError
from artifacts.files import (
    atomic_file,
    atomic_folder,
    read_csv,
    read_json,
    read_json_object,
    read_jsonl,
    require_keys,
    sha256,
    write_csv,
    write_json,
)
from artifacts.provenance import provenance
from artifacts.seeds import generator, seed_for
from artifacts.settings import Settings, load_settings, parse_settings, read_yaml


class Inner(Settings):
    layers: list[int]


class Outer(Settings):
    name: str
    inner: dict[str, Inner] = {}


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(RuntimeError), atomic_file(target) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for content in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert [p.name for p in target.iterdir()] == ["second"]
    with pytest.raises(RuntimeError), atomic_folder(target) as temporary:
        (temporary / "third").write_text("half")
        raise RuntimeError
    assert [p.name for p in target.iterdir()] == ["second"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_never_half_deleted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "folder"
    seen = []
    delete = shutil.rmtree

    def look_and_delete(path: Path, **options: bool) -> None:
        seen.append([p.name for p in target.iterdir()])
        delete(path, **options)

    monkeypatch.setattr(shutil, "rmtree", look_and_delete)
    for content in ("first", "second"):
        with atomic_folder(target) as temporary:
            (temporary / content).write_text(content)
    assert seen == [["first"], ["second"]]


KILLED = """
import os, signal, sys
from pathlib import Path
from artifacts.files import atomic_file, atomic_folder
with atomic_file(Path(sys.argv[1], "a.csv")) as file, atomic_folder(Path(sys.argv[1], "b")) as folder:
    file.write_text("half")
    (folder / "half").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_a_killed_writer_left_is_gone_once_its_file_is_written(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = sorted(p.name for p in tmp_path.iterdir())
    assert [name[:3] for name in left] == [".a.", ".b."]
    write_csv(tmp_path / "a.csv", ["x"], [])
    assert sorted(p.name for p in tmp_path.iterdir()) == [left[1], "a.csv"]
    with atomic_folder(tmp_path / "b"):
        pass
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.csv", "b"]


def test_what_is_being_written_is_left_to_its_writer(tmp_path: Path) -> None:
    for whole in (atomic_file, atomic_folder):
        with whole(tmp_path / "made") as first:
            with whole(tmp_path / "made") as second:
                assert first.exists()
            assert first != second
            assert first.exists()
        assert [p.name for p in tmp_path.iterdir()] == ["made"]


def test_who_is_taken_for_abandoned_before_the_lock_makes_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def unlocked(path: Path) -> int:
        made.append(path)
        if len(made) == 1:
            path.unlink()  # as another writer does that is quicker
        return os.open(path, os.O_RDWR)

    monkeypatch.setattr(parts, "_open", unlocked)
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert len(made) == 2
    assert (tmp_path / "a").read_text() == "whole"


def test_on_a_disk_without_locks_files_are_written_and_nothing_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(parts.fcntl, "flock", refuse)
    (tmp_path / ".a.left.part").touch()
    with atomic_file(tmp_path / "a") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a").read_text() == "whole"
    assert (tmp_path / ".a.left.part").exists()


def test_the_checksum_of_a_folder_sees_names_and_contents(tmp_path: Path) -> None:
    sums = set()
    for name, content in (("a", "1"), ("a", "2"), ("b", "1")):
        folder = tmp_path / f"{name}{content}"
        folder.mkdir()
        (folder / name).write_text(content)
        sums.add(sha256(folder))
    assert len(sums) == 3


@given(
    st.lists(
        st.fixed_dictionaries(
            {"a": st.text(st.characters(exclude_categories=["Cs", "Cc"])), "b": st.integers().map(str)}
        )
    )
)
def test_csv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[dict[str, str]]) -> None:
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    write_csv(path, ["a", "b"], rows)
    assert [row for _, row in read_csv(path, ["b", "a"])] == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1\n", "line 2: found 1 fields, expected 2"),
        ("a\n1\n", "line 1: found columns a, expected also b"),
        ("a,b,a\n", "line 1: a column occurs twice"),
        ("", "empty, expected columns a, b"),
    ],
)
def test_a_malformed_csv_is_named_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message):
        list(read_csv(path, ["a", "b"]))


def test_malformed_json_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "t.json"
    path.write_text('{"a": 1,\n oops}')
    with pytest.raises(InputError, match="line 2: not JSON"):
        read_json(path)
    path.write_text('{"a": 1}\n[1]\n')
    with pytest.raises(InputError, match=r"line 2: found '\[1\]', expected a JSON object"):
        list(read_jsonl(path))
    path.write_bytes(b'{"a": 1}\n\xff\n')
    with pytest.raises(InputError, match=r"t\.json: not UTF-8 text"):
        list(read_jsonl(path))
    path.write_text("[]")
    with pytest.raises(InputError, match=r"t\.json: found \[\], expected a JSON object"):
        read_json_object(path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(path, {"value": float("nan")})


def test_a_float_may_be_written_as_a_whole_number_but_no_number_as_true() -> None:
    kinds = {"rate": float, "units": int}
    require_keys({"rate": 50, "units": 4}, kinds, Path("config.json"))
    for value in (4.0, True, None):
        with pytest.raises(InputError, match=f"config.json: units: found {value}, expected int"):
            require_keys({"rate": 50.0, "units": value}, kinds, Path("config.json"))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"name": "x", "nom": 1}, "nom: unknown key .found 1., expected one of name, inner"),
        (
            {"name": "x", "inner": {"a": {"layers": [1], "k": 2}}},
            "inner.a.k: unknown key .found 2., expected one of layers",
        ),
        ({"name": "x", "inner": {"a": {"layers": ["one"]}}}, 'inner.a.layers.0: found "one", expected a valid integer'),
        ({}, "name: missing"),
        (None, "found null"),
    ],
)
def test_wrong_settings_name_the_key_what_was_found_and_what_was_expected(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(Outer, value, "here.yaml")


def test_settings_come_from_a_file_or_inline(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("name: x\n")
    assert load_settings(Outer, str(path)) == load_settings(Outer, '{"name": "x"}')
    with pytest.raises(InputError, match="--settings: not JSON"):
        load_settings(Outer, "{name: x")
    path.write_text("name: [\n")
    with pytest.raises(InputError, match="line 2: not YAML"):
        read_yaml(path)


def test_seeds_differ_by_purpose_and_never_by_run() -> None:
    assert seed_for(0, "masking", 1) == 4904092440613441904  # pinned: a change would change every result
    assert len({seed_for(s, p, k) for s in range(3) for p in ("a", "b") for k in range(3)}) == 18
    assert generator(1, "x").integers(1 << 30) == generator(1, "x").integers(1 << 30)


def test_bad_input_is_one_line_and_exit_code_2() -> None:
    code = "from artifacts.errors import *\ndef main(): raise InputError('a.csv, line 3: no')\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "error: a.csv, line 3: no\n")


def test_provenance_has_checksums_of_files(tmp_path: Path) -> None:
    path = tmp_path / "input"
    path.write_text("x")
    record = provenance({"k": 1}, {"input": path}, seed=3)
    assert record["inputs"]["input"]["sha256"] == sha256(path)
    assert record["seed"] == 3
    assert record["packages"]["numpy"]


FULL = """
from pathlib import Path
from artifacts.errors import run
from artifacts.files import atomic_file

def main():
    with atomic_file(Path("made") / "model.bin"), open("/dev/full", "wb", buffering=0) as disk:
        disk.write(bytes(100))

run(main)
"""


def test_a_full_disk_is_one_line_that_names_the_file_and_what_to_do(tmp_path: Path) -> None:
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}
    command = [sys.executable, "-c", FULL]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    expected = "error: made/model.bin: No space left on device; make room and start again\n"
    assert (done.returncode, done.stderr) == (os.EX_IOERR, expected)
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("is_full", [True, False])
def test_a_library_that_does_not_say_that_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_full: bool
) -> None:
    monkeypatch.setattr(files, "FULL_BYTES", 2**62 if is_full else 0)
    for whole in (atomic_file, atomic_folder):
        with pytest.raises(OSError if is_full else RuntimeError) as error, whole(tmp_path / "made"):
            raise RuntimeError("file write failed")
        assert not is_full or (error.value.errno, error.value.filename) == (errno.ENOSPC, str(tmp_path / "made"))
        assert list(tmp_path.iterdir()) == []
        with pytest.raises(InputError, match="bad"), whole(tmp_path / "made"):
            raise InputError("bad")


def test_an_input_that_may_not_be_read_keeps_its_own_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, atomic_file(tmp_path / "made"):
        (tmp_path / "input").read_text()
    assert error.value.filename == str(tmp_path / "input")
