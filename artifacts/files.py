"""Files that are either whole or absent: written beside their place, then renamed into it."""

import csv
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from artifacts.errors import MADE_ANEW, InputError
from artifacts.parts import claimed


def _umask() -> int:
    umask = os.umask(0)
    os.umask(umask)
    return umask


UMASK = _umask()
"""Read once: to read it is to set it for all threads, and two that do so at once may leave it at 0."""
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
FULL_BYTES = 2**20
"""A disk with less room is full: libraries that have errors of their own (torch, libsndfile) do not tell."""
NOT_JSON = (ValueError, RecursionError)
"""What Python's reader of JSON raises: also for numbers of thousands of digits, and lists in lists without end."""


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends well.

    A failing block leaves neither file; a reader sees the old file or the whole new one.

    Raises:
        OSError: It cannot be written: the disk is full or read-only. It names `path`, also where a library has
            another error for it.
    """
    with claimed(path, is_folder=False) as temporary:
        try:
            with _naming(path, temporary):
                yield temporary
                temporary.chmod(0o666 & ~UMASK)
                _sync(temporary)
                temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; rename it to `path` when the block ends well.

    A folder already at `path` is replaced: renamed aside and only then deleted, so that whoever is
    killed here leaves the old folder, none, or the new one, never half of one.

    Raises:
        OSError: As `atomic_file`.
    """
    with claimed(path, is_folder=True) as beside:
        temporary = beside / "new"
        temporary.mkdir()
        try:
            with _naming(path, temporary):
                yield temporary
                for file in temporary.rglob("*"):
                    if file.is_file():
                        file.chmod(0o666 & ~UMASK)  # some libraries write for their owner alone
                        _sync(file)
                if path.exists():
                    path.rename(beside / "old")
                temporary.rename(path)
        finally:
            shutil.rmtree(beside, ignore_errors=True)


@contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Let what fails for want of room say so, and in the name of `path`, in whatever library it failed."""
    try:
        yield
    except InputError:
        raise
    except OSError as error:
        unnamed = error.filename is None and error.errno in NO_ROOM
        if unnamed or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise
    except Exception:
        disk = os.statvfs(path.parent)
        if disk.f_bavail * disk.f_frsize < FULL_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from None
        raise


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def link_or_copy(source: Path, target: Path) -> None:
    """Give a file, or the files of a folder, a second name without a second copy; copy where the disk has no links.

    What is at `target` is replaced. Both names are of files that are only ever replaced, never written into.
    """

    def one(file: str, other: str) -> None:
        try:
            os.link(file, other)
        except OSError:
            shutil.copyfile(file, other)

    if source.is_dir():
        with atomic_folder(target) as temporary:
            shutil.copytree(source, temporary, copy_function=one, dirs_exist_ok=True)
        return
    with atomic_file(target) as temporary:
        temporary.unlink()
        one(str(source), str(temporary))


def sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file, or of a folder's relative names and contents in sorted order."""
    if path.is_dir():
        digest = hashlib.sha256()
        for member in sorted(p for p in path.rglob("*") if p.is_file()):
            digest.update(f"{member.relative_to(path)} {sha256(member)}\n".encode())
        return digest.hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, keys in their own order; NaN is refused."""
    with atomic_file(path) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Read a JSON file; an absent or malformed one is an `InputError` naming file and line."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except NOT_JSON as error:
        line = f", line {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(f"{path}{line}: not JSON ({why_not_json(error)}); if it is a result, {MADE_ANEW}") from None


def why_not_json(error: Exception) -> str:
    """What is wrong with text that is no JSON, without the advice that some of `NOT_JSON` give to programmers."""
    if isinstance(error, json.JSONDecodeError):
        return error.msg
    return "nested too deeply" if isinstance(error, RecursionError) else "a number of too many digits"


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON file that holds an object; anything else is an `InputError`."""
    found = read_json(path)
    if not isinstance(found, dict):
        raise InputError(f"{path}: found {str(found)[:40]}, expected a JSON object")
    return found


def require_keys(found: Mapping[str, Any], kinds: Mapping[str, type], path: Path) -> None:
    """Check the types of some keys of `path`'s object; a float may be written as a whole number.

    Raises:
        InputError: A key is missing or of another type.
    """
    for key, kind in kinds.items():
        # `type` and not isinstance: true and false are no numbers.
        if type(found.get(key)) not in ((int, float) if kind is float else (kind,)):
            raise InputError(f"{path}: {key}: found {found.get(key)!r}, expected {kind.__name__}")


def write_jsonl(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object a line, streaming."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for record in records:
            file.write(json.dumps(record, ensure_ascii=False, allow_nan=False) + "\n")


def read_jsonl(path: Path, *, growing: bool = False) -> Iterator[tuple[int, dict[str, Any]]]:
    """Stream `(line number, object)` of a JSONL file; a malformed line is an `InputError`.

    Args:
        growing: It is still being written, or was when its writer died: a last line without its end is left out.
    """
    try:
        with path.open(encoding="utf-8") as file:
            for number, line in enumerate(file, start=1):
                if growing and not line.endswith("\n"):
                    return
                try:
                    record = json.loads(line)
                except NOT_JSON as error:
                    raise InputError(f"{path}, line {number}: not JSON ({why_not_json(error)})") from None
                if not isinstance(record, dict):
                    raise InputError(f"{path}, line {number}: found {line.strip()[:40]!r}, expected a JSON object")
                yield number, record
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as CSV with exactly `columns`, streaming; a row with other keys is a ValueError."""
    with atomic_file(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Stream `(line number, row)` of a CSV file that has at least `columns`, as strings.

    An absent file, a missing or doubled column or a row of the wrong length is an `InputError`
    naming file and line.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.reader(file)
            header = next(reader, None)
            if header is None:
                raise InputError(f"{path}: empty, expected columns {', '.join(columns)}")
            missing = [column for column in columns if column not in header]
            if missing:
                raise InputError(
                    f"{path}, line 1: found columns {', '.join(header)}, expected also {', '.join(missing)}"
                )
            if len(set(header)) < len(header):
                raise InputError(f"{path}, line 1: a column occurs twice in {', '.join(header)}")
            for fields in reader:
                if not fields:
                    continue
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}, line {reader.line_num}: found {len(fields)} fields, expected {len(header)}"
                    )
                yield reader.line_num, dict(zip(header, fields, strict=True))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: not UTF-8 text") from None
    except csv.Error as error:
        raise InputError(f"{path}: not CSV ({error})") from None
