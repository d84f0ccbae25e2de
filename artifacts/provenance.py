"""Where a result came from: configuration, seed, versions, git commit, input checksums."""

import platform
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from artifacts.files import sha256

PACKAGES = ("torch", "transformers", "faiss-cpu", "fastabx", "scikit-learn", "pandas", "numpy", "snakemake")


def provenance(settings: Mapping[str, Any], inputs: Mapping[str, Path], seed: int | None = None) -> dict[str, Any]:
    """Describe how a result was made, to be stored with it.

    Args:
        settings: The resolved settings of the stage, as plain values.
        inputs: Name of each input and its path. A file gets a checksum; a folder that of its `config.json`, which
            carries the provenance of the rest.
    """
    return {
        "command": " ".join(sys.orig_argv[1:]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "settings": dict(settings),
        "seed": seed,
        "inputs": {name: _describe(path) for name, path in inputs.items()},
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions(),
    }


def _describe(path: Path) -> dict[str, str]:
    described = path if path.is_file() else path / "config.json"
    return {"path": str(path)} | ({"sha256": sha256(described)} if described.is_file() else {})


@cache
def git_commit() -> str | None:
    """Commit of the code that runs, with ``-dirty`` where files differ from it; None outside git."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
            capture_output=True,
            text=True,
            timeout=10,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None


@cache
def versions() -> dict[str, str]:
    """Installed versions of the packages that decide a result."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
