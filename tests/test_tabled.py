"""What an experiment must have for its tables, and the files they are made of."""

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

ALL_TABLES = [1, 2, 3, 4, 5, 6, 7, 8]


def targets_of(**changed: Any) -> Targets:
    """The targets of the tiny experiment, some of its keys changed."""
    found = yaml.safe_load(TINY.read_text()) | changed
    return Targets(parse_settings(Experiment, found, "tiny"))


def encoders(*kept: str, **changed: Any) -> dict[str, Any]:
    found = yaml.safe_load(TINY.read_text())["encoders"]
    return {name: found[name] | changed for name in kept}


ALONE = {"slms": {}, "systems": [], "figures": [7]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tables": [9]}, "tables: found 9, expected one of the paper's: 1, 2, 3, 4, 5, 6, 7, 8"),
        (
            {"tables": [2, 8], "evaluation": {"quality": {"corpora": ["dev"]}}, **ALONE, "figures": []},
            "tables: found 2, expected evaluation.abx of triphones within context: it selects the layer",
        ),
        ({"tables": [3], **ALONE}, "tables: found 3, expected systems with a language model, scored by one of swuggy"),
        (
            {"tables": [6], **ALONE, "encoders": encoders("mfcc")},
            "tables: found 6, expected an encoder with a quantizer of kind codebook",
        ),
        (
            {"tables": [4], **ALONE, "encoders": encoders("mfcc")},
            "tables: found 4, expected a spidr or dinosr encoder that is trained by a recipe",
        ),
        (
            {"tables": [5], **ALONE, "encoders": encoders("spidr-untrained")},
            "tables: found 5, expected a spidr or dinosr encoder that is trained by a recipe",
        ),
        ({"beside": "published"}, "beside: found 'published' without others, expected the files of its scores there"),
        (
            {"select": {"table_3": {"layer": [4]}}},
            "select: found 'table_3', expected one of those drawn: table_1, table_2, units, figure_02",
        ),
        ({"select": {"table_2": {"units": [50]}}}, "select.table_2.units: no field of a score, expected one of model"),
        ({"select": {"figure_12": {"layer": ["4"]}}}, "select.figure_12.layer: found '4', expected a valid integer"),
    ],
)
def test_a_table_that_there_will_be_nothing_for_is_refused_at_once(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        targets_of(**changed)
    assert message in str(error.value)


def test_every_table_of_the_paper_can_be_made_of_the_tiny_experiment() -> None:
    targets = targets_of(tables=ALL_TABLES, select={"table_2": {"num_units": [50]}, "units": {"encoder": ["spidr"]}})
    assert targets.table_names() == ["1", "2", "3", "4", "5", "6", "7", "8", "units"]
    assert targets.tables()[-3:] == [f"results/tiny/tables/units.{kind}" for kind in ("csv", "md", "tex")]
    assert targets.others() == []
    assert targets.footprints() == {"ours": "results/tiny/footprint.csv"}
    assert targets.pretrained() == {
        "spidr": "results/tiny/encoders/spidr/training/summary.json",
        "dinosr": "results/tiny/encoders/dinosr/training/summary.json",
    }
    assert targets.hyperparameters() == {
        "SpidR": "results/tiny/encoders/spidr/config.json",
        "DinoSR": "results/tiny/encoders/dinosr/config.json",
    }


def test_further_tables_come_with_the_others_where_they_are_measured() -> None:
    assert targets_of(tables=[]).tables() == []
    stories = {"layout": "twist", "source": "synthetic", "path": "sSC", "annotations": "annotations/tsc.csv"}
    found = yaml.safe_load(TINY.read_text())
    changed = {
        key: found[key] | more
        for key, more in (("corpora", {"more": stories}), ("evaluation", {"ssc": {"set": "more"}}))
    }
    assert targets_of(**changed).table_names() == ["1", "2", "units", "zeroshot"]


def test_others_are_files_or_the_paper_s_numbers() -> None:
    targets = targets_of(others=["mine.csv", "published"], tables=ALL_TABLES)
    mine, *published = targets.others()
    assert mine == "mine.csv"
    assert [Path(path).name for path in published] == [f"table_{n}.csv" for n in (1, 2, 3, 6, 7, 8)]
    assert all(Path(path).is_file() for path in published)
    assert list(targets.footprints()) == ["published", "ours"]
    assert Path(targets.footprints()["published"]).name == "table_4.csv"
    assert list(targets.hyperparameters()) == ["published", "SpidR", "DinoSR"]
    assert Path(targets.hyperparameters()["published"]).is_file()


def test_a_group_or_the_wish_for_intervals_makes_tables_anew_and_nothing_else(tiny: Path, tmp_path: Path) -> None:
    experiment = yaml.safe_load(TINY.read_text())
    for named in (*experiment["encoders"].values(), *experiment["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    experiment["intervals"] = False
    experiment["encoders"]["spidr"]["group"] = "self-supervised"
    experiment["encoders"]["mfcc"]["group"] = "not learnt"
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(experiment, sort_keys=False))
    done = snakemake(tiny, "-n", "tables", experiment=tmp_path / "tiny.yaml")
    assert done.returncode == 0, done.stderr
    assert set(re.findall(r"^(?:local)?rule (\w+):", done.stdout, re.M)) == {"tables", "draw_tables"}
