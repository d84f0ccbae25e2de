"""What tells an encoder from another: checksums of all that it is loaded from.

Mostly all of it lies in the encoder's folder. A model of transformers may lie in a folder of its own, the ``source``
of ``family: hub``: the checksums in config.json say which weights were meant. A source on the hub has a revision.
"""

from functools import cache
from pathlib import Path
from typing import Any

from artifacts.errors import InputError
from artifacts.files import read_json_object, sha256


def source_files(source: str) -> list[Path]:
    """What transformers reads of a folder: configuration and weights; nothing where `source` is a name on the hub."""
    folder = Path(source)
    if not folder.is_dir():
        return []
    weights = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("pytorch_model*.bin"))
    return [file for file in (folder / "config.json", *weights) if file.is_file()]


def source_checksums(source: str) -> dict[str, str]:
    """Checksum of each of `source_files`, by its name."""
    return {file.name: checksum(file) for file in source_files(source)}


def encoder_checksums(folder: Path) -> dict[str, str]:
    """Checksums of an encoder folder's configuration and weights, by their paths in it.

    Raises:
        InputError: The folder has no configuration, or weights that lie elsewhere are not those that it was made for.
    """
    where = folder / "config.json"
    _check_source(where, read_json_object(where))
    weights = [
        file
        for file in sorted(folder.rglob("*.safetensors"))
        if "training" not in file.relative_to(folder).parts  # its checkpoints
    ]
    return {str(file.relative_to(folder)): checksum(file) for file in (where, *weights)}


def _check_source(where: Path, config: dict[str, Any]) -> None:
    source = config.get("source")
    if config.get("family") != "hub" or not isinstance(source, str):
        return
    if not Path(source).is_absolute() and (where.parent / source).is_dir():
        return  # its weights are among the folder's
    found, expected = source_checksums(source), config.get("checksums") or {}
    for name in sorted(found.keys() | expected.keys()):
        if found.get(name) != expected.get(name):
            raise InputError(
                f"{where}: checksums: found {_short(found.get(name))} of {source}/{name}, expected "
                f"{_short(expected.get(name))}: the source has changed; describe the encoder anew "
                "(python -m units.encoders describe, or the workflow)"
            )


def _short(found: str | None) -> str:
    return "none" if found is None else f"{found[:12]}..."


def checksum(path: Path) -> str:
    """SHA-256 of a file, made once in a process as long as the file stays the same."""
    found = path.stat()
    return _checksum(path, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


@cache
def _checksum(path: Path, *_: int) -> str:
    return sha256(path)
