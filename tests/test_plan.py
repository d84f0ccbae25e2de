"""What a run would do and cost: counted and added up by hand."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import REPOSITORY, TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from slm.settings import SlmRecipe
from spidr.settings import ModelSettings
from workflow.estimates import (
    BFLOAT16_FLOPS,
    GPU_STAGES,
    START_HOURS,
    Cost,
    Estimates,
    encoder_parameters,
    slm_size,
)
from workflow.experiment import Experiment
from workflow.plan import Job, longest_chain, make_plan, read_jobs
from workflow.targets import Targets

PAPER = REPOSITORY / "config" / "paper.yaml"


class Priced(Estimates):
    """Estimates that a test gives."""

    def __init__(self, costs: dict[str, Cost]) -> None:
        self.costs = costs
        self.unknown = {"speech of mine": "known once its manifest is made"}

    def cost(self, rule: str, wildcards: Any) -> Cost:
        return self.costs.get(rule, Cost())

    def taken(self, rule: str, wildcards: Any) -> float | None:
        return None


def jobs(*found: tuple[str, list[int], bool]) -> list[Job]:
    return [Job(rule, {}, needs, due) for rule, needs, due in found]


def estimates(changes: dict[str, Any], experiment: Path = TINY) -> Estimates:
    found = yaml.safe_load(experiment.read_text()) | changes
    return Estimates(Targets(parse_settings(Experiment, found, "tiny")), experiment)


def test_only_jobs_that_are_due_are_counted_and_all_of_their_costs() -> None:
    costs = {"pretrain": Cost(3.0, (("checkpoints", 50.0),)), "extract": Cost(0.5, (("features", 7.0),))}
    found = jobs(("pretrain", [], False), ("pretrain", [], True), ("extract", [1], True), ("all", [2], True))
    plan = make_plan(found, Priced(costs))
    assert plan.jobs == {"pretrain": 1, "extract": 1}
    assert plan.gpu_hours == {"pretraining": 3.0, "features": 0.5}
    assert plan.disk == {"checkpoints": 50.0, "features": 7.0}
    assert (plan.chain, plan.chain_hours) == (["pretrain", "extract"], 3.5)
    assert plan.unknown == {"speech of mine": "known once its manifest is made"}


def test_what_was_measured_corrects_the_estimate_of_its_rule_alone(tmp_path: Path) -> None:
    for name, seconds in (("a", 3600.0), ("b", 7200.0)):
        (tmp_path / f"{name}.tsv").write_text(f"s\th:m:s\tmax_rss\n{seconds}\t1:00:00\t10\n")
    done = [Job("extract", {}, [], False, tmp_path / f"{name}.tsv") for name in "ab"]
    costs = {"extract": Cost(0.5), "tokenize": Cost(2.0)}
    plan = make_plan([*done, *jobs(("extract", [], True), ("tokenize", [], True))], Priced(costs))
    assert plan.gpu_hours == {"features": 0.5 * 3, "units": 2.0}  # 3 hours where 1 was estimated
    assert plan.measured == {"features": 2}


def test_a_training_is_measured_by_all_its_devices_and_attempts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its benchmark has the last attempt alone, on however many GPUs, and its wait in the queue."""
    monkeypatch.chdir(tmp_path)
    summaries = {
        "encoders/spidr/training": {"seconds": 7200.0, "num_devices": 16},
        "slm/phones/opt-tiny/seed0": {"seconds": 1800.0, "num_devices": 2},
    }
    for folder, summary in summaries.items():
        path = tmp_path / "results" / "tiny" / folder / "summary.json"
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(summary))
    (tmp_path / "last.tsv").write_text("s\th:m:s\tmax_rss\n9000\t2:30:00\t10\n")
    slm = {"slm": "opt-tiny", "seed": "0"}
    found = [
        Job("pretrain", {"encoder": "spidr"}, [], False, tmp_path / "last.tsv"),
        Job("pretrain", {"encoder": "dinosr"}, [], True, tmp_path / "last.tsv"),  # of an attempt that failed
        Job("train_slm", slm | {"system": "phones"}, [], False, tmp_path / "last.tsv"),
        Job("train_slm", slm | {"system": "spidr-L04-kmeans50"}, [], True),
    ]
    costs = {"pretrain": Cost(8.0), "train_slm": Cost(4.0)}
    priced = estimates({})
    monkeypatch.setattr(priced, "cost", lambda rule, wildcards: costs[rule])
    plan = make_plan(found, priced)
    assert plan.gpu_hours == {"pretraining": 32.0, "language models": 1.0}  # 2 h on 16 GPUs, half an hour on 2
    assert plan.measured == {"pretraining": 1, "language models": 1}
    (tmp_path / "results/tiny/encoders/spidr/training/summary.json").write_text('{"seconds": 7200.0}')
    with pytest.raises(InputError, match=r"training/summary\.json: num_devices: found None, expected int"):
        make_plan(found, priced)


def test_every_rule_that_takes_a_gpu_for_itself_is_a_stage_of_the_plan() -> None:
    rules = "".join(path.read_text() for path in (REPOSITORY / "workflow" / "rules").glob("*.smk"))
    found = re.findall(r"^(?:use rule (\w+) as|rule) (\w+)(?: with)?:\n((?:(?!rule |use rule ).*\n)*)", rules, re.M)
    taking = {rule for _, rule, text in found if re.search(r"gpu=(GPU|gpu_of_encoder),|\*\*LAUNCH\.resources", text)}
    assert set(GPU_STAGES) == taking | {rule for base, rule, _ in found if base in taking}


