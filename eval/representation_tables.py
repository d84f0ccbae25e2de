"""Tables of speech representations: 1 and 7 (continuous features), 6 (codebook predictions)."""

from collections.abc import Sequence
from dataclasses import replace

from eval.metrics import METRICS
from eval.rendering import Column, Row, Table, blockwise
from eval.results import Result, estimate, group, of_table, require, selected_layers, standard, unit_label

SPEAKERS = {"within": "ABX within speaker", "across": "ABX across speaker"}
WORDS = "MAP words"

MARKS = "The best scores are in bold and second best are underlined."


def layer_label(layer: int | None) -> str:
    """A layer as tables print it; blank where a score has none."""
    return "" if layer is None else str(layer)


def table_1(results: Sequence[Result]) -> Table:
    """ABX and MAP of the continuous features of each encoder at its selected layer, by dataset.

    Raises:
        InputError: There is no continuous ABX, so no layer can be selected.
    """
    rows, columns = _features(of_table(results, 1), "table 1")
    return Table(
        name="Table 1",
        caption="Zero-shot evaluation of the speech representations (in %, chance level 50% for ABX). For each model, "
        f"the selected layer is the one with the lowest average ABX. {MARKS}",
        labels=("Model", "Layer"),
        columns=columns,
        rows=blockwise([replace(row, block="") for row in rows]),
    )


def table_7(results: Sequence[Result]) -> Table:
    """What table 1 shows, of models in blocks of a kind: self-supervised, with supervision and so on.

    Raises:
        InputError: There is no continuous ABX, so no layer can be selected.
    """
    rows, columns = _features(of_table(results, 7), "table 7")
    return Table(
        name="Table 7",
        caption="Evaluation of the representations of speech models by kind (in %, chance level 50% for ABX). For each "
        f"model, the selected layer is the one with the lowest average ABX. {MARKS}",
        labels=("Model", "Layer"),
        columns=columns,
        rows=blockwise(rows),
    )


def _features(results: Sequence[Result], what: str) -> tuple[list[Row], tuple[Column, ...]]:
    require(results, ["abx_continuous"], what)
    layers = selected_layers(results)
    by_column = group(_continuous(results), _column_of)
    columns = sorted(by_column, key=lambda column: [*SPEAKERS.values(), WORDS].index(column.group))
    rows = []
    for (source, encoder), layer in layers.items():
        first = next(r for r in results if (r.source, r.encoder) == (source, encoder))
        cells = [
            estimate([r for r in by_column[c] if (r.source, r.encoder, r.layer) == (source, encoder, layer)])
            for c in columns
        ]
        labels = first.model, layer_label(layer)
        rows.append(Row(labels, tuple(cells), first.group or "", source=source, system=(encoder, layer)))
    return rows, tuple(columns)


def _continuous(results: Sequence[Result]) -> list[Result]:
    """ABX within and across speakers, and MAP by any formula."""
    return [r for r in standard(results) if r.metric == "abx_continuous"] + [
        r for r in results if r.metric == "map_words"
    ]


def _column_of(result: Result) -> Column:
    metric = METRICS[result.metric]
    if result.metric == "abx_continuous":
        heading, short = SPEAKERS[result.condition or ""], result.dataset
    else:
        heading, short = WORDS, f"{result.dataset}{formula(result)}"
    return Column(f"{heading}, {short}", metric, heading, short)


def formula(result: Result) -> str:
    """How a MAP was computed, in brackets, where it was not as here: no column has both."""
    return "" if result.condition in METRICS["map_words"].conditions else f" ({result.condition})"


def table_6(results: Sequence[Result]) -> Table:
    """ABX of each encoder's codebook predictions, by dataset.

    An encoder is shown at its selected layer; where none could be selected or that one has no codebook, at every layer
    that has one.

    Raises:
        InputError: There is no ABX on codebook predictions.
    """
    results = of_table(results, 6)
    require(results, ["abx_codebook"], "table 6")
    layers = selected_layers(results)
    scores = [r for r in standard(results) if r.metric == "abx_codebook"]
    with_codebook = {(r.source, r.encoder, r.layer) for r in scores}
    by_column = group(scores, _speaker_column)
    columns = sorted(by_column, key=lambda column: list(SPEAKERS.values()).index(column.group))
    sizes = {r.num_units for r in scores}
    rows = []
    for key, of_system in group(scores, _codebook_of).items():
        source, encoder, layer, quantizer = key
        selected = layers.get((source, encoder), layer)
        if layer != selected and (source, encoder, selected) in with_codebook:
            continue
        num_units = of_system[0].num_units
        labels = [of_system[0].model, layer_label(layer), *([str(num_units or "")] if len(sizes) > 1 else [])]
        cells = tuple(estimate([r for r in by_column[column] if _codebook_of(r) == key]) for column in columns)
        system = (encoder, layer, unit_label(quantizer, num_units), num_units)
        rows.append(Row(tuple(labels), cells, source=source, system=system))
    size = f"All codebooks are of size {next(iter(sizes))}. " if len(sizes) == 1 and None not in sizes else ""
    return Table(
        name="Table 6",
        caption="ABX error rate of the codebook predictions (in %, chance level 50%, KL-symmetric distance). "
        f"{size}{MARKS}",
        labels=("Model", "Layer", *(["V"] if len(sizes) > 1 else [])),
        columns=tuple(columns),
        rows=blockwise(rows),
    )


def _codebook_of(result: Result) -> tuple[str, str, int | None, str | None]:
    return result.source, result.encoder, result.layer, result.quantizer


def _speaker_column(result: Result) -> Column:
    heading = SPEAKERS[result.condition or ""]
    return Column(f"{heading}, {result.dataset}", METRICS["abx_codebook"], heading, result.dataset)
