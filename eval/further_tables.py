"""Tables of metrics that the paper does not have: of units, and zero-shot ones of language models."""

from collections.abc import Sequence

from eval.measured import is_metric, labelled, measured
from eval.metrics import METRICS
from eval.rendering import Column, Table, blockwise
from eval.representation_tables import MARKS
from eval.results import Result, require

FURTHER_UNIT_METRICS = {
    "Phones of units": ("per_many_to_one", "per_one_to_one", "phone_purity", "cluster_purity"),
    "Boundaries": ("boundary_precision", "boundary_recall", "boundary_f1", "boundary_r_value"),
    "Rate": ("units_per_second", "bitrate"),
}
FURTHER_ZEROSHOT_METRICS = ("ssc", "prosaudit", "salmon", "salmon_consistency", "salmon_alignment", "pairs")


def units_table(results: Sequence[Result]) -> Table:
    """What else is known of units: their phones and boundaries, their inventory and rate.

    Raises:
        InputError: None of the table's metrics has a score.
    """
    metrics = [metric for of_group in FURTHER_UNIT_METRICS.values() for metric in of_group]
    require(results, metrics, "the table of units")
    metrics = [metric for metric in metrics if any(r.metric == metric for r in results)]
    groups = {metric: heading for heading, of_group in FURTHER_UNIT_METRICS.items() for metric in of_group}
    systems = list(measured([r for r in results if r.slm is None], [is_metric(metric) for metric in metrics]))
    labels, rows = labelled(systems)
    return Table(
        name="Units",
        caption=f"Quality of the discrete units beyond table 2 (error rates and boundaries in %). {MARKS}",
        labels=labels,
        columns=tuple(Column(METRICS[m].label, METRICS[m], groups[m], METRICS[m].label) for m in metrics),
        rows=blockwise(rows),
    )


def zeroshot_table(results: Sequence[Result]) -> Table:
    """Zero-shot metrics of the language models that the paper does not have, one column for each of their parts.

    Raises:
        InputError: None of the table's metrics has a score.
    """
    require(results, FURTHER_ZEROSHOT_METRICS, "the table of zero-shot metrics")
    found = dict.fromkeys((r.metric, r.condition) for r in results if r.metric in FURTHER_ZEROSHOT_METRICS)
    parts = sorted(found, key=lambda part: FURTHER_ZEROSHOT_METRICS.index(part[0]))
    columns = []
    for name, condition in parts:
        label = METRICS[name].label
        part = (condition or "all").replace("_", " ")
        columns.append(Column(f"{label}, {part}" if condition else label, METRICS[name], label, part))
    shows = [lambda r, part=part: (r.metric, r.condition) == part for part in parts]
    labels, rows = labelled(list(measured(results, shows)))
    return Table(
        name="Zero-shot",
        caption=f"Further zero-shot metrics of the language models (in %, chance level 50%). {MARKS}",
        labels=labels,
        columns=tuple(columns),
        rows=blockwise(rows),
    )
