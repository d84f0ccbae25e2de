"""Names of what an experiment makes: which systems and corpora the report shows."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.settings import parse_settings
from workflow.experiment import Experiment
from workflow.targets import MOST_ALIGNED, Targets

CONFIG = Path(__file__).parent.parent / "config"


def targets(experiment: str, **changed: Any) -> Targets:
    """The targets of an experiment file, some of its keys changed."""
    found = yaml.safe_load((CONFIG / f"{experiment}.yaml").read_text()) | changed
    return Targets(parse_settings(Experiment, found, experiment))


def test_every_encoder_with_units_has_a_lane_before_any_has_a_second() -> None:
    recorded = targets("recorded")
    systems = recorded.aligned_systems()
    assert len(recorded.experiment.all_systems) > MOST_ALIGNED == len(systems)
    assert {system.encoder for system in systems} == {"spidr", "spidr-untrained", "mfcc"}
    order = list(recorded.experiment.all_systems)
    assert [order.index(system.name) for system in systems] == sorted(order.index(system.name) for system in systems)


def test_lanes_are_those_of_language_models_and_not_the_phones() -> None:
    assert [system.name for system in targets("tiny").aligned_systems()] == ["spidr-L04-kmeans50"]


def test_the_corpus_of_the_figure_is_the_first_that_units_are_measured_on() -> None:
    assert targets("tiny").aligned_corpus() == "dev"
    assert [path.rsplit(".")[-1] for path in targets("tiny").alignment()] == ["png", "pdf", "json"]


def test_without_units_or_without_anything_measured_on_them_there_is_no_figure() -> None:
    alone = {"quantizers": {}, "slms": {}, "systems": [], "figures": [7]}
    features = targets("tiny", encoders={"mfcc": {"family": "mfcc"}}, **alone)
    assert features.alignment() == []
    assert features.trainings() == []


def test_a_corpus_that_nothing_reads_is_not_reported() -> None:
    tiny = targets("tiny")
    assert tiny.used_corpora() == ["train", "valid", "dev", "lexical", "syntactic", "stories"]
    alone = {"quantizers": {}, "slms": {}, "systems": [], "figures": [7]}
    features = targets("tiny", encoders={"mfcc": {"family": "mfcc"}}, **alone)
    assert features.used_corpora() == ["dev"]


def test_an_encoder_made_elsewhere_lies_there() -> None:
    encoders = {"mfcc": {"family": "mfcc"}, "old": {"family": "spidr", "path": "/models/old", "layers": [1]}}
    alone = {"quantizers": {}, "slms": {}, "systems": [], "figures": [7]}
    assert targets("tiny", encoders=encoders, **alone).encoder_folders() == {
        "mfcc": "results/tiny/encoders/mfcc",
        "old": "/models/old",
    }


def test_every_figure_has_two_forms_and_figure_2_is_of_the_logs_of_trained_encoders() -> None:
    tiny = targets("tiny", figures=[2, 7])
    assert tiny.figures() == [
        f"results/tiny/figures/figure_{stem}" for stem in ("02.pdf", "02.png", "07.pdf", "07.png")
    ]
    assert tiny.training_logs() == {
        "spidr": "results/tiny/encoders/spidr/training/log.jsonl",
        "dinosr": "results/tiny/encoders/dinosr/training/log.jsonl",
    }


def test_of_encoders_made_elsewhere_those_that_come_with_a_log_are_drawn(tmp_path: Path) -> None:
    log = tmp_path / "with" / "training" / "log.jsonl"
    log.parent.mkdir(parents=True)
    log.touch()
    encoders = {name: {"family": "spidr", "path": str(tmp_path / name), "layers": [1]} for name in ("with", "without")}
    alone = {"quantizers": {}, "slms": {}, "systems": [], "figures": [2, 7]}
    assert targets("tiny", encoders=encoders, **alone).training_logs() == {"with": str(log)}


def test_each_formula_of_map_is_a_score_of_its_own() -> None:
    evaluation = yaml.safe_load((CONFIG / "tiny.yaml").read_text())["evaluation"]
    both = targets("tiny", evaluation=evaluation | {"map": {"corpora": ["dev"], "variants": ["strict", "speech-map"]}})
    names = [Path(path).name for path in both.layer_scores("mfcc", 1) if "map_words" in path]
    assert names == ["map_words.dev.strict.json", "map_words.dev.speech-map.json"]


def test_pairs_to_listen_to_show_what_text_makes_of_them_too() -> None:
    shown = targets("paper").sampled("swuggy")
    assert len(shown) == MOST_ALIGNED + 1
    assert shown["text"] == "results/paper/likelihoods/text/text-600/seed0/swuggy.csv"


def test_an_inventory_of_phones_stays_that_of_the_corpora_it_was_taken_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = targets("tiny")
    corpora = ["train", "valid", "dev", "lexical", "syntactic", "stories"]
    tables = [f"results/tiny/corpora/{corpus}/intervals.csv" for corpus in corpora]
    assert tiny.inventoried() == tables
    config = tmp_path / "results" / "tiny" / "encoders" / "phones" / "config.json"
    config.parent.mkdir(parents=True)
    taken = ["results/tiny/corpora/gone/intervals.csv", "results/tiny/corpora/kept/intervals.csv", *tables[:3]]
    kept = tmp_path / taken[1]  # no longer the experiment's, but there
    kept.parent.mkdir(parents=True)
    kept.touch()
    config.write_text(json.dumps({"family": "phones", "intervals": taken}))
    assert tiny.inventoried() == taken[1:]
