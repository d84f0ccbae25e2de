"""The paper as one experiment: it plans without a corpus, and asks for what the paper reports."""

import argparse
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import REPOSITORY, snakemake

from artifacts.files import write_csv
from eval.rendering import Table
from eval.scores import FIELDS
from eval.tables import add_table_arguments, make_tables
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


def scores_of(paper: Experiment) -> Iterator[dict[str, Any]]:
    """The scores of a finished run, under the names that it gives, with the layers of the paper selected."""
    selected = {row["encoder"]: int(row["layer"]) for table in (7, 8) for row in published(table)}
    clean, other = {"dataset": "dev-clean"}, {"dataset": "dev-other"}
    spoken_by = [corpus | {"condition": speakers} for corpus in (clean, other) for speakers in ("within", "across")]
    for name, encoder in paper.encoders.items():
        for layer in getattr(encoder, "layers", ()):
            features: dict[str, Any] = {"source": "ours", "model": encoder.name, "encoder": name, "layer": layer}
            error = 0.1 + 0.001 * abs(layer - selected.get(name, layer))
            for over in spoken_by:
                yield features | over | {"metric": "abx_continuous", "value": error}
            for over in (clean, other):
                yield features | over | {"metric": "map_words", "condition": "speech-map", "value": 0.4}
    trained = paper.language_systems
    for system in paper.all_systems.values():
        if system.quantizer is None:
            continue
        quantizer, encoder = paper.quantizers[system.quantizer], paper.encoders[system.encoder]
        # Only once its file is read is the size of a codebook known that was made elsewhere.
        size = getattr(quantizer, "num_units", None if getattr(encoder, "path", None) else 256)
        units = {"source": "ours", "model": encoder.name, "encoder": system.encoder, "layer": system.layer}
        units |= {"quantizer": system.quantizer, "num_units": size}
        yield units | {"metric": "pnmi", "value": 0.6, "dataset": "dev-clean_dev-other"}
        for metric in ("abx_units", *(["abx_codebook"] if quantizer.kind == "codebook" else [])):
            for over in spoken_by:
                yield units | over | {"metric": metric, "value": 0.1}
        for name, slm in paper.slms_of(system).items() if system in trained else ():
            hours = {1: 576.9, 2: 5768.3, 3: 57702.1}[len(slm.train)]  # of frames
            training = {"slm": name, "corpus": slm.corpus or "+".join(slm.train), "hours": hours, "seed": 0}
            for metric in ("swuggy_all", "swuggy_in_vocab", "sblimp", "tsc"):
                yield units | training | {"metric": metric, "value": 0.6, "dataset": metric.split("_")[0]}


@pytest.fixture(scope="module")
def tables(paper: Experiment, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Table]:
    """The tables of a finished run, published numbers beside ours."""
    scores = tmp_path_factory.mktemp("paper") / "scores.csv"
    write_csv(scores, FIELDS, ({field: row.get(field) for field in FIELDS} for row in scores_of(paper)))
    parser = argparse.ArgumentParser()
    parser.add_argument("--scores", type=Path, nargs="*")
    add_table_arguments(parser)
    given = ["--table", "1", "2", "3", "6", "7", "8", "--others", *Targets(paper).others()]
    given += ["--select", json.dumps(paper.select), "--beside", paper.beside or "", "--scores", str(scores)]
    return make_tables(parser.parse_args(given))


@pytest.mark.parametrize(
    ("number", "columns", "rows"), [(1, 6, 7), (2, 6, 7), (3, 4, 4), (6, 4, 5), (7, 6, 26), (8, 4, 4)]
)
def test_every_published_number_of_a_system_of_ours_has_its_difference(
    tables: dict[str, Table], number: int, columns: int, rows: int
) -> None:
    table = tables[str(number)]
    differences = [j for j, column in enumerate(table.columns) if column.is_difference]
    assert len(differences) == columns
    for row in table.rows:
        is_another_paper_s = number == 3 and row.labels[0] == "HuBERT"
        for j in differences:
            told = row.cells[j - 2] is not None and not is_another_paper_s
            assert (row.cells[j] is not None) == told, (row.labels, table.columns[j].name)
    assert sum(any(row.cells[j] for j in differences) for row in table.rows) == rows


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
