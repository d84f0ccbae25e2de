"""Names in the workflow: whatever they are, they reach a shell as names."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import REPOSITORY, snakemake
from pydantic import TypeAdapter, ValidationError
from strangers import EVIL, nothing_is_stolen

from workflow.evaluation import Name

__all__ = ["nothing_is_stolen"]  # a fixture


@pytest.mark.parametrize(
    "name", ["../../etc", "/etc", "a b", "$(touch stolen)", "a;b", "a\nb", "a\n", ".", "", "a'b", "*"]
)
def test_a_name_is_letters_digits_underscores_and_single_dashes(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(name)


HARMLESS = {
    *("seed", "device", "precision", "segments", "context", "conditions", "resample", "numbers", "layers", "kind"),
    *("dataset", "experiment", "metric", "untrained", "source", "alignment", "intervals", "items_table", "data"),
    *("slurm", "follow"),
}
"""Parameters that are numbers, options and words of ours, or made of names as above."""


def test_every_rule_quotes_what_may_be_a_files_name() -> None:
    found = 0
    for path in sorted((REPOSITORY / "workflow" / "rules").glob("*.smk")):
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            if not line.lstrip().startswith('"'):
                continue
            for field in re.findall(r"\{((?:input|output|log|params)[^}]*)\}", line):
                found += 1
                bare = re.fullmatch(r"params\.(\w+)", field)
                assert field.endswith(":q") or (bare and bare[1] in HARMLESS), (
                    f"{path.name}, line {number}: {{{field}}}"
                )
    assert found > 100


STUB = """#!{python}
import json, sys
with open({record!r}, "a") as file:
    file.write(json.dumps(sys.argv[1:]) + "\\n")
"""


def test_names_of_files_and_models_reach_jobs_as_they_are(tmp_path: Path) -> None:
    """Every command that the workflow would run, run by a shell, with a Python that only notes what it was given."""
    evil = tmp_path / EVIL
    for folder in ("encoder/training", "converted", "kmeans", "speech/s1"):
        (evil / folder).mkdir(parents=True)
    for file in (
        *("encoder/model.safetensors", "encoder/training/log.jsonl", "kmeans/config.json"),
        *("kmeans/quantizer.safetensors", "speech/s1/a.wav", "intervals.csv"),
    ):
        (evil / file).touch()
    for folder in ("encoder", "converted"):
        (evil / folder / "config.json").write_text('{"num_layers": 4}')
    name = f"Sp'i\"dR {EVIL}"
    tiny = yaml.safe_load((REPOSITORY / "config" / "tiny.yaml").read_text())
    for corpus in ("train", "valid", "dev"):
        tiny["corpora"][corpus] |= {"path": str(evil / "speech"), "annotations": str(evil / "intervals.csv")}
        del tiny["corpora"][corpus]["source"], tiny["corpora"][corpus]["speakers"]
    tiny["quantizers"]["given"] = {"kind": "kmeans", "num_units": 4, "path": str(evil / "kmeans")}
    shared = {"name": name, "layers": [4], "quantizers": ["kmeans50", "given"]}
    tiny["encoders"]["spidr"] |= {"name": name, "recipe": "spidr.yaml"}
    tiny["encoders"]["dinosr"] = {"family": "spidr", "path": str(evil / "encoder"), **shared}
    tiny["encoders"]["spidr-untrained"] = {"family": "converted", "path": str(evil / "converted"), **shared}
    tiny["encoders"]["spun"] = {"family": "spin", "base": "dinosr", "recipe": "spin.yaml", "train": ["train"], **shared}
    tiny["slms"]["opt-tiny"]["recipe"] = "slm.yaml"
    experiment = evil / f"{EVIL}.yaml"
    experiment.write_text(yaml.safe_dump(tiny))
    for recipe, source in (("spidr", "spidr/tiny"), ("spin", "spin/tiny"), ("slm", "slm/tiny")):
        shutil.copy(REPOSITORY / "config" / f"{source}.yaml", evil / f"{recipe}.yaml")

    done = snakemake(tmp_path / EVIL, "-n", "-p", "all", experiment=experiment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    commands = re.findall(r"^ *Shell command: (python .*)$", done.stdout + done.stderr, re.M)
    bin_folder, record = tmp_path / "bin", tmp_path / "record.jsonl"
    bin_folder.mkdir()
    (bin_folder / "python").write_text(STUB.format(python=sys.executable, record=str(record)))
    (bin_folder / "python").chmod(0o755)
    for command in commands:
        for log in re.findall(r"results/\S+\.log", command):
            Path(log).parent.mkdir(parents=True, exist_ok=True)
        path = f"{bin_folder}:{os.environ['PATH']}"
        ran = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=os.environ | {"PATH": path})
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", ""), command
    given = [json.loads(line) for line in record.read_text().splitlines()]
    assert len(given) == len(commands) > 80
    words = {str(word) for argv in given for word in argv}
    folders = {str(evil / folder) for folder in ("encoder", "converted")}
    assert {*folders, str(experiment)} <= words
    assert {f"{name}={evil / 'encoder' / 'training' / 'log.jsonl'}", f"dinosr={name}"} <= words
    parsed = [json.loads(word) for word in words if word.startswith("{")]
    for path in ("speech", "kmeans"):
        assert str(evil / path) in [value.get("path") for value in parsed]
