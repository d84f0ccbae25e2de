"""What an experiment must have for its figures, and whose layer figures 8 to 10 show."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from workflow.drawn import Shown, shown
from workflow.experiment import Experiment
from workflow.targets import Targets


def experiment(**changes: Any) -> Experiment:
    """The tiny experiment with some keys changed; the first encoder has four layers."""
    given = yaml.safe_load(TINY.read_text())
    given["encoders"]["spidr"] |= {"layers": [1, 2, 3, 4], "quantizers": {"kmeans50": [2, 4], "codebook": [4]}}
    given["tables"] = []
    return parse_settings(Experiment, given | changes, "tiny")


def test_by_default_the_best_layer_of_the_first_encoder_that_is_trained_is_shown() -> None:
    encoders = yaml.safe_load(TINY.read_text())["encoders"]
    mfcc_first = {"mfcc": encoders["mfcc"], **encoders}
    assert shown(experiment(encoders=mfcc_first, systems=["phones"], figures=[7]), 8).encoder == "spidr"
    found = shown(experiment(), 8)
    assert (found, found.choice) == (Shown("spidr", [1, 2, 3, 4]), "best")
    assert shown(experiment(), 10) == Shown("spidr", [2, 4], ["kmeans50", "codebook"])


def test_a_selection_chooses_encoder_layer_and_quantizer() -> None:
    select = {
        "figure_08": {"encoder": ["dinosr"]},
        "figure_09": {"layer": [2]},
        "figure_10": {"layer": [4], "quantizer": ["codebook"]},
    }
    chosen = experiment(figures=[8, 9, 10], select=select)
    assert [shown(chosen, number).choice for number in (8, 9, 10)] == ["L04", "L02", "L04"]
    targets = Targets(chosen)
    assert targets.embeddings(8) == "results/tiny/figures/embeddings/dinosr/L04/dev.csv"
    assert targets.embedded_features("spidr", "L02", "dev") == ["results/tiny/features/spidr/L02/dev"]
    assert targets.counted() == ["results/tiny/scores/spidr-L04-codebook/pnmi.dev.json"]
    assert targets.counted_selection() == []


def test_of_several_layers_the_best_is_resolved_while_the_workflow_runs() -> None:
    targets = Targets(experiment())
    assert targets.embeddings(9) == "results/tiny/figures/embeddings/spidr/best/dev.csv"
    assert len(targets.embedded_features("spidr", "best", "dev")) == 4
    assert [Path(path).parent.name for path in targets.counted()] == [
        "spidr-L02-kmeans50",
        "spidr-L04-kmeans50",
        "spidr-L04-codebook",
    ]
    assert targets.counted_selection() == ["results/tiny/layers/spidr.json"]


MFCC = {"mfcc": {"family": "mfcc", "quantizers": ["kmeans50"]}}
NO_MODELS: dict[str, Any] = {"slms": {}, "systems": [], "encoders": MFCC}
WRONG: list[tuple[list[int], dict[str, Any], str]] = [
    ([3], NO_MODELS, "figures: found 3, expected systems with a language model to draw it from"),
    ([4], NO_MODELS, "figures: found 4, expected an encoder that is trained by a recipe, or others"),
    ([5], NO_MODELS, "figures: found 5, expected a spidr or dinosr encoder that is trained by a recipe"),
    ([6], NO_MODELS, "figures: found 6, expected a spidr or dinosr encoder that is trained by a recipe"),
    ([7], {"evaluation": {"quality": {"corpora": ["dev"]}}, **NO_MODELS}, "figures: found 7, expected evaluation.abx"),
    ([8], {"evaluation": {"quality": {"corpora": ["dev"]}}, **NO_MODELS}, "figures: found 8, expected evaluation.abx"),
    (
        [10],
        {"evaluation": {"abx": {"corpora": ["dev"]}}, **NO_MODELS},
        "figures: found 10, expected evaluation.quality",
    ),
    ([8], {"select": {"figure_08": {"model": ["SpidR"]}}}, "select.figure_08: found model, expected encoder and layer"),
    (
        [8],
        {"select": {"figure_08": {"encoder": ["phones"]}}},
        r"select.figure_08.encoder: found \['phones'\], expected",
    ),
    (
        [9],
        {"select": {"figure_09": {"layer": [3, 4]}}},
        r"select.figure_09.layer: found \[3, 4\], expected one of 1, 2",
    ),
    ([10], {"select": {"figure_10": {"layer": [3]}}}, r"select.figure_10.layer: found \[3\], expected one of 2, 4"),
    (
        [10],
        {"select": {"figure_10": {"quantizer": ["spin"]}}},
        "select.figure_10.quantizer: found 'spin', expected one",
    ),
]


@pytest.mark.parametrize(("figures", "changes", "message"), WRONG)
def test_a_figure_that_cannot_be_drawn_is_one_line(figures: list[int], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        experiment(figures=figures, **changes)
    assert "\n" not in str(error.value)


def test_each_figure_is_a_target_of_its_own(tmp_path: Path) -> None:
    wanted = [f"results/tiny/figures/figure_{number}.pdf" for number in ("05", "06")]
    planned = snakemake(tmp_path, "-n", *wanted)
    assert planned.returncode == 0, planned.stderr
    rules = {line.removesuffix(":").split()[-1] for line in planned.stdout.splitlines() if "rule " in line}
    assert rules == {"schedules", "draw_schedules", "mask", "draw_mask"}
