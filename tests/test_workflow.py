"""The whole line, run for real: from speech to tables, and again only what is missing."""

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake

SCORE_FIELDS = [
    *("source", "model", "encoder", "layer", "quantizer", "num_units", "slm", "corpus", "hours", "seed"),
    *("metric", "dataset", "condition", "value", "low", "high", "n"),
]


def scores(folder: Path, **fields: str) -> list[dict[str, str]]:
    """Rows of a run's scores.csv in which the given fields have the given values."""
    with (folder / "results" / "tiny" / "scores.csv").open(newline="") as file:
        return [row for row in csv.DictReader(file) if all(row[key] == value for key, value in fields.items())]


def value(folder: Path, **fields: str) -> float:
    (row,) = scores(folder, **fields)
    return float(row["value"])


def planned(stdout: str) -> set[str]:
    """Output files of the jobs that a dry run plans."""
    return {path for line in re.findall(r"^ +output: (.*)$", stdout, re.M) for path in line.split(", ")}


def copy_of(run: Path, tmp_path: Path) -> Path:
    copy = tmp_path / "run"
    shutil.copytree(run, copy, symlinks=True)
    return copy


def test_every_artifact_lies_where_the_design_says(tiny: Path) -> None:
    root = tiny / "results" / "tiny"
    for path in (
        *("corpora/dev/manifest.csv", "corpora/dev/speakers.csv", "corpora/dev/intervals.csv", "corpora/dev/words.csv"),
        *("corpora/dev/triphone.item", "corpora/dev/phoneme.item", "corpora/lexical/items.csv"),
        *("encoders/spidr/model.safetensors", "encoders/spidr/config.json", "encoders/spidr/training/log.jsonl"),
        *("features/spidr/L04/dev/config.json", "quantizers/spidr/L04/kmeans50/quantizer.safetensors"),
        *("units/spidr-L04-kmeans50/train.jsonl", "units/spidr-L04-kmeans50/health.json"),
        *("slm/phones/opt-tiny/seed0/model/config.json", "slm/phones/opt-tiny/seed0/log.jsonl"),
        *("likelihoods/phones/opt-tiny/seed0/lexical.csv", "scores.csv", "report.html"),
        *(f"tables/table_{n}.{kind}" for n in (1, 2) for kind in ("csv", "md", "tex")),
        *(f"figures/figure_{n:02d}.{kind}" for n in (2, 5, 7, 8, 10, 11, 12, 13, 14) for kind in ("pdf", "png")),
        *(f"figures/alignment.{kind}" for kind in ("pdf", "png", "json")),
    ):
        assert (root / path).is_file(), path


def test_scores_have_the_pinned_fields_and_carry_their_provenance(tiny: Path) -> None:
    rows = scores(tiny)
    assert list(rows[0]) == SCORE_FIELDS
    for row in rows:
        assert row["source"] == "ours"
        assert float(row["low"] or row["value"]) <= float(row["value"]) <= float(row["high"] or row["value"])
    score = json.loads((tiny / "results/tiny/scores/phones/opt-tiny/seed0/sblimp.syntactic.json").read_text())
    assert score["provenance"]["packages"]["torch"]
    assert score["provenance"]["inputs"]
    assert score["conditions"]


def test_the_annotated_phones_are_perfect_units(tiny: Path) -> None:
    assert value(tiny, encoder="phones", metric="pnmi") == pytest.approx(1, abs=1e-12)
    for condition in ("within", "across"):
        assert value(tiny, encoder="phones", metric="abx_units", condition=condition) < 0.02


def test_spidr_learns_and_the_untrained_one_is_near_chance(tiny: Path) -> None:
    trained = [value(tiny, encoder="spidr", layer=n, metric="abx_continuous", condition="across") for n in ("4",)]
    untrained = value(tiny, encoder="spidr-untrained", layer="4", metric="abx_continuous", condition="across")
    assert untrained > 0.4
    assert min(trained) < untrained - 0.05


def test_nothing_is_left_to_do_after_a_finished_run(tiny: Path) -> None:
    done = snakemake(tiny, "-n", "all")
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


def changed_experiment(tmp_path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """A copy of the tiny experiment file after `change`."""
    experiment = yaml.safe_load(TINY.read_text())
    change(experiment)
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(experiment, sort_keys=False))
    return path


def test_another_device_is_no_reason_to_run_again(tiny: Path, tmp_path: Path) -> None:
    other = changed_experiment(tmp_path, lambda experiment: experiment.update(device="auto"))
    assert "Nothing to be done" in (done := snakemake(tiny, "-n", "all", experiment=other)).stdout + done.stderr


def test_a_display_name_scores_and_an_annotation_retrains_nothing(tiny: Path, tmp_path: Path) -> None:
    def change(experiment: dict[str, Any]) -> None:
        experiment["encoders"]["mfcc"]["name"] = "Cepstra"
        experiment["corpora"]["valid"]["annotations"] = "annotations/dev.csv"

    outputs = planned(snakemake(tiny, "-n", "all", experiment=changed_experiment(tmp_path, change)).stdout)
    assert {"results/tiny/scores.csv", "results/tiny/report.html"} <= set(outputs)
    assert not [
        path
        for path in outputs
        if re.search(r"/(manifest\.csv|encoders/(?!phones)|features|quantizers|scores/mfcc)", path)
    ]


