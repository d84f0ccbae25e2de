"""The paper as one experiment: it plans without a corpus, and asks for what the paper reports."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import REPOSITORY, snakemake

from units.registry import REGISTRY
from workflow.experiment import Experiment
from workflow.reading import read_experiment
from workflow.targets import Targets

PAPER = REPOSITORY / "config" / "paper.yaml"
PUBLISHED = REPOSITORY / "results" / "published"


@pytest.fixture(scope="module")
def paper() -> Experiment:
    return read_experiment(PAPER)


def published(number: int) -> Iterator[dict[str, str]]:
    with (PUBLISHED / f"table_{number}.csv").open(newline="") as file:
        yield from csv.DictReader(file)


def test_thousands_of_jobs_are_planned_with_no_corpus_and_no_weights_there(tmp_path: Path) -> None:
    done = snakemake(tmp_path, "--profile", str(REPOSITORY / "slurm"), "-n", "all", experiment=PAPER)
    assert done.returncode == 0, done.stderr[-3000:]
    counts = {rule: int(count) for rule, count in re.findall(r"^(\w+) +(\d+)$", done.stdout, re.M)}
    assert counts["total"] > 2000
    assert counts["pretrain"] == 4
    assert "Warning" not in done.stdout + done.stderr


@pytest.mark.parametrize("table", [1, 6, 7, 8])
def test_every_encoder_and_layer_of_a_table_is_evaluated(paper: Experiment, table: int) -> None:
    for row in published(table):
        encoder = paper.encoders[row["encoder"]]
        layer = int(row["layer"] or 12)  # Spin's codebook is of the last layer, which table 6 does not print
        assert layer in getattr(encoder, "layers", ()), row["encoder"]
        if row["quantizer"]:
            assert f"{row['encoder']}-L{layer:02d}-{row['quantizer']}" in paper.all_systems


@pytest.mark.parametrize("table", [2, 3])
def test_every_system_of_a_table_that_the_paper_made_itself_gets_its_language_model(
    paper: Experiment, table: int
) -> None:
    spoken = {system.name: paper.slms_of(system) for system in paper.language_systems}
    for row in published(table):
        if row["slm"] == "opt-125m":  # the others of table 3 are other papers'
            slm = spoken[f"{row['encoder']}-L{int(row['layer']):02d}-{row['quantizer']}"]["opt-125m"]
            parts = [getattr(paper.corpora[corpus], "part", None) for corpus in slm.train]
            assert parts == ["small", "medium"]  # 5,770 hours


def test_figure_3_has_three_sizes_of_data_for_each_of_its_units_and_for_text(paper: Experiment) -> None:
    sizes = {"hubert-base-L11-kmeans256": 3, "spidr-base-L06-kmeans256": 3, "spidr-base-L06-codebook": 3, "text": 3}
    found = {system.name: len(paper.slms_of(system)) for system in paper.language_systems}
    assert {name: found[name] for name in sizes} == sizes
    assert sum(found.values()) == len(found) + 2 * len(sizes)


def test_only_what_is_trained_on_60k_hours_is_tokenized_there(paper: Experiment) -> None:
    targets = Targets(paper)
    large = [name for name, system in paper.all_systems.items() if "ll-large" in targets.unit_corpora(system)]
    assert sorted(large) == ["hubert-base-L11-kmeans256", "spidr-base-L06-codebook", "spidr-base-L06-kmeans256"]


def test_figures_11_and_12_have_every_layer_of_hubert_and_spidr(paper: Experiment) -> None:
    language = {system.name for system in paper.language_systems}
    for layer in range(1, 13):
        assert {f"hubert-base-L{layer:02d}-kmeans256", f"spidr-base-L{layer:02d}-kmeans256"} <= language
        assert (f"spidr-base-L{layer:02d}-codebook" in language) == (layer >= 5)


def test_all_layers_of_a_released_encoder_are_asked_for(paper: Experiment) -> None:
    for name, encoder in paper.encoders.items():
        layers = getattr(encoder, "layers", None)
        if name in REGISTRY and name not in ("hubert-spin-256", "wavlm-spin-256"):
            assert list(layers or []) == list(range(1, REGISTRY[name].num_layers + 1)), name
