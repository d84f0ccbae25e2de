"""A stale lock is cleared only when no live process holds it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError
from workflow.unlock import unlock


@pytest.fixture
def locked(tmp_path: Path) -> Path:
    lock = tmp_path / ".snakemake" / "locks" / "0.output.lock"
    lock.parent.mkdir(parents=True)
    lock.touch()
    return tmp_path


def test_a_stale_lock_is_cleared_once(locked: Path) -> None:
    assert unlock(locked)
    assert not unlock(locked)


def test_the_lock_of_a_live_job_stays(locked: Path) -> None:
    package = locked / "slm"
    package.mkdir()
    (package / "sleep.py").write_text("print('up', flush=True)\nimport time\ntime.sleep(60)\n")
    # Ours must not be found first, as with the path that a test before may have left.
    environment = os.environ | {"PYTHONPATH": str(locked)}
    job = subprocess.Popen([sys.executable, "-m", "slm.sleep"], cwd=locked, stdout=subprocess.PIPE, env=environment)
    try:
        assert job.stdout is not None
        job.stdout.readline()
        with pytest.raises(InputError, match=f"1 process.es. still at work: {job.pid}"):
            unlock(locked)
    finally:
        job.kill()
        job.wait()
    assert unlock(locked)
