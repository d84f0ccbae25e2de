"""Through Slurm's profile every experiment can be planned: what goes into which job there, and asks for what."""

import re
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, snakemake

PROFILE = REPOSITORY / "slurm"
EXPERIMENTS = sorted(path for path in TINY.parent.glob("*.yaml") if path.stem != "paper")
"""The paper is in test_paper.py."""
GPU_RULES = {"pretrain", "finetune_spin", "extract", "predict", "sample", "tokenize", "train_slm", "score_slm"}


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
        assert ("gpu=1" in resources) == (rule in GPU_RULES), rule


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
