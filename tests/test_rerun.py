"""What makes a finished training run again, and what does not."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, snakemake
from test_workflow import changed_experiment, copy_of, planned

PROFILE = REPOSITORY / "workflow" / "profiles" / "default"
TRAININGS = {
    "results/tiny/encoders/spidr/model.safetensors",
    "results/tiny/encoders/dinosr/model.safetensors",
    "results/tiny/slm/phones/opt-tiny/seed0/summary.json",
}


@pytest.mark.parametrize(
    "touched",
    [
        "corpora/train/manifest.csv",
        "corpora/train/speakers.csv",
        "corpora/synthetic",
        "units/phones/train.jsonl",
        "tokens/phones/train",
        "encoders/spidr/model.safetensors",
    ],
)
def test_the_time_stamp_of_an_input_retrains_nothing(tiny: Path, tmp_path: Path, touched: str) -> None:
    run = copy_of(tiny, tmp_path)
    path = run / "results" / "tiny" / touched
    for file in [path, *path.rglob("[!.]*")]:  # snakemake keeps the time of a folder in a hidden file
        os.utime(file)
    done = snakemake(run, "-n", "all")
    assert done.returncode == 0, done.stderr
    assert not planned(done.stdout) & TRAININGS


def test_a_large_file_is_known_by_its_contents(tmp_path: Path) -> None:
    """Snakemake's own limit is 1 MB, and a manifest of LibriSpeech has 20."""
    (tmp_path / "Snakefile").write_text(
        "rule copy:\n    input: 'a'\n    output: 'b'\n    shell: 'cp {input} {output}'\n"
    )
    (tmp_path / "a").write_bytes(bytes(3_000_000))
    command = [sys.executable, "-m", "snakemake", "-c", "1", "--workflow-profile", str(PROFILE), "b"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    os.utime(tmp_path / "a")
    done = subprocess.run([*command, "-n"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "Nothing to be done" in done.stdout + done.stderr
    (tmp_path / "a").write_bytes(bytes(2_999_999))
    done = subprocess.run([*command, "-n"], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert "rule copy" in done.stdout + done.stderr


def test_where_and_on_how_much_a_training_runs_is_no_reason_to_train_again(tiny: Path) -> None:
    for launch in ("training_nodes=2", "training_gpus=2", "training_launcher=submitit"):
        done = snakemake(tiny, "-n", "all", "--config", launch)
        assert "Nothing to be done" in done.stdout + done.stderr, done.stdout


def test_another_name_of_a_model_makes_anew_what_shows_it_and_measures_nothing(tiny: Path, tmp_path: Path) -> None:
    def change(experiment: dict[str, Any]) -> None:
        experiment["encoders"]["spidr"]["name"] = "SpidR-X"

    done = snakemake(tiny, "-n", "all", experiment=changed_experiment(tmp_path, change))
    outputs = planned(done.stdout)
    root = "results/tiny"
    assert {f"{root}/scores.csv", f"{root}/tables/table_2.csv", f"{root}/report.html"} <= outputs, done.stderr
    assert not any(path.startswith((f"{root}/scores/", f"{root}/units/", f"{root}/layers/")) for path in outputs)


def test_a_changed_line_of_a_manifest_retrains_what_hears_it(tiny: Path, tmp_path: Path) -> None:
    run = copy_of(tiny, tmp_path)
    manifest = run / "results/tiny/corpora/train/manifest.csv"
    manifest.write_text("".join(manifest.read_text().splitlines(keepends=True)[:-1]))
    assert planned(snakemake(run, "-n", "all").stdout) >= TRAININGS


@pytest.mark.parametrize("which", ["encoder", "language model"])
def test_another_setting_retrains_what_it_is_of(tiny: Path, tmp_path: Path, which: str) -> None:
    def change(experiment: dict[str, Any]) -> None:
        if which == "encoder":
            experiment["encoders"]["dinosr"]["recipe"] = experiment["encoders"]["spidr"]["recipe"]
        else:
            experiment["slms"]["opt-tiny"]["recipe"] = "slm/demo.yaml"

    expected = {path for path in TRAININGS if ("dinosr" in path if which == "encoder" else "slm" in path)}
    outputs = planned(snakemake(tiny, "-n", "all", experiment=changed_experiment(tmp_path, change)).stdout)
    assert outputs & TRAININGS == expected
