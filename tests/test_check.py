"""The check before a run: every problem of corpora, annotations, weights, machine and disk, in one list."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, TINY, snakemake
from huggingface_hub import constants

from artifacts.settings import parse_settings
from corpora.manifest import Utterance, write_manifest
from workflow import check
from workflow.experiment import Experiment
from workflow.targets import Targets

SUBSET = "dev-clean"


def librispeech(folder: Path, names: list[str]) -> Path:
    """A LibriSpeech whose dev-clean has these files, all empty."""
    (folder / SUBSET).mkdir(parents=True)
    (folder / "SPEAKERS.TXT").write_text(";\n")
    for name in names:
        speaker, chapter, _ = name.split("-")
        path = folder / SUBSET / speaker / chapter / f"{name}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def experiment_file(folder: Path, corpora: dict[str, Any], encoders: dict[str, Any], **changes: Any) -> Path:
    measured = {"abx": {"corpora": ["dev"]}}
    found = {"experiment": "checked", "corpora": corpora, "encoders": encoders, "evaluation": measured, "figures": [7]}
    path = folder / "checked.yaml"
    path.write_text(yaml.safe_dump(found | changes))
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    check._why_no_hub.cache_clear()


def test_every_problem_is_in_one_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "UTTERANCES", {SUBSET: 3})
    folder = librispeech(tmp_path / "ls", ["1-2-0", "1-2-1"])
    (tmp_path / "dev.csv").write_text("fileid,onset,offset,label,tier,speaker\n1-2-0,0,1,AA,phones,1\n")
    corpora = {
        "dev": {
            "layout": "librispeech",
            "path": str(folder),
            "subsets": [SUBSET],
            "annotations": str(tmp_path / "dev.csv"),
        },
        "train": {"layout": "librilight", "path": "${NOWHERE_AT_ALL}", "subset": "small"},
        "mine": {"layout": "folder", "path": str(tmp_path / "mine"), "speakers": str(tmp_path / "speakers.csv")},
    }
    spin = {"family": "spin", "recipe": str(TINY.parent / "spin/tiny.yaml"), "base": "spidr", "layers": [4]}
    spin["train"] = ["train", "mine"]
    encoders = {
        "spidr": {"family": "spidr", "path": "encoders/spidr", "layers": [1]},
        "hubert": {"family": "hub", "source": "hubert-base", "layers": [1]},
        "own": {"family": "custom", "loader": "no_such_module:load", "layers": [1]},
        "spin": spin,
    }
    monkeypatch.setattr(check, "_answer", lambda *command: None)
    monkeypatch.setattr(check.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10}))
    found = check.check(experiment_file(tmp_path, corpora, encoders, device="cuda"), slurm=False)
    expected = [
        f"corpora.dev: {SUBSET}: found 2 files, expected 3",
        f"corpora.dev: {tmp_path}/dev.csv: 1 (1-2-1) utterances without phones, expected phones of all",
        f"corpora.mine: {tmp_path}/mine: no such folder",
        f"corpora.mine: {tmp_path}/speakers.csv: not there",
        "environment variable NOWHERE_AT_ALL: not defined, expected by corpora.train",
        "encoders/spidr/config.json: not there, expected it to be made (docs/encoders.md)",
        "encoders/spidr/model.safetensors: not there, expected it to be made (docs/encoders.md)",
        "encoders.hubert: facebook/hubert-base-ls960: not in the cache of the hub, "
        "which cannot be asked for it (HF_HUB_OFFLINE is set); where it can: hf download facebook/hubert-base-ls960",
        "encoders.own.loader: found no_such_module, expected a module in the working directory or on PYTHONPATH",
        "device: found cuda, but nvidia-smi lists no GPU",
    ]
    assert found[:-1] == expected
    assert found[-1].startswith("results/checked: found 0 GB free, expected ")


def test_where_all_is_there_one_line_says_so(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "check")
    assert done.returncode == 0, done.stderr
    assert f"{TINY}: all there" in done.stdout


def test_problems_end_the_command_with_2_and_are_counted(tmp_path: Path) -> None:
    corpora = {"dev": {"layout": "folder", "path": "/no/such/place", "annotations": "/nor/this.csv"}}
    file = experiment_file(tmp_path, corpora, {"mfcc": {"family": "mfcc"}})
    command = [sys.executable, "-m", "workflow.check", "--configfile", str(file)]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    assert done.returncode == 2, done.stderr
    assert done.stdout.splitlines() == [
        "- corpora.dev: /no/such/place: no such folder",
        "- corpora.dev: /nor/this.csv: not there",
    ]
    assert done.stderr == f"error: {file}: found 2 problems, listed above, expected none\n"
    through = snakemake(tmp_path, "check", experiment=file)
    assert through.returncode == 1
    assert "- corpora.dev: /no/such/place: no such folder" in through.stderr


def test_the_check_loads_no_torch() -> None:
    code = "import sys, workflow.check; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=REPOSITORY, check=True)
    assert done.stdout == "False\n"


def test_annotations_are_held_against_the_manifest_once_there_is_one(tmp_path: Path) -> None:
    audio = tmp_path / "mine/s1/a.wav"
    audio.parent.mkdir(parents=True)
    audio.touch()
    (tmp_path / "dev.csv").write_text("fileid,onset,offset,label,tier,speaker\na,0,9,AA,phones,s1\n")
    corpora = {"dev": {"layout": "folder", "path": str(tmp_path / "mine"), "annotations": str(tmp_path / "dev.csv")}}
    file = experiment_file(tmp_path, corpora, {"mfcc": {"family": "mfcc"}})
    assert check.check(file, slurm=False) == []
    write_manifest(tmp_path / "results/checked/corpora/dev/manifest.csv", [Utterance("a", audio, 16000, "s1")])
    (problem,) = check.corpora_problems(targets(file))
    assert problem.startswith(f"corpora.dev: {tmp_path}/dev.csv: ")
    assert "past the end of their audio" in problem


def targets(file: Path) -> Targets:
    return Targets(parse_settings(Experiment, yaml.safe_load(file.read_text()), str(file)))


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (None, ["sinfo: no answer, expected Slurm's partitions"]),
        ("\n", ["sinfo: found no partition, expected one"]),
        ("gpu up infinite 2 idle n[1-2]\n", []),
    ],
)
def test_on_a_cluster_slurm_answers_and_no_gpu_is_looked_for_here(
    monkeypatch: pytest.MonkeyPatch, answer: str | None, problem: list[str]
) -> None:
    monkeypatch.setattr(check, "_answer", lambda *command: answer if command[0] == "sinfo" else None)
    tiny = parse_settings(Experiment, yaml.safe_load(TINY.read_text()) | {"device": "cuda"}, "tiny")
    assert list(check.machine_problems(tiny, slurm=True)) == problem


def test_a_command_that_is_not_there_or_fails_gives_no_answer() -> None:
    assert check._answer("no-such-command-anywhere") is None
    assert check._answer("false") is None
    assert check._answer("echo", "here") == "here\n"


def test_on_a_cluster_weights_must_lie_in_the_cache_whatever_the_hub_answers_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached: list[str] = []
    monkeypatch.setattr(check, "_why_no_hub", lambda: None)
    monkeypatch.setattr(check.huggingface_hub, "file_exists", lambda source, file: True)
    monkeypatch.setattr(
        check.huggingface_hub, "try_to_load_from_cache", lambda source, file: "there" if source in cached else None
    )
    corpora = {"dev": {"layout": "folder", "path": "x", "annotations": "x.csv"}}
    file = experiment_file(
        tmp_path, corpora, {"hubert": {"family": "hub", "source": "hubert-base", "layers": [1], "quantizers": []}}
    )
    given = targets(file).experiment, file, targets(file)
    assert list(check.weights_problems(*given, slurm=False)) == []
    assert list(check.weights_problems(*given, slurm=True)) == [
        "encoders.hubert: facebook/hubert-base-ls960: not in the cache of the hub, expected it there, "
        "as the nodes that jobs run on may not reach the hub: hf download facebook/hubert-base-ls960"
    ]
    cached.append("facebook/hubert-base-ls960")
    assert list(check.weights_problems(*given, slurm=True)) == []


def test_scores_from_elsewhere_are_looked_for(tmp_path: Path) -> None:
    corpora = {"dev": {"layout": "folder", "path": "x", "annotations": "x.csv"}}
    (tmp_path / "mine.csv").touch()
    file = experiment_file(tmp_path, corpora, {"mfcc": {"family": "mfcc"}}, others=["mine.csv", "yours.csv"])
    assert list(check.others_problems(targets(file))) == ["others: yours.csv: not there"]


def test_a_folder_of_a_model_needs_weights(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (problem,) = check._hub_problems("encoders.x", str(tmp_path / "model"), check.WEIGHTS, slurm=False)
    assert "found none of model.safetensors" in problem
    (tmp_path / "model/model.safetensors").touch()
    assert list(check._hub_problems("encoders.x", str(tmp_path / "model"), check.WEIGHTS, slurm=False)) == []


def test_a_damaged_configuration_of_an_encoder_is_named(tmp_path: Path) -> None:
    folder = tmp_path / "encoders/mine"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"num_layers": 2}))
    corpora = {"dev": {"layout": "folder", "path": "x", "annotations": "x.csv"}}
    file = experiment_file(tmp_path, corpora, {"mine": {"family": "converted", "path": "encoders/mine", "layers": [1]}})
    experiment = targets(file).experiment
    assert list(check.weights_problems(experiment, file, targets(file), slurm=False)) == [
        "encoders.mine: encoders/mine: found no .safetensors, expected weights"
    ]
    (folder / "config.json").write_text("{")
    problems = list(check.weights_problems(experiment, file, targets(file), slurm=False))
    assert problems[0].startswith("encoders/mine/config.json")
