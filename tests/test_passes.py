"""What earlier passes made stays theirs; what is new is made together."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import REPOSITORY, TINY, snakemake
from test_workflow import changed_experiment

from artifacts.errors import InputError
from workflow.passes import layer_pass, layers_of, unit_passes

PYTHON = os.environ | {"PYTHONPATH": str(REPOSITORY)}
WANTED = {
    "train": ["hubert-L01-km", "hubert-L02-km"],
    "dev": ["hubert-L01-km", "hubert-L02-km", "hubert-L03-km"],
    "words": ["hubert-L01-km", "hubert-L02-km"],
    "sentences": ["hubert-L01-km", "hubert-L02-km"],
}


def finish(folder: Path, name: str, systems: list[str], corpora: list[str], shards: int = 1) -> None:
    """What a pass leaves behind."""
    for shard in range(shards):
        (folder / name / f"{shard}-of-{shards}").mkdir(parents=True)
        record = folder / name / f"{shard}-of-{shards}" / "pass.json"
        record.write_text(json.dumps({"systems": systems, "corpora": corpora}))


def test_layers_of_earlier_passes_stay_theirs_and_new_ones_are_made_together(tmp_path: Path) -> None:
    assert layer_pass(tmp_path, [1, 2, 12], 2) == "01+02+12"
    assert layers_of("01+02+12") == [1, 2, 12]
    for name in ("01+02", "12"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pass.json").touch()
    (tmp_path / "03+04").mkdir()  # begun, not ended
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 2) == "01+02"
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 12) == "12"
    assert layer_pass(tmp_path, [1, 2, 3, 5, 12], 5) == "03+05"


def test_corpora_that_the_same_systems_are_wanted_of_share_a_pass_but_training_and_evaluation_do_not(
    tmp_path: Path,
) -> None:
    passes = unit_passes(tmp_path, WANTED, ["train"], 2)
    assert [(p.corpora, p.systems, p.shards) for p in passes] == [
        (["train"], ["hubert-L01-km", "hubert-L02-km"], 2),
        (["dev"], ["hubert-L01-km", "hubert-L02-km", "hubert-L03-km"], 2),
        (["words", "sentences"], ["hubert-L01-km", "hubert-L02-km"], 2),
    ]
    assert len({p.name for p in passes}) == 3
    assert passes == unit_passes(tmp_path, WANTED, ["train"], 2)
    first = passes[0]
    assert first.records("passes") == [f"passes/{first.name}/{n}-of-2/pass.json" for n in (0, 1)]
    assert first.quantizers("hubert") == ["hubert/L01/km", "hubert/L02/km"]


def test_a_new_system_or_corpus_is_a_pass_of_its_own(tmp_path: Path) -> None:
    finish(tmp_path, "a", ["hubert-L01-km", "hubert-L09-old"], ["train"], shards=3)
    finish(tmp_path, "b", ["hubert-L01-km", "hubert-L02-km"], ["words", "gone"])
    found = {p.name: p for p in unit_passes(tmp_path, WANTED, ["train"], 1)}
    assert found["a"].systems == ["hubert-L01-km", "hubert-L09-old"], "left as it was made"
    assert found["a"].shards == 3
    assert found["b"].corpora == ["words", "gone"]
    new = [(p.corpora, p.systems) for name, p in found.items() if name not in "ab"]
    assert new == [(["train"], ["hubert-L02-km"]), (["dev"], WANTED["dev"]), (["sentences"], WANTED["sentences"])]


def test_a_pass_of_which_nothing_is_wanted_any_more_is_none(tmp_path: Path) -> None:
    finish(tmp_path, "a", ["hubert-L07-km"], ["train"])
    assert "a" not in {p.name for p in unit_passes(tmp_path, WANTED, ["train"], 1)}


@pytest.mark.parametrize(
    ("content", "message"), [('{"sys', "line 1: not JSON"), ('{"systems": []}', "corpora: found None, expected list")]
)
def test_a_damaged_record_is_named(tmp_path: Path, content: str, message: str) -> None:
    finish(tmp_path, "a", ["hubert-L01-km"], ["train"])
    (tmp_path / "a" / "0-of-1" / "pass.json").write_text(content)
    with pytest.raises(InputError, match=rf"a/0-of-1/pass\.json[:,] {message}"):
        unit_passes(tmp_path, WANTED, ["train"], 1)


@pytest.mark.parametrize(
    "record", ["passes/spidr/units/a/0-of-1/pass.json", "layers/spidr.json", "encoders/phones/config.json"]
)
def test_what_decides_over_jobs_is_read_before_any_is_planned(tmp_path: Path, record: str) -> None:
    """An input function that raised would leave units that are there without a rule: of whatever pass they are."""
    path = tmp_path / "results" / "tiny" / record
    path.parent.mkdir(parents=True)
    path.write_text('{"sys')
    best = changed_experiment(tmp_path, lambda experiment: experiment.update(systems=["spidr-best-kmeans50"]))
    done = snakemake(tmp_path, "-n", "all", experiment=best)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error:")]
    assert line.startswith(f"error: results/tiny/{record}, line 1: not JSON")
    assert line.endswith("remove it and start again: what is missing is made anew")
    assert "Traceback" not in done.stderr


def test_a_plan_of_a_damaged_record_is_the_same_line(tmp_path: Path) -> None:
    folder = tmp_path / "results" / "tiny" / "passes" / "spidr" / "units"
    finish(folder, "a", ["spidr-L04-kmeans50"], ["train"])
    (folder / "a" / "0-of-1" / "pass.json").write_text('{"sys')
    command = [sys.executable, "-m", "workflow.plan", "--configfile", str(TINY)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=PYTHON)
    assert done.returncode == 2
    assert done.stderr.startswith("error: results/tiny/passes/spidr/units/a/0-of-1/pass.json, line 1: not JSON")
    assert len(done.stderr.splitlines()) == 1
