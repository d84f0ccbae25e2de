"""An experiment that wants every zero-shot metric: its names, its jobs, and what it may not ask for."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from workflow.experiment import Experiment
from workflow.targets import Targets

SETS = {
    "contradicted": {"layout": "twist", "path": "sSC"},
    "prosody": {"layout": "prosaudit", "path": "prosaudit", "split": "test"},
    "acoustic": {"layout": "salmon", "path": "salmon"},
    "mine": {"layout": "pairs", "path": "mine", "table": "mine/pairs.csv"},
    "folders": {"layout": "slamkit", "path": "folders"},
}
WANTED = {
    **{"ssc": {"set": "contradicted"}, "prosaudit": {"set": "prosody"}},
    **{"salmon": {"set": "acoustic"}, "pairs": {"set": "mine"}},
}


def experiment(**evaluation: Any) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TINY.read_text())
    found["corpora"] |= SETS
    found["evaluation"] |= WANTED | evaluation
    found["systems"] = ["spidr-L04-kmeans50"]
    return found


def test_each_metric_has_a_score_of_its_set_and_those_of_parts_have_theirs() -> None:
    targets = Targets(parse_settings(Experiment, experiment(), "tiny"))
    folder = "results/tiny/scores/spidr-L04-kmeans50/opt-tiny/seed0"
    (system,) = targets.experiment.language_systems
    scores = [path.removeprefix(f"{folder}/") for path in targets.language_scores(system)]
    assert scores[:4] == [
        "swuggy_all.lexical.json",
        "swuggy_in_vocab.lexical.json",
        "sblimp.syntactic.json",
        "tsc.stories.json",
    ]
    assert scores[4:7] == [
        "ssc.contradicted.json",
        "prosaudit.prosody.protosyntax.json",
        "prosaudit.prosody.lexical.json",
    ]
    assert scores[-3:] == ["salmon_consistency.acoustic.json", "salmon_alignment.acoustic.json", "pairs.mine.json"]
    assert "salmon.acoustic.rir_consistency.json" in scores
    assert len(scores) == 4 + 3 + 10 + 1
    assert targets.evaluation_sets == ["lexical", "syntactic", "stories", "contradicted", "prosody", "acoustic", "mine"]


@pytest.mark.parametrize(
    ("metric", "dataset", "layouts"),
    [
        ("ssc", "mine", "twist or slamkit"),
        ("prosaudit", "lexical", "prosaudit"),
        ("salmon", "prosody", "salmon"),
        ("pairs", "stories", "pairs or slamkit"),
    ],
)
def test_a_set_of_another_layout_is_refused(metric: str, dataset: str, layouts: str) -> None:
    message = rf"evaluation.{metric}.set: found '{dataset}', expected one of the corpora of layout {layouts}"
    with pytest.raises(InputError, match=message):
        parse_settings(Experiment, experiment(**{metric: {"set": dataset}}), "tiny")


def test_folders_of_slamkit_are_stories_or_pairs() -> None:
    found = parse_settings(Experiment, experiment(tsc={"set": "folders"}, pairs={"set": "folders"}), "tiny")
    assert found.evaluation.zeroshot["tsc"] == found.evaluation.zeroshot["pairs"] == "folders"


def test_snakemake_plans_one_job_a_metric(tmp_path: Path) -> None:
    found = experiment()
    for entry in (*found["encoders"].values(), *found["slms"].values()):
        if "recipe" in entry:
            entry["recipe"] = str(TINY.parent / entry["recipe"])
    (tmp_path / "all.yaml").write_text(yaml.safe_dump(found, sort_keys=False))
    done = snakemake(tmp_path, "results/tiny/scores.csv", "-n", experiment=tmp_path / "all.yaml")
    assert done.returncode == 0, done.stderr[-3000:]
    jobs = dict(re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M))
    metrics = ("swuggy", "sblimp", "tsc", "ssc", "prosaudit", "salmon", "pairs")
    assert {metric: jobs.get(metric) for metric in metrics} == dict.fromkeys(metrics, "1")
    assert jobs["prepare_evaluation_set"] == "7"