def test_adding_a_layer_runs_only_what_depends_on_it(tiny: Path, tmp_path: Path) -> None:
    run = copy_of(tiny, tmp_path)
    changed = changed_experiment(tmp_path, lambda experiment: experiment["encoders"]["dinosr"].update(layers=[2, 4]))
    outputs = planned(snakemake(run, "-n", "all", experiment=changed).stdout)
    assert outputs
    for path in outputs:
        made = "dinosr/L02" in path or path.endswith("passes/dinosr/features/dev/02/pass.json")
        assert made or re.search(r"/(scores\.csv|report\.html|tables/.*|figures/.*)$", path), path


def test_one_more_annotated_corpus_makes_nothing_of_the_others_again(tiny: Path, tmp_path: Path) -> None:
    def change(experiment: dict[str, Any]) -> None:
        experiment["corpora"]["dev-2"] = experiment["corpora"]["dev"]
        experiment["evaluation"]["abx"]["corpora"] = ["dev", "dev-2"]

    run = copy_of(tiny, tmp_path)
    outputs = planned(snakemake(run, "-n", "all", experiment=changed_experiment(tmp_path, change)).stdout)
    assert "results/tiny/units/phones/dev-2.jsonl" in outputs
    passes = {"/".join(Path(path).parts[2:5]) for path in outputs if path.endswith("/pass.json")}
    units = {"passes/spidr/units", "passes/mfcc/units"}
    frames = {f"passes/{encoder}/features" for encoder in ("spidr", "dinosr", "spidr-untrained", "mfcc")}
    assert passes == units | frames | {"passes/spidr/predictions"}
    for path in outputs:
        of_all = r"/(scores\.csv|report\.html|health\.json|tables/.*|figures/.*)$"
        assert "dev-2" in path or path.endswith("/pass.json") or re.search(of_all, path), path


def test_a_comparison_runs_only_what_is_missing(tiny: Path, tmp_path: Path) -> None:
    run = copy_of(tiny, tmp_path)
    target = "results/tiny/compare/phones--vs--spidr-L04-kmeans50.md"
    (run / "results/tiny/scores/phones/opt-tiny/seed0/sblimp.syntactic.json").unlink()
    done = snakemake(run, target)
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^(?:local)?rule (\w+):", done.stderr, re.M)) == {"sblimp", "compare"}
    text = (run / target).read_text()
    for metric in ("sWUGGY", "sBLIMP", "tSC", "PNMI", "ABX"):
        assert metric in text


def test_the_report_needs_no_network(tiny: Path) -> None:
    page = (tiny / "results/tiny/report.html").read_text()
    figures, alignment, losses_of_language_models = 9, 1, 2
    assert page.count("data:image/png;base64,") == figures + alignment + losses_of_language_models
    assert not re.search(r"""(?:src|href)=["']https?:""", page)


def test_the_report_tells_what_was_run_and_what_was_learned(tiny: Path) -> None:
    page = (tiny / "results/tiny/report.html").read_text()
    assert "SpidR and DinoSR were trained without labels on" in page
    assert "by 4 speakers (dev), whom no training heard." in page
    assert "Training helped SpidR in part: shown for ABX error across speakers and within speaker," in page
    trained = json.loads((tiny / "results/tiny/encoders/spidr/training/summary.json").read_text())
    assert f'<td class="number">{trained["steps"]}</td>' in page


def test_an_experiment_of_features_alone_draws_no_alignment(tiny: Path, tmp_path: Path) -> None:
    def change(experiment: dict[str, Any]) -> None:
        experiment["encoders"] = {"mfcc": {"family": "mfcc"}}
        experiment.update(quantizers={}, slms={}, systems=[], tables=[1], figures=[7])
        experiment["evaluation"] = {"abx": experiment["evaluation"]["abx"]}

    run = copy_of(tiny, tmp_path)
    done = snakemake(run, "-n", "all", experiment=changed_experiment(tmp_path, change))
    assert done.returncode == 0, done.stderr
    assert not [path for path in planned(done.stdout) if "alignment" in path]


def test_a_hubert_is_described_once_whatever_its_layers(tmp_path: Path) -> None:
    folder = tmp_path / "hubert"
    folder.mkdir()
    config = {"model_type": "hubert", "num_hidden_layers": 2, "conv_stride": [5, 2, 2, 2, 2, 2, 2]}
    (folder / "config.json").write_text(json.dumps(config))

    def with_layers(layers: list[int]) -> Path:
        hubert = {"family": "hub", "source": str(folder), "standardize": False, "layers": layers}
        return changed_experiment(tmp_path, lambda experiment: experiment["encoders"].update(hubert=hubert))

    target = "results/tiny/encoders/hubert/config.json"
    done = snakemake(tmp_path, target, experiment=with_layers([1]))
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / target).read_text())["num_layers"] == 2
    again = snakemake(tmp_path, "-n", target, experiment=with_layers([1, 2]))
    assert "Nothing to be done" in again.stdout + again.stderr
    beyond = snakemake(tmp_path, "-n", target, experiment=with_layers([3]))
    assert beyond.returncode == 2
    assert "encoders.hubert.layers: found 3, expected 0 to 2" in beyond.stderr
