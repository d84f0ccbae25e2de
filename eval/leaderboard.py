"""One table over all experiments of a results folder: each encoder at its best layer, and every language model.

python -m eval.leaderboard --results results --output results/leaderboard
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import sha256
from eval.measured import UNTRAINED, Measured, is_metric, with_features
from eval.metrics import METRICS
from eval.rendering import Column, Row, Table
from eval.representation_tables import MARKS
from eval.results import Result, read_results, selected_layers, standard, training_label
from eval.tables import write_table
from eval.unit_tables import LANGUAGE_COLUMNS, LANGUAGE_METRICS, UNIT_COLUMNS

FEATURE_METRICS = ("abx_continuous", "map_words")
UNIT_METRICS = ("abx_units", "pnmi")
FEATURES = "Continuous embeddings"
COLUMNS = (
    Column("ABX, continuous", METRICS["abx_continuous"], FEATURES, "ABX"),
    Column("MAP, continuous", METRICS["map_words"], FEATURES, "MAP"),
    *UNIT_COLUMNS,
    *LANGUAGE_COLUMNS,
)
SHOWN = (*FEATURE_METRICS, *UNIT_METRICS, *LANGUAGE_METRICS)
LABELS = ("Experiment", "Model", "Layer", "Units", "V", "Language model")

type Evaluation = frozenset[tuple[str, str, str | None, str | None]]
"""What the means of an experiment are over: metric, dataset, condition, and the checksum of the dataset's manifest
where it has one."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """The scores of one experiment.

    Attributes:
        evaluation: Experiments are comparable where it is the same.
    """

    name: str
    results: list[Result]
    evaluation: Evaluation


def read_experiments(folder: Path) -> list[Experiment]:
    """Every experiment of a results folder that has scores, by name.

    Raises:
        InputError: There is none, or a scores.csv is malformed.
    """
    experiments = []
    for path in sorted(folder.glob("*/scores.csv")):
        results = [result for result in standard(read_results([path])) if result.metric in SHOWN]
        manifests = {name: path.parent / "corpora" / name / "manifest.csv" for name in {r.dataset for r in results}}
        checksums = {name: sha256(file) if file.is_file() else None for name, file in manifests.items()}
        evaluation = frozenset((r.metric, r.dataset, r.condition, checksums[r.dataset]) for r in results)
        experiments.append(Experiment(path.parent.name, results, evaluation))
    if not experiments:
        raise InputError(f"{folder}: found no experiment with scores.csv, expected one at least")
    return experiments


def leaderboard(experiments: Sequence[Experiment]) -> Table:
    """The best layer of each encoder and every system with a language model, over all experiments.

    Experiments in which the same was measured, on the same sets under the same conditions, share a block, and best and
    second best are among them. In a block, rows are sorted by the ABX of the continuous features, then by that of the
    units; toplines come last.
    """
    by_evaluation: dict[Evaluation, list[Experiment]] = {}
    for experiment in experiments:
        by_evaluation.setdefault(experiment.evaluation, []).append(experiment)
    rows: list[Row] = []
    for evaluation, alike in by_evaluation.items():
        datasets = ", ".join(sorted({dataset for _, dataset, _, _ in evaluation}))
        block = f"{', '.join(experiment.name for experiment in alike)}: {datasets}"
        found = [(experiment.name, system) for experiment in alike for system in _systems(experiment.results)]
        rows += [_row(name, system, block) for name, system in sorted(found, key=lambda pair: _place(pair[1]))]
    return Table(
        name="Leaderboard",
        caption="All experiments: each encoder at the layer with the lowest average ABX on continuous embeddings, and "
        "every system with a language model (in % except for PNMI). Experiments stand in one block where the same "
        f"metrics were measured, on the same sets under the same conditions; each mean is over all of them. {MARKS}",
        labels=LABELS,
        columns=COLUMNS,
        rows=tuple(rows),
    )


def _systems(results: Sequence[Result]) -> list[Measured]:
    layers = selected_layers(results)
    found = with_features(
        results,
        [is_metric(metric) for metric in FEATURE_METRICS],
        [is_metric(metric) for metric in (*UNIT_METRICS, *LANGUAGE_METRICS)],
    )
    return [
        system
        for system in found
        if system.training != UNTRAINED or layers.get((system.source, system.encoder), system.layer) == system.layer
    ]


def _place(system: Measured) -> Any:
    errors = (system.cells[SHOWN.index(metric)] for metric in ("abx_continuous", "abx_units"))
    return system.is_topline, *((cell is None, cell.value if cell else 0.0) for cell in errors)


def _row(experiment: str, system: Measured, block: str) -> Row:
    labels = system.model, system.layer_text, system.units, str(system.num_units or "")
    return Row(
        (experiment, *labels, training_label(*system.training)), system.cells, block, ranked=not system.is_topline
    )


def main() -> None:
    """Entry point: a results folder in, one table out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--results", type=Path, required=True, help="folder of experiments, each with its scores.csv")
    parser.add_argument("--output", type=Path, required=True, help="table without extension")
    given = parser.parse_args()
    table = leaderboard(read_experiments(given.results))
    write_table(table, given.output.name, given.output.parent, intervals=False)
    print(f"{given.output}.md: {len(table.rows)} rows")


if __name__ == "__main__":
    run(main)
