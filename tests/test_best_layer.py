"""Systems of an encoder's best layer: the rule, the names, and a plan that is made while it is carried out."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from eval.best_layer import best_layer
from eval.scores import Subject, write_score
from workflow.experiment import Experiment
from workflow.targets import Targets

BEST = "spidr-best-kmeans50"


def write(folder: Path, layer: int, dataset: str, condition: str, value: float, **other: Any) -> Path:
    subject = Subject(model="SpidR", encoder=other.get("encoder", "spidr"), layer=layer)
    return write_score(
        folder / f"{subject.encoder}-L{layer:02d}",
        subject,
        metric=other.get("metric", "abx_continuous"),
        dataset=dataset,
        condition=condition,
        value=value,
        n=1,
        conditions={},
        items=((), ()),
        provenance={},
    )


def four(folder: Path, layer: int, *values: float) -> list[Path]:
    places = [(dataset, condition) for dataset in ("clean", "other") for condition in ("within", "across")]
    return [write(folder, layer, *place, value) for place, value in zip(places, values, strict=True)]


def test_the_layer_with_the_lowest_mean_of_four_is_the_best(tmp_path: Path) -> None:
    scores = four(tmp_path, 4, 0.01, 0.02, 0.2, 0.2) + four(tmp_path, 5, 0.1, 0.1, 0.1, 0.1)
    scores += four(tmp_path, 6, 0.05, 0.1, 0.15, 0.12)
    found = best_layer(scores)
    assert (found["encoder"], found["layer"]) == ("spidr", 5)
    assert found["abx_continuous"] == pytest.approx({"4": 0.1075, "5": 0.1, "6": 0.105})


def test_of_equal_layers_the_first_is_the_best(tmp_path: Path) -> None:
    scores = four(tmp_path, 7, 0.1, 0.1, 0.1, 0.1) + four(tmp_path, 3, 0.1, 0.1, 0.1, 0.1)
    assert best_layer(scores)["layer"] == 3


def test_scores_that_do_not_compare_are_refused(tmp_path: Path) -> None:
    scores = four(tmp_path, 4, 0.1, 0.1, 0.1, 0.1)
    with pytest.raises(InputError, match="layer 5 is scored on other things than layer 4, expected the same"):
        best_layer([*scores, write(tmp_path, 5, "clean", "within", 0.2)])
    with pytest.raises(InputError, match="found abx_continuous within_any of layer 5, expected abx_continuous within"):
        best_layer([*scores, write(tmp_path, 5, "clean", "within_any", 0.2)])
    with pytest.raises(InputError, match="found pnmi within of layer 5, expected abx_continuous within or across"):
        best_layer([*scores, write(tmp_path, 5, "clean", "within", 0.2, metric="pnmi")])
    with pytest.raises(InputError, match="found encoder hubert, expected spidr as in"):
        best_layer([*scores, write(tmp_path, 5, "clean", "within", 0.2, encoder="hubert")])


def changed(**keys: Any) -> dict[str, Any]:
    """The tiny experiment with two layers of SpidR, a language model for the better of them, and `keys`."""
    experiment: dict[str, Any] = yaml.safe_load(TINY.read_text())
    experiment["encoders"]["spidr"] |= {"layers": [3, 4]}
    return experiment | {"systems": [BEST, "phones"]} | keys


def experiment_of(**keys: Any) -> Experiment:
    return parse_settings(Experiment, changed(**keys), "tiny.yaml")


def test_a_best_system_is_one_of_its_encoders_layers() -> None:
    experiment = experiment_of()
    assert {name: [s.name for s in found] for name, found in experiment.candidates.items()} == {
        BEST: ["spidr-L03-kmeans50", "spidr-L04-kmeans50"]
    }
    assert [system.name for system in experiment.language_systems] == ["phones"]
    assert experiment.has_language_models
    assert BEST not in experiment.all_systems
    assert experiment_of(systems=["phones"]).candidates == {}
    assert experiment_of(systems="all").candidates == {}


def test_a_best_system_that_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="systems: found 'spidr-best-kmeans9', expected one of"):
        experiment_of(systems=["spidr-best-kmeans9"])
    quality = {"quality": {"corpora": ["dev"]}, "swuggy": {"set": "lexical"}}
    with pytest.raises(InputError, match=rf"systems: found {BEST}, expected evaluation.abx of triphones within"):
        experiment_of(evaluation=quality, tables=[])
    abx = {"abx": {"corpora": ["dev"], "contexts": ["any"]}, "swuggy": {"set": "lexical"}}
    with pytest.raises(InputError, match=rf"systems: found {BEST}, expected evaluation.abx of triphones within"):
        experiment_of(evaluation=abx, tables=[])


def test_conditions_of_abx_name_their_scores() -> None:
    abx = {"corpora": ["dev"], "conditions": ["across"], "contexts": ["within", "any"]}
    evaluation = {"abx": abx | {"segments": ["triphone", "phoneme"]}, "swuggy": {"set": "lexical"}}
    targets = Targets(experiment_of(evaluation=evaluation, figures=[7]))
    names = [Path(path).name for path in targets.layer_scores("spidr", 4)]
    assert names == [
        f"abx_continuous.dev.{condition}.json"
        for condition in ("across", "across_any", "across_phoneme", "across_any_phoneme")
    ]
    assert [Path(path).name for path in targets.selected_by("spidr")] == ["abx_continuous.dev.across.json"] * 2
    with pytest.raises(InputError, match=r"tables: found 1, expected evaluation.abx of triphones within context"):
        experiment_of(evaluation=evaluation | {"abx": abx | {"contexts": ["any"]}}, systems=["phones"])


def test_what_is_made_of_the_best_is_known_once_it_is_selected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    targets = Targets(experiment_of())
    assert targets.selecting() == ["spidr"]
    assert [system.name for system in targets.language_systems()] == ["phones"]
    passes = targets.unit_passes("spidr")
    selection = Path(targets.selection("spidr"))
    selection.parent.mkdir(parents=True)
    selection.write_text(json.dumps({"encoder": "spidr", "layer": 3}))
    assert [system.name for system in targets.language_systems()] == ["phones", "spidr-L03-kmeans50"]
    assert "results/tiny/slm/spidr-L03-kmeans50/opt-tiny/seed0/summary.json" in targets.trainings()
    assert targets.unit_passes("spidr") == passes
    for layer in (3, 4):
        made = [p for p in passes if f"spidr-L{layer:02d}-kmeans50" in p.systems]
        assert [corpus for p in made for corpus in p.corpora] == [
            *("dev", "train", "valid", "lexical", "syntactic", "stories")
        ]


def experiment_file(tmp_path: Path) -> Path:
    experiment = changed()
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    return path


def test_a_plan_waits_for_the_layer_to_be_selected(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "-n", "all", experiment=experiment_file(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "checkpoint select_layer" in done.stdout
    assert not re.search(r"slm/spidr", done.stdout)
    assert "scores/spidr/L03/abx_continuous.dev.within.json" in done.stdout


@pytest.mark.slow
def test_the_language_model_is_that_of_the_selected_layer(tiny: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny, run, symlinks=True)
    path = experiment_file(tmp_path)
    done = snakemake(run, "all", experiment=path)
    assert done.returncode == 0, done.stderr[-5000:]
    found = json.loads((run / "results/tiny/layers/spidr.json").read_text())
    means = {int(layer): mean for layer, mean in found["abx_continuous"].items()}
    assert found["layer"] == min(means, key=lambda layer: means[layer])
    trained = {path.parts[-5] for path in (run / "results/tiny/slm").glob("spidr-*/opt-tiny/seed0/model/config.json")}
    assert f"spidr-L{found['layer']:02d}-kmeans50" in trained
    table = (run / "results/tiny/scores.csv").read_text()
    assert re.search(rf"spidr,{found['layer']},kmeans50,50,opt-tiny", table)
    assert "Nothing to be done" in (again := snakemake(run, "-n", "all", experiment=path)).stdout + again.stderr
