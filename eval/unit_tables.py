"""Tables of units and language models: 2, 3 and 8 of the paper."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from eval.measured import UNTRAINED, Measured, is_metric, labelled, measured, with_features
from eval.metrics import METRICS
from eval.rendering import Column, Table, blockwise
from eval.representation_tables import MARKS, formula
from eval.results import Result, of_table, require, selected_layers, training_label

UNITS, LANGUAGE = "Discrete units quality", "Language modeling"
LANGUAGE_COLUMNS = (
    Column("sWUGGY all", METRICS["swuggy_all"], LANGUAGE, "sWUGGY all"),
    Column("sWUGGY in-vocab", METRICS["swuggy_in_vocab"], LANGUAGE, "in-vocab"),
    Column("sBLIMP", METRICS["sblimp"], LANGUAGE, "sBLIMP"),
    Column("tSC", METRICS["tsc"], LANGUAGE, "tSC"),
)
LANGUAGE_METRICS = ("swuggy_all", "swuggy_in_vocab", "sblimp", "tsc")
UNIT_COLUMNS = (Column("ABX", METRICS["abx_units"], UNITS, "ABX"), Column("PNMI", METRICS["pnmi"], UNITS, "PNMI"))


def table_2(results: Sequence[Result]) -> Table:
    """Unit quality and language modelling of each system, the annotated phones in a block of their own.

    A system is shown where a language model was trained on it or where its layer is the selected one; where no
    layer can be selected, always.

    Raises:
        InputError: None of the table's metrics has a score.
    """
    results = of_table(results, 2)
    metrics = ("abx_units", "pnmi", *LANGUAGE_METRICS)
    require(results, metrics, "table 2")
    layers = selected_layers(results)
    systems = [
        system
        for system in measured(results, [is_metric(metric) for metric in metrics])
        if system.training != UNTRAINED or layers.get((system.source, system.encoder), system.layer) == system.layer
    ]
    labels, rows = labelled(systems)
    topline = " Toplines, the annotated phones or text, take no part in the marks." if _has_topline(systems) else ""
    return Table(
        name="Table 2",
        caption="Zero-shot discrete units quality and spoken language modeling metrics (in %, chance level 50%, except "
        "for PNMI). ABX is the mean over datasets and speaker conditions. "
        f"{_selected(layers, results)}{MARKS}{topline}",
        labels=labels,
        columns=(*UNIT_COLUMNS, *LANGUAGE_COLUMNS),
        rows=blockwise(rows),
    )


def _has_topline(systems: Sequence[Measured]) -> bool:
    return any(system.is_topline for system in systems)


def _selected(layers: dict[tuple[str, str], int | None], results: Sequence[Result]) -> str:
    """A sentence that names the selected layers; nothing where none could be selected."""
    models = {(r.source, r.encoder): r.model for r in results}
    named = ", ".join(f"{models[key]} {layer}" for key, layer in layers.items() if layer is not None)
    return f"The layers with the lowest average ABX on continuous embeddings are: {named}. " if named else ""


def table_3(results: Sequence[Result]) -> Table:
    """Language modelling by number of units, each number a block.

    Raises:
        InputError: None of the table's metrics has a score.
    """
    results = of_table(results, 3)
    require(results, LANGUAGE_METRICS, "table 3")
    systems = list(measured(results, [is_metric(metric) for metric in LANGUAGE_METRICS]))
    systems.sort(key=lambda system: system.num_units or 0)
    several = len({system.training for system in systems}) > 1
    named = [
        (system.model, system.units, *([training_label(*system.training)] if several else [])) for system in systems
    ]
    places = [(s.source, s.num_units, *labels) for s, labels in zip(systems, named, strict=True)]
    with_layer = len(set(places)) < len(places)
    rows = [
        system.row(
            model, *([system.layer_text] if with_layer else []), *others, block=f"{system.num_units or 'Other'} units"
        )
        for system, (model, *others) in zip(systems, named, strict=True)
    ]
    return Table(
        name="Table 3",
        caption=f"Zero-shot spoken language modeling by number of units (in %, chance level 50%). {MARKS}",
        labels=("Model", *(["Layer"] if with_layer else []), "Units", *(["Language model"] if several else [])),
        columns=LANGUAGE_COLUMNS,
        rows=blockwise(rows),
    )


def table_8(results: Sequence[Result]) -> Table:
    """ABX and MAP of the continuous features of each encoder at its selected layer, and the quality of its units there.

    An encoder with units of several quantizers has a row for each. Where no layer can be selected, all are shown.

    Raises:
        InputError: There is no continuous ABX.
    """
    results = of_table(results, 8)
    require(results, ["abx_continuous"], "table 8")
    layers = selected_layers(results)
    continuous: dict[str, Callable[[Result], bool]] = {"ABX": is_metric("abx_continuous")}
    for way in sorted({formula(r) for r in results if r.metric == "map_words"}):
        continuous[f"MAP{way}"] = _is_map_by(way)
    systems = [
        system
        for system in with_features(results, list(continuous.values()), [is_metric("abx_units"), is_metric("pnmi")])
        if any(system.cells[: len(continuous)])
        and layers.get((system.source, system.encoder), system.layer) == system.layer
    ]
    several = len({system.units for system in systems} - {""}) > 1
    return Table(
        name="Table 8",
        caption="Continuous embeddings and discrete units of each encoder at its selected layer (in % except for PNMI, "
        f"chance level 50% for ABX). ABX and MAP are means over datasets and speaker conditions. {MARKS}",
        labels=("Model", "Layer", *(["Units"] if several else [])),
        columns=(
            *(
                Column(
                    f"{name}, continuous",
                    METRICS["abx_continuous" if name == "ABX" else "map_words"],
                    "Continuous embeddings",
                    name,
                )
                for name in continuous
            ),
            *(replace(column, name=f"{column.name}, units") for column in UNIT_COLUMNS),
        ),
        rows=blockwise([s.row(s.model, s.layer_text, *([s.units] if several else [])) for s in systems]),
    )


def _is_map_by(way: str) -> Callable[[Result], bool]:
    return lambda result: result.metric == "map_words" and formula(result) == way
