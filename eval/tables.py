"""Tables 1 and 2 of the paper from an experiment's scores: CSV, Markdown and LaTeX.

python -m eval.tables --table 1 2 --scores results/demo/scores.csv --output results/demo/tables
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from artifacts.errors import InputError, run
from artifacts.files import atomic_file
from eval.metrics import METRICS
from eval.rendering import Column, Row, Table, to_csv, to_latex, to_markdown
from eval.results import (
    TOPLINE,
    Estimate,
    Result,
    estimate,
    group,
    read_results,
    require,
    selected_layers,
    standard,
    training_label,
    unit_label,
)

GROUPS = ("ABX within speaker", "ABX across speaker", "MAP words")
UNIT_METRICS = ("abx_units", "pnmi")
LANGUAGE_METRICS = ("swuggy_all", "swuggy_in_vocab", "sblimp", "tsc")
MEAN = "mean"
"""Condition of a published ABX on units that is itself the mean over datasets and speaker conditions."""

MARKS = "The best scores are in bold and second best are underlined."


def table_1(results: Sequence[Result]) -> Table:
    """ABX and MAP of the continuous features of each encoder at its selected layer, by dataset.

    Raises:
        InputError: There is no continuous ABX, so no layer can be selected.
    """
    require(results, ["abx_continuous"], "table 1")
    layers = selected_layers(results)
    by_column = group(_continuous(results), _column_of)
    columns = sorted(by_column, key=lambda column: GROUPS.index(column.group))
    rows = []
    for (source, encoder), layer in layers.items():
        model = next(r.model for r in results if (r.source, r.encoder) == (source, encoder))
        cells = [
            estimate([r for r in by_column[c] if (r.source, r.encoder, r.layer) == (source, encoder, layer)])
            for c in columns
        ]
        rows.append(Row((model, _layer(layer)), tuple(cells), block=_block(source, results)))
    return Table(
        name="Table 1",
        caption="Zero-shot evaluation of the speech representations (in %, chance level 50% for ABX). For each model, "
        f"the selected layer is the one with the lowest average ABX. {MARKS}",
        labels=("Model", "Layer"),
        columns=tuple(columns),
        rows=_blockwise(rows),
    )


def _continuous(results: Sequence[Result]) -> list[Result]:
    """ABX within and across speakers, and MAP by any formula."""
    return [r for r in standard(results) if r.metric == "abx_continuous"] + [
        r for r in results if r.metric == "map_words"
    ]


def _column_of(result: Result) -> Column:
    metric = METRICS[result.metric]
    if result.metric == "abx_continuous":
        heading, short = f"ABX {result.condition} speaker", result.dataset
    elif result.condition in metric.conditions:
        heading, short = "MAP words", result.dataset
    else:
        heading, short = "MAP words", f"{result.dataset} ({result.condition})"
    return Column(f"{heading}, {short}", metric, heading, short)


def table_2(results: Sequence[Result]) -> Table:
    """Unit quality and language modelling of each system, the annotated phones in a block of their own.

    A system is shown where a language model was trained on it or where its layer is the selected one; where no
    layer can be selected, always.

    Raises:
        InputError: None of the table's metrics has a score.
    """
    metrics = (*UNIT_METRICS, *LANGUAGE_METRICS)
    require(results, metrics, "table 2")
    layers = selected_layers(results)
    means = [r for r in results if r.metric == "abx_units" and r.condition == MEAN]
    shown = [r for r in standard(results) if r.metric in metrics] + means
    columns = (
        Column("ABX", METRICS["abx_units"], "Discrete units quality", "ABX"),
        Column("PNMI", METRICS["pnmi"], "Discrete units quality", "PNMI"),
        Column("sWUGGY all", METRICS["swuggy_all"], "Language modeling", "sWUGGY all"),
        Column("sWUGGY in-vocab", METRICS["swuggy_in_vocab"], "Language modeling", "in-vocab"),
        Column("sBLIMP", METRICS["sblimp"], "Language modeling", "sBLIMP"),
        Column("tSC", METRICS["tsc"], "Language modeling", "tSC"),
    )
    trainings = dict.fromkeys((r.slm, r.corpus, r.hours) for r in shown if r.slm)
    rows = []
    for system, scores in group(shown, lambda r: (r.source, r.encoder, r.layer, r.quantizer)).items():
        source, encoder, layer, quantizer = system
        of_units = [r for r in scores if r.slm is None]
        trained = group([r for r in scores if r.slm], lambda r: (r.slm, r.corpus, r.hours))
        if not trained and layers.get((source, encoder), layer) != layer:
            continue
        topline = encoder == TOPLINE
        num_units = next((r.num_units for r in scores if r.num_units), None)
        system_labels = (scores[0].model, "" if topline else _layer(layer), unit_label(quantizer, num_units))
        for training, of_language in (trained or {(None, None, None): []}).items():
            cells: list[Estimate | None] = [
                estimate([r for r in of_units + of_language if r.metric == metric]) for metric in metrics
            ]
            labels = (
                *system_labels,
                str(num_units or ""),
                *([training_label(*training)] if len(trainings) > 1 else []),
            )
            block = "Topline" if topline else _block(source, results)
            rows.append(Row(labels, tuple(cells), block, ranked=not topline))
    return Table(
        name="Table 2",
        caption="Zero-shot discrete units quality and spoken language modeling metrics (in %, chance level 50%, except "
        f"for PNMI). ABX is the mean over datasets and speaker conditions. {_selected(layers, results)}{MARKS}"
        + (
            " The topline, the annotated phones, takes no part in the marks." if not all(r.ranked for r in rows) else ""
        ),
        labels=("Model", "Layer", "Units", "V", *(["Language model"] if len(trainings) > 1 else [])),
        columns=columns,
        rows=_blockwise(rows),
    )


def _layer(layer: int | None) -> str:
    return "" if layer is None else str(layer)


def _block(source: str, results: Sequence[Result]) -> str:
    """The source as a heading, where there is more than one."""
    return source if len({r.source for r in results}) > 1 else ""


def _blockwise(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of a block together, the topline last."""
    order = list(dict.fromkeys(row.block for row in rows))
    return tuple(sorted(rows, key=lambda row: (not row.ranked, order.index(row.block))))


def _selected(layers: dict[tuple[str, str], int | None], results: Sequence[Result]) -> str:
    """A sentence that names the selected layers; nothing where none could be selected."""
    models = {(r.source, r.encoder): r.model for r in results}
    named = ", ".join(f"{models[key]} {layer}" for key, layer in layers.items() if layer is not None)
    return f"The layers with the lowest average ABX on continuous embeddings are: {named}. " if named else ""


TABLES: dict[int, Callable[[Sequence[Result]], Table]] = {1: table_1, 2: table_2}
FORMS = {"csv": to_csv, "md": to_markdown, "tex": to_latex}


def write_table(table: Table, number: int, folder: Path) -> None:
    """Write ``table_<number>`` in its three forms."""
    for extension, form in FORMS.items():
        with atomic_file(folder / f"table_{number}.{extension}") as temporary:
            temporary.write_text(form(table), encoding="utf-8")


def main() -> None:
    """Entry point: scores in, tables out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=int, nargs="+", required=True, choices=TABLES, help="numbers of the tables")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.csv; several are set in blocks")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    arguments = parser.parse_args()
    results = read_results(arguments.scores)
    if not results:
        raise InputError(f"{arguments.scores[0]}: no scores, expected some")
    for number in arguments.table:
        write_table(TABLES[number](results), number, arguments.output)


if __name__ == "__main__":
    run(main)
