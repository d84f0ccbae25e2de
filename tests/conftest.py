"""What several tests share: one finished run of the tiny experiment, and the order of files."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock
from hypothesis import settings

pytest.register_assert_rewrite(
    "peer_harness", "small_slm_training", "small_spidr_training", "small_spin_training", "strangers"
)

settings.register_profile("untimed", deadline=None)  # how long an example takes depends on what else runs
settings.load_profile("untimed")

if "PYTEST_XDIST_WORKER" in os.environ:  # a worker a core: threads of one would wait for those of the others
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell has what it starts in the background ignore Ctrl-C, and every program that this starts; tests send it to some.
signal.signal(signal.SIGINT, signal.default_int_handler)

REPOSITORY = Path(__file__).parent.parent
TINY = REPOSITORY / "config" / "tiny.yaml"


LONGEST = "test_faults.py"
WITHOUT_A_RUN = ("test_slm_resumption.py", "test_workers.py", "test_spidr_learner.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes longest comes first, and the others fill the time at the end.

    While one worker makes the finished run for the longest, the other has what needs none; then come the files of
    tests on that run.
    """
    on_a_run = {item.path for item in items if "tiny" in getattr(item, "fixturenames", ())}

    def place(item: pytest.Item) -> int:
        order = item.path.name == LONGEST, item.path.name in WITHOUT_A_RUN, item.path in on_a_run
        return next((place for place, holds in enumerate(order) if holds), len(order))

    items.sort(key=place)


def snakemake(folder: Path, *arguments: str, experiment: Path = TINY) -> subprocess.CompletedProcess[str]:
    """Run snakemake on an experiment file, with `folder` as its working directory."""
    return subprocess.run(snakemake_command(folder, *arguments, experiment=experiment), capture_output=True, text=True)


def snakemake_command(folder: Path, *arguments: str, experiment: Path = TINY) -> list[str]:
    """The command line of `snakemake`; options that take several values must come last."""
    command = [str(Path(sys.executable).parent / "snakemake"), "-c", str(os.cpu_count() or 1)]
    command += ["--snakefile", str(REPOSITORY / "Snakefile"), "--directory", str(folder)]
    return [*command, *arguments, "--configfile", str(experiment)]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working directory of a finished run of config/tiny.yaml; read it, or copy it to change it.

    Workers of one test run share it: the first that wants it runs it, the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, finished = shared / "tiny-run", shared / "tiny-finished"
    with FileLock(shared / "tiny.lock"):
        if not finished.exists():
            folder.mkdir(exist_ok=True)  # there already if the run failed for another worker
            done = snakemake(folder, "all")
            assert done.returncode == 0, done.stderr[-5000:]
            finished.touch()
    return folder


@pytest.fixture(scope="session")
def recorded() -> Path:
    """The recorded corpus, named by RECORDED_SPEECH: its absence fails the test."""
    place = os.environ.get("RECORDED_SPEECH")
    if not place or not (Path(place) / "intervals.csv").is_file():
        pytest.fail(f"RECORDED_SPEECH: found {place!r}, expected the folder of the recorded corpus")
    return Path(place)
