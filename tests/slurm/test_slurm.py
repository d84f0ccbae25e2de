"""The tiny experiment on a real Slurm of two nodes: what clusters do to jobs, and what becomes of them.

One run after the other in one copy of the repository, so that few jobs are needed: each costs seconds.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cluster
import psutil
import pytest
import torch
import yaml
from conftest import REPOSITORY
from safetensors.torch import load_file
from test_workflow import scores

from artifacts.files import read_json

pytestmark = pytest.mark.slurm

SOON = Path(__file__).parent / "soon.py"
ON_SLURM = ("pretrain", "tokenize", "train_slm")
GROUP = "corpora"
"""Rules whose jobs are Slurm's here, and a group that is one job together; the others run beside snakemake."""
LONG = 1500
"""Steps of a training that takes a minute if it is alone: Slurm looks at time limits twice a minute."""
LITTLE_MB = 200
"""Memory in which no training starts."""


@pytest.fixture(scope="module")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with cluster.cluster(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture(scope="module")
def clone(slurm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A copy of the repository, as a user of this cluster would set it up."""
    folder = tmp_path_factory.mktemp("clone")
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY, capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in listed.stdout.splitlines():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        if (REPOSITORY / name).exists():
            shutil.copy2(REPOSITORY / name, folder / name, follow_symlinks=False)
    profile = folder / "slurm" / "config.yaml"
    site = profile.read_text()
    assert site.count("slurm_partition: gpu #") == 1
    profile.write_text(site.replace("slurm_partition: gpu #", "slurm_partition: throwaway #"))
    tiny = folder / "config" / "tiny.yaml"
    tiny.write_text(tiny.read_text().replace("device: cpu", "device: auto"))  # so that jobs ask for the nodes' GPUs
    rules: set[str] = set()
    for path in (folder / "workflow" / "rules").glob("*.smk"):
        text = path.read_text()
        path.write_text(re.sub(rf'    group:\n        "(?!{GROUP}").*"\n', "", text))  # a group is never local
        rules |= set(re.findall(r"^(?:rule|use rule \w+ as|checkpoint) (\w+)", text, re.M))
    with (folder / "Snakefile").open("a") as file:
        file.write(f"\n\nlocalrules:\n    {', '.join(sorted(rules - set(ON_SLURM)))},\n")
    yield folder
    cluster.kill_in(folder)  # what a test that failed has left


def start(clone: Path, *arguments: str, experiment: str = "tiny") -> subprocess.Popen[str]:
    """Snakemake through the profile, in a process group of its own; what it says goes to a file of the clone."""
    command = [sys.executable, str(SOON), "--profile", "slurm", "--slurm-init-seconds-before-status-checks", "1"]
    command += ["--latency-wait", "10", *arguments, "--configfile", f"config/{experiment}.yaml"]
    with said(clone).open("w") as output:
        return subprocess.Popen(
            command, cwd=clone, stdout=output, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )


def said(clone: Path) -> Path:
    return clone / "said.txt"


def finish(run: subprocess.Popen[str], clone: Path, code: int = 0) -> str:
    try:
        run.wait(timeout=900)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        raise
    text = said(clone).read_text()
    assert run.returncode == code, text[-5000:]
    return text


def until(holds: Callable[[], Any], run: subprocess.Popen[str] | None = None, seconds: float = 300) -> Any:
    """Wait for something to hold, as long as a run goes on."""
    deadline = time.monotonic() + seconds
    while not (found := holds()):
        assert time.monotonic() < deadline, "it never came"
        assert run is None or run.poll() is None, "the run ended first"
        time.sleep(0.1)
    return found


def trainers(folder: Path) -> list[psutil.Process]:
    """The processes that train the encoder in a folder."""
    found = []
    for process in psutil.process_iter():
        try:
            words = process.cmdline()
            if (
                words[1:3] == ["-m", "spidr.train"]
                and Path(process.cwd(), words[words.index("--output") + 1]) == folder
            ):
                found.append(process)
        except (psutil.Error, ValueError):
            continue
    return found


def saved(encoder: Path) -> list[Path]:
    return sorted(encoder.glob("training/checkpoints/step-*.pt"))


def assert_same_weights(found: Path, expected: Path) -> None:
    for name in ("model.safetensors", "teacher.safetensors"):
        assert (found / name).read_bytes() == (expected / name).read_bytes(), name


@pytest.fixture(scope="module")
def finished(clone: Path, tiny: Path) -> tuple[Path, str]:
    """A run of the tiny experiment, one of whose trainings was killed; what snakemake said of it."""
    encoder = clone / "results/tiny/encoders/spidr"
    run = start(clone, "all")
    until(lambda: saved(encoder), run)
    for process in trainers(encoder):
        process.kill()
    return clone, finish(run, clone)


def test_a_killed_training_resumes_and_everything_ends_as_on_one_machine(
    finished: tuple[Path, str], tiny: Path
) -> None:
    clone, text = finished
    assert "Trying to restart job" in text
    for encoder in ("spidr", "dinosr"):
        assert_same_weights(clone / "results/tiny/encoders" / encoder, tiny / "results/tiny/encoders" / encoder)
    assert scores(clone) == scores(tiny)
    assert set(cluster.jobs("--states=all").values()) == {"COMPLETED", "FAILED"}


def test_bad_input_fails_at_once_each_time_is_reported_and_stops_nothing_else(finished: tuple[Path, str]) -> None:
    clone, _ = finished
    root = clone / "results/tiny"
    store = next((root / "tokens/phones/train").glob("*.json"))
    before, when = store.read_bytes(), store.stat()
    models = [root / f"slm/{system}/opt-tiny/seed0" for system in ("phones", "spidr-L04-kmeans50")]
    for model in models:
        shutil.rmtree(model)
    earlier = set(cluster.jobs("--states=all"))
    try:
        store.write_text("{}")
        os.utime(store, ns=(when.st_atime_ns, when.st_mtime_ns))  # nobody told the workflow
        text = finish(start(clone, *(str((model / "summary.json").relative_to(clone)) for model in models)), clone, 1)
    finally:
        store.write_bytes(before)
        os.utime(store, ns=(when.st_atime_ns, when.st_mtime_ns))
    times = dict(line.split() for line in squeue("%i %M"))
    failed = [job for job, state in cluster.jobs("--states=all").items() if state == "FAILED" and job not in earlier]
    assert len(failed) == 3  # once, and two retries
    for job in failed:
        assert re.fullmatch(r"0:\d\d", times[job]), times[job]  # minutes:seconds
    assert "error: " in text
    assert str(store.relative_to(clone)) in text
    assert not (models[0] / "summary.json").exists()
    assert (models[1] / "summary.json").exists()
    finish(start(clone, "all"), clone)


def squeue(form: str) -> list[str]:
    command = ["squeue", "--noheader", "--states=all", f"--format={form}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()


def test_a_cancelled_run_leaves_no_job_and_no_half_an_output_and_goes_on(
    finished: tuple[Path, str], tiny: Path
) -> None:
    clone, _ = finished
    encoder = clone / "results/tiny/encoders/spidr"
    shutil.rmtree(encoder)
    target = str((encoder / "model.safetensors").relative_to(clone))
    run = start(clone, target)
    until(lambda: saved(encoder), run)
    os.killpg(run.pid, signal.SIGINT)  # as Ctrl-C does
    finish(run, clone, 1)
    until(lambda: not cluster.jobs() and not trainers(encoder), seconds=60)
    assert [path.name for path in encoder.iterdir()] == ["training"]
    reached = saved(encoder)[-1].stem
    assert reached not in {"step-00000100", "step-00000500"}  # saved when it was asked to stop
    finish(start(clone, target), clone)
    assert_same_weights(encoder, tiny / "results/tiny/encoders/spidr")


def another(clone: Path, tiny: Path, name: str, change: Callable[[dict[str, Any]], None]) -> Path:
    """An experiment with the tiny one's speech and a recipe after `change`: the folder of its encoder."""
    recipe = yaml.safe_load((clone / "config/spidr/tiny.yaml").read_text())
    change(recipe)
    (clone / f"config/spidr/{name}.yaml").write_text(yaml.safe_dump(recipe))
    experiment = (clone / "config/tiny.yaml").read_text()
    experiment = experiment.replace("experiment: tiny", f"experiment: {name}").replace(
        "spidr/tiny.yaml", f"spidr/{name}.yaml"
    )
    (clone / f"config/{name}.yaml").write_text(experiment)
    shutil.copytree(tiny / "results/tiny/corpora", clone / f"results/{name}/corpora")
    return clone / f"results/{name}/encoders/spidr"


def alone(clone: Path, name: str, output: Path) -> subprocess.Popen[str]:
    """The same training as a process of this machine."""
    corpora = clone / f"results/{name}/corpora"
    command = [sys.executable, "-m", "spidr.train", "--settings", f"config/spidr/{name}.yaml", "--device", "cpu"]
    command += ["--train", str(corpora / "train/manifest.csv"), "--validation", str(corpora / "valid/manifest.csv")]
    return subprocess.Popen(
        [*command, "--output", str(output)],
        cwd=clone, env=os.environ | {"OMP_NUM_THREADS": "1"}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_two_tasks_on_two_nodes_are_as_one(clone: Path, tiny: Path, tmp_path: Path) -> None:
    def change(recipe: dict[str, Any]) -> None:
        recipe["batches"]["batches_per_step"] = 2
        recipe["optimizer"] |= {"warmup_steps": 2, "hold_steps": 4, "decay_steps": 2}

    encoder = another(clone, tiny, "two", change)
    one = alone(clone, "two", tmp_path / "one")
    target = str((encoder / "model.safetensors").relative_to(clone))
    finish(start(clone, target, "--config", "training_nodes=2", experiment="two"), clone)
    one.communicate(timeout=300)
    assert one.returncode == 0
    summaries = [read_json(folder / "training/summary.json") for folder in (encoder, tmp_path / "one")]
    assert [summary["num_devices"] for summary in summaries] == [2, 1]
    theirs, mine = (load_file(folder / "model.safetensors") for folder in (encoder, tmp_path / "one"))
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, atol=1e-5, rtol=1e-4, msg=name)


def test_a_training_with_a_job_of_its_own_outlives_snakemake_and_its_time_limit(
    clone: Path, tiny: Path, tmp_path: Path
) -> None:
    encoder = another(clone, tiny, "long", lambda recipe: recipe["optimizer"].update(hold_steps=LONG - 250))
    submitted = [str((encoder / "model.safetensors").relative_to(clone)), "--config", "training_launcher=submitit"]
    run = start(clone, *submitted, experiment="long")
    until(lambda: saved(encoder), run)
    (job,) = cluster.jobs()
    assert read_json(encoder / "training/job.json")["job"] == job
    for process in [psutil.Process(run.pid), *psutil.Process(run.pid).children(recursive=True)]:
        process.kill()
    run.wait()
    cluster.limit(job, minutes=1)
    one = alone(clone, "long", tmp_path / "one")
    shutil.rmtree(clone / ".snakemake/locks")  # as `make unlock`, to which these nodes are no other machines
    run = start(clone, *submitted, experiment="long")
    until(lambda: cluster.jobs()[job] == "PENDING", run)
    cluster.limit(job, minutes=60)
    finish(run, clone)
    log = (clone / "results/long/logs/pretrain/spidr.log").read_text()
    assert f"job {job} is already there" in log
    assert "submitted" not in log
    assert f"job {job}: done" in log
    assert "stopped by SIGTERM after step" in (encoder / f"training/job/{job}_0_log.err").read_text()
    one.communicate(timeout=900)
    assert one.returncode == 0
    assert_same_weights(encoder, tmp_path / "one")


@pytest.mark.parametrize("launcher", ["job", "submitit"])
def test_a_training_outlives_little_memory_preemption_and_the_failure_of_its_node(
    clone: Path, tiny: Path, tmp_path: Path, launcher: str
) -> None:
    name = f"hard-{launcher}"
    encoder = another(clone, tiny, name, lambda recipe: recipe["optimizer"].update(hold_steps=LONG - 250))
    one = alone(clone, name, tmp_path / "one")
    target = str((encoder / "model.safetensors").relative_to(clone))
    memory = f"pretrain:mem_mb={LITTLE_MB} if attempt == 1 else 16000"
    earlier = set(cluster.jobs("--states=all"))
    settings = ["--config", f"training_launcher={launcher}", "--set-resources", memory]
    run = start(clone, target, *settings, experiment=name)
    until(lambda: saved(encoder), run)
    first, second = sorted(set(cluster.jobs("--states=all")) - earlier, key=int)
    assert cluster.jobs("--states=all")[first] in {"FAILED", "OUT_OF_MEMORY"}
    logs = [*clone.glob(f".snakemake/slurm_logs/*/*/{first}.log"), *encoder.glob(f"training/job/{first}_*.err")]
    assert any("exceeded memory limit" in log.read_text() for log in logs)

    cluster.preempt(seconds=5)
    until(lambda: cluster.jobs()[second] == "PENDING", run)
    preempted = saved(encoder)[-1]
    until(lambda: saved(encoder)[-1] > preempted, run)

    node = cluster.node_of(second)
    cluster.fail(node)
    failed = saved(encoder)[-1]
    until(lambda: saved(encoder)[-1] > failed, run)
    assert cluster.node_of(second) != node
    cluster.repair(node)

    finish(run, clone)
    one.communicate(timeout=900)
    assert one.returncode == 0
    assert_same_weights(encoder, tmp_path / "one")
