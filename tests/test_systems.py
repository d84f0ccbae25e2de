"""Which layers a quantizer makes units of, and which systems a language model is trained for."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from workflow.experiment import Experiment
from workflow.targets import Targets

TINY = Path(__file__).parent.parent / "config" / "tiny.yaml"


def experiment(quantizers: Any, slms: dict[str, Any], systems: Any = ()) -> Experiment:
    found = yaml.safe_load(TINY.read_text())
    found["encoders"]["spidr"] |= {"layers": [1, 2, 3, 4], "quantizers": quantizers}
    recipe = {"recipe": "slm/tiny.yaml", "validation": "valid"}
    found |= {"slms": {name: recipe | slm for name, slm in slms.items()}, "systems": systems or [], "figures": [7]}
    return parse_settings(Experiment, found, "tiny")


def test_a_quantizer_is_for_all_layers_or_for_those_it_names() -> None:
    everywhere = experiment(["kmeans50", "codebook"], {})
    assert len([name for name in everywhere.all_systems if name.startswith("spidr-L")]) == 8
    some = experiment({"kmeans50": [1, 4], "codebook": [3]}, {})
    found = [name for name in some.all_systems if name.startswith("spidr-L")]
    assert found == ["spidr-L01-kmeans50", "spidr-L03-codebook", "spidr-L04-kmeans50"]


@pytest.mark.parametrize(
    ("quantizers", "message"),
    [
        ({"kmeans50": [5]}, "encoders.spidr.quantizers.kmeans50: found 5, expected one of the encoder's layers: 1, 2"),
        ({"kmeans60": [1]}, "encoders.spidr.quantizers: found 'kmeans60', expected one of the quantizers"),
        (["kmeans50", "kmeans50"], r"encoders.spidr.quantizers: found \['kmeans50', 'kmeans50'\], expected each once"),
        ({"kmeans50": [2, 1]}, r"found \[2, 1\], expected each layer once, rising: \[1, 2\]"),
    ],
)
def test_wrong_layers_of_a_quantizer_are_named(quantizers: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        experiment(quantizers, {})


def test_a_language_model_is_for_the_systems_or_for_those_it_names() -> None:
    slms = {"small": {"train": ["train"]}, "large": {"train": ["train", "dev"], "systems": ["mfcc-L01-kmeans50"]}}
    found = experiment(["kmeans50"], slms, ["spidr-L01-kmeans50", "phones"])
    trained = {system.name: list(found.slms_of(system)) for system in found.language_systems}
    assert trained == {"spidr-L01-kmeans50": ["small"], "phones": ["small"], "mfcc-L01-kmeans50": ["large"]}
    targets = Targets(found)
    summaries = [path.removeprefix("results/tiny/slm/") for path in targets.trainings()]
    assert summaries == [
        "spidr-L01-kmeans50/small/seed0/summary.json",
        "phones/small/seed0/summary.json",
        "mfcc-L01-kmeans50/large/seed0/summary.json",
    ]
    systems = found.all_systems
    sets = ["lexical", "syntactic", "stories"]
    assert targets.unit_corpora(systems["spidr-L01-kmeans50"]) == ["train", "valid", "dev", *sets]
    assert targets.unit_corpora(systems["mfcc-L01-kmeans50"]) == ["train", "dev", "valid", *sets]
    assert targets.unit_corpora(systems["spidr-L02-kmeans50"]) == ["dev"]


def test_a_language_model_may_name_the_best_layer() -> None:
    found = experiment(["kmeans50"], {"small": {"train": ["train"], "systems": ["spidr-best-kmeans50"]}})
    assert list(found.candidates) == ["spidr-best-kmeans50"]
    assert list(found.slms_of(found.all_systems["spidr-L03-kmeans50"])) == ["small"]
    assert found.slms_of(found.all_systems["mfcc-L01-kmeans50"]) == {}


@pytest.mark.parametrize(
    ("slms", "systems", "message"),
    [
        (
            {"small": {"train": ["train"], "systems": ["mfcc-L02-kmeans50"]}},
            [],
            "slms.small.systems: found 'mfcc-L02-kmeans50', expected one of the encoders' combinations",
        ),
        (
            {"small": {"train": ["train"], "systems": ["phones"]}},
            ["mfcc-L01-kmeans50"],
            "systems: found mfcc-L01-kmeans50, expected it among the systems of one of the slms",
        ),
    ],
)
def test_a_system_without_a_language_model_and_one_that_is_not_there_are_named(
    slms: dict[str, Any], systems: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        experiment(["kmeans50"], slms, systems)
