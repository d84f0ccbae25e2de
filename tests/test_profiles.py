"""Through Slurm's profile every experiment can be planned: what goes into which job there, and asks for what."""

import os
import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, snakemake
from test_workflow import changed_experiment

PROFILE = REPOSITORY / "slurm"
EXPERIMENTS = sorted(path for path in TINY.parent.glob("*.yaml") if path.stem != "paper")
"""The paper is in test_paper.py."""
GPU_RULES = {"pretrain", "extract", "predict", "sample", "tokenize", "train_slm", "score_slm"}
"""Those of the tiny experiment that run a model on a GPU where there is one."""


def planned_on_slurm(experiment: Path, folder: Path) -> str:
    done = snakemake(folder, "--profile", str(PROFILE), "-n", "all", experiment=experiment)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "Warning" not in done.stdout + done.stderr
    return done.stdout


def groups(said: str) -> list[tuple[str, str]]:
    """Name of each job of several, and what snakemake says of it."""
    return re.findall(r"Group job (\S+) \(.*\):\n((?:\n| .*\n)*)", said)


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=lambda path: path.stem)
def test_an_experiment_is_planned_without_a_warning_and_its_jobs_ask_for_what_they_need(
    experiment: Path, tmp_path: Path
) -> None:
    said = planned_on_slurm(experiment, tmp_path)
    jobs = re.findall(r"^ *rule (\w+):\n(?:.+\n)*? *resources: (.*)$", said, re.M)
    assert {rule for rule, _ in jobs} >= {"pretrain", "tokenize", "abx_features"}
    for rule, resources in jobs:
        if rule != "all":
            assert {"slurm_partition", "mem_mb", "runtime"} <= set(re.findall(r"(\w+)=", resources)), rule


def test_a_gpu_is_asked_for_where_a_model_runs_on_one(tmp_path: Path) -> None:
    asking = asking_for_gpus(tmp_path, "auto")
    assert {rule for rule, encoder in asking if encoder != "mfcc"} == GPU_RULES
    assert not [rule for rule, encoder in asking if encoder == "mfcc"]
    assert asking_for_gpus(tmp_path, "cuda") == asking
    assert asking_for_gpus(tmp_path, "cpu") == set()


def asking_for_gpus(folder: Path, device: str) -> set[tuple[str, str]]:
    """Rules whose jobs ask Slurm for a GPU, and their encoder, where it is a wildcard."""
    experiment = changed_experiment(folder, lambda experiment: experiment.update(device=device))
    said = planned_on_slurm(experiment, folder)
    jobs = re.findall(r"^ *rule (\w+):\n((?:.+\n)*? *resources: .*)$", said, re.M)
    asking = [(rule, re.search(r"wildcards: .*encoder=([\w-]+)", of)) for rule, of in jobs if re.search(r"\bgpu=", of)]
    return {(rule, encoder[1] if encoder else "") for rule, encoder in asking}


def test_abx_is_given_no_gpu_on_a_cluster_and_does_without(tmp_path: Path) -> None:
    cuda = changed_experiment(tmp_path, lambda experiment: experiment.update(device="cuda"))
    said = snakemake(tmp_path, "--profile", str(PROFILE), "-n", "-p", "all", experiment=cuda).stdout
    devices = set(re.findall(r"python -m (eval\.abx|units\.tokenize) .*?--device (\w+)", said))
    assert devices == {("eval.abx", "auto"), ("units.tokenize", "cuda")}


def test_what_reads_all_units_of_a_system_is_no_work_of_the_login_node(tmp_path: Path) -> None:
    said = planned_on_slurm(TINY, tmp_path)
    assert not re.findall(r"^ *localrule (?:take_units|health):", said, re.M)
    together = dict(groups(said))["tokens_spidr-L04-kmeans50"]
    assert set(re.findall(r"rule (\w+):", together)) == {"take_units", "health", "store_tokens"}


@pytest.mark.parametrize(
    ("device", "driver", "given", "provided"),
    [
        ("auto", "GPU 0: H100", [], 1),
        ("auto", "GPU 0: H100", ["--resources", "gpu=3"], 3),
        ("auto", "GPU 0: H100", ["--mode", "remote"], None),  # a job of its own, on a cluster's node
        ("cpu", "GPU 0: H100", [], None),
        ("auto", "", [], None),
    ],
)
def test_on_one_machine_jobs_take_turns_on_its_gpu(
    device: str, driver: str, given: list[str], provided: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "nvidia-smi"
    program.write_text(f"#!/bin/sh\necho '{driver}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    experiment = changed_experiment(tmp_path, lambda experiment: experiment.update(device=device))
    done = snakemake(tmp_path, "results/tiny/encoders/mfcc/config.json", *given, experiment=experiment)
    assert done.returncode == 0, done.stderr
    found = re.search(r"Provided resources: .*\bgpu=\D*(\d+)", done.stderr)
    assert (int(found[1]) if found else None) == provided


def test_abx_takes_its_turn_on_the_gpu_of_one_machine(tmp_path: Path) -> None:
    experiment = changed_experiment(tmp_path, lambda experiment: experiment.update(device="auto"))
    said = snakemake(tmp_path, "-n", "all", experiment=experiment).stdout
    jobs = re.findall(r"^ *rule (\w+):\n(?:.+\n)*? *resources: (.*)$", said, re.M)
    assert {rule for rule, of in jobs if "gpu=1" in of} == GPU_RULES | {"abx_features", "abx_predictions", "abx_units"}


def test_a_job_of_several_waits_for_one_encoder_or_system(tmp_path: Path) -> None:
    found = groups(planned_on_slurm(TINY.with_name("demo.yaml"), tmp_path))
    assert {name.partition("_")[0] for name, _ in found} == {"corpora", "features", "tokens", "units"}
    for name, said in found:
        _, _, subject = name.partition("_")
        if name.startswith("features"):
            assert set(re.findall(r"wildcards: .*encoder=([\w-]+)", said)) == {subject}
            assert "rule map_words" in said
        elif subject:
            assert set(re.findall(r"wildcards: .*system=([\w-]+)", said)) == {subject}


def test_no_job_asks_for_more_time_than_the_site_allows(tmp_path: Path) -> None:
    site = ["--profile", str(PROFILE), "--config", "job_minutes=45"]
    said = snakemake(tmp_path, *site, "-n", "all").stdout
    asked = dict(re.findall(r"^ *rule (\w+):\n(?:.+\n)*? *resources: .*\bruntime=(\d+)", said, re.M))
    assert asked["pretrain"] == asked["tokenize"] == asked["abx_features"] == "45"
    assert asked["quality"] == "30"