def test_the_longest_chain_has_most_hours_then_most_jobs() -> None:
    #  0 -> 1 -> 4, and 0 -> 2 -> 3 -> 4; 2 takes longer than 1, 5 follows nothing and takes no time
    names = [("a", []), ("b", [0]), ("c", [0]), ("d", [2]), ("e", [1, 3]), ("f", [])]
    found = jobs(*((name, needs, True) for name, needs in names))
    assert longest_chain(found, [1, 2, 2, 0, 1, 0]) == (["a", "c", "d", "e"], 4)
    assert longest_chain(found, [1, 3, 2, 0, 1, 0]) == (["a", "b", "e"], 5)
    assert longest_chain([], []) == ([], 0.0)


def test_the_plan_of_tiny_counts_what_snakemake_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = read_jobs(TINY)
    counts = {rule: sum(job.rule == rule for job in found) for rule in {job.rule for job in found}}
    assert counts["train_slm"] == counts["score_slm"] == 2  # spidr-L04-kmeans50 and phones
    assert counts["kmeans"] == 2  # of SpidR and MFCC
    assert counts["abx_units"] == 4  # two of SpidR, one of MFCC, the phones
    assert counts["prepare_corpus"] == counts["prepare_evaluation_set"] == 3
    assert all(job.is_due for job in found)
    chain, _ = longest_chain(found, [0.0] * len(found))
    assert chain[:3] == ["synthesize", "prepare_corpus", "pretrain"]
    assert chain[-1] == "report"


def test_a_finished_run_has_nothing_to_do(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tiny)
    found = read_jobs(TINY)
    plan = make_plan(found, estimates({}))
    assert not plan.jobs
    assert not plan.gpu_hours
    assert plan.measured["language models"] == 2


def test_the_command_prints_counts_hours_room_and_chain(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "plan")
    assert done.returncode == 0, done.stderr
    for told in ("train_slm", "GPU hours, an estimate", "token stores", "longest chain", "not counted: speech of dev"):
        assert told in done.stdout, told


def test_a_wrong_experiment_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "wrong.yaml").write_text("experiment: wrong\n")
    command = [sys.executable, "-m", "workflow.plan", "--configfile", "wrong.yaml"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(REPOSITORY)}
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: wrong.yaml: corpora: missing")
    assert len(done.stderr.splitlines()) == 1


def test_pretraining_at_the_papers_size_takes_the_hours_of_table_4() -> None:
    cost = estimates({}, PAPER).cost("pretrain", {"encoder": "spidr-base"})
    assert cost.gpu_hours == pytest.approx(369, rel=0.02)
    assert encoder_parameters(ModelSettings()) == pytest.approx(93_135_872, rel=0.01)
    assert dict(cost.disk)["checkpoints"] == pytest.approx(3 * 16 * 93.1e6, rel=0.01)


def test_a_language_model_costs_its_flop() -> None:
    recipe = SlmRecipe()
    parameters, flop = slm_size(recipe, 256)
    assert parameters == pytest.approx(86.8e6, rel=0.01)  # with biases and layer norms
    linear = 12 * (4 * 768 * 768 + 2 * 768 * 3072) + 256 * 768
    assert flop == 6 * linear + 6 * 12 * 2048 * 768
    cost = estimates({}, PAPER).cost(
        "train_slm", {"system": "spidr-base-L06-kmeans256", "slm": "opt-125m", "seed": "0"}
    )
    hours = 100_000 * 131_072 * flop / BFLOAT16_FLOPS / 3600
    assert cost.gpu_hours == pytest.approx(hours + START_HOURS)


def test_features_and_tokens_take_the_room_of_their_frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/tiny/corpora/dev"
    folder.mkdir(parents=True)
    (folder / "manifest.csv").write_text("fileid,path,num_samples,speaker\na,a.wav,16000,1\nb,b.wav,48000,1\n")
    found = estimates({})
    mfcc = found.cost("extract", {"encoder": "mfcc", "corpus": "dev", "layers": "01"})
    assert dict(mfcc.disk) == {"features": pytest.approx(4 * 50 * 39 * 2)}  # 4 s, 50 Hz, float16
    tokens = found.cost("store_tokens", {"system": "mfcc-L01-kmeans50", "corpus": "dev"})
    assert dict(tokens.disk) == {"token stores": pytest.approx(4 * 35 * 2)}
    assert found.cost("extract", {"encoder": "mfcc", "corpus": "train", "layers": "01"}).gpu_hours is None
    assert found.unknown == {"speech of train": "known once its manifest is made"}


def test_shards_share_a_pass_and_copy_its_units(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "results/tiny/corpora/dev"
    folder.mkdir(parents=True)
    (folder / "manifest.csv").write_text("fileid,path,num_samples,speaker\na,a.wav,57600000,1\n")  # an hour
    whole, parted = estimates({}), estimates({"shards": 4})
    wildcards = {"system": "mfcc-L01-kmeans50", "corpus": "dev"}
    assert whole.cost("take_units", wildcards).disk == ()
    assert dict(parted.cost("take_units", wildcards).disk) == {"units": pytest.approx(3600 * 35 * 8)}
    (made,) = [p for p in whole.targets.unit_passes("mfcc") if "dev" in p.corpora]
    for found, shards in ((whole, 1), (parted, 4)):
        cost = found.cost("tokenize", {"encoder": "mfcc", "name": made.name, "shard": "0", "shards": str(shards)})
        assert dict(cost.disk) == {"units": pytest.approx(3600 * 35 * 8 / shards)}
