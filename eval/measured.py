"""What a table shows of each system: its scores, one for each column, and how its row is labelled."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from eval.metrics import METRICS
from eval.rendering import Row
from eval.representation_tables import layer_label
from eval.results import MEAN, TOPLINES, Estimate, Result, estimate, group, training_label, unit_label

type Training = tuple[str | None, str | None, float | None]
UNTRAINED: Training = (None, None, None)


@dataclass(frozen=True, slots=True)
class Measured:
    """One system, with one language model or none, and what each column shows of it."""

    source: str
    model: str
    encoder: str
    layer: int | None
    units: str
    num_units: int | None
    training: Training
    cells: tuple[Estimate | None, ...]

    @property
    def is_topline(self) -> bool:
        """Whether its units are the annotated phones, or text."""
        return self.encoder in TOPLINES

    def row(self, *labels: str, block: str = "") -> Row:
        """The row that shows it; that of a topline stands apart."""
        return Row(
            labels,
            self.cells,
            "Topline" if self.is_topline else block,
            ranked=not self.is_topline,
            source=self.source,
            system=(self.encoder, self.layer, self.units, self.num_units),
            training=self.training,
        )

    @property
    def layer_text(self) -> str:
        """Its layer as printed; the phones have none."""
        return "" if self.is_topline else layer_label(self.layer)


def measured(results: Sequence[Result], columns: Sequence[Callable[[Result], bool]]) -> Iterator[Measured]:
    """Every system and language model that has a score of one of the columns, in their order.

    What is of the units stands with each language model trained on them.

    Args:
        columns: Whether a column shows a score.
    """
    shown = [result for result in results if any(shows(result) for shows in columns)]
    for system, scores in group(shown, lambda r: (r.source, r.encoder, r.layer, r.quantizer)).items():
        source, encoder, layer, quantizer = system
        of_units = [r for r in scores if r.slm is None]
        num_units = next((r.num_units for r in scores if r.num_units), None)
        trained = group([r for r in scores if r.slm], lambda r: (r.slm, r.corpus, r.hours))
        for training, of_language in (trained or {UNTRAINED: []}).items():
            found = of_units + of_language
            cells = tuple(estimate([r for r in found if shows(r)]) for shows in columns)
            units = unit_label(quantizer, num_units)
            yield Measured(source, scores[0].model, encoder, layer, units, num_units, training, cells)


def with_features(
    results: Sequence[Result],
    features: Sequence[Callable[[Result], bool]],
    units: Sequence[Callable[[Result], bool]],
) -> list[Measured]:
    """Systems with what was measured of their layer's features before what was of them; layers without units, too.

    Features have no quantizer, units have one, so their scores are joined here. Layers come in the order of their
    features, then the systems whose features nobody measured.

    Args:
        features: Whether a column shows a score, for the first columns.
        units: Likewise for the others.
    """
    by_layer: dict[tuple[str, str, int | None], list[Measured]] = {}
    for system in measured(results, units):
        by_layer.setdefault((system.source, system.encoder, system.layer), []).append(system)
    joined = []
    for layer in measured(results, features):
        alone = replace(layer, cells=(None,) * len(units))
        found = by_layer.pop((layer.source, layer.encoder, layer.layer), [alone])
        joined += [replace(system, cells=(*layer.cells, *system.cells)) for system in found]
    blanks = (None,) * len(features)
    return joined + [replace(s, cells=(*blanks, *s.cells)) for rest in by_layer.values() for s in rest]


def is_metric(metric: str) -> Callable[[Result], bool]:
    """Whether a score is of that metric, under the paper's conditions or a mean of those."""
    conditions = METRICS[metric].conditions
    means = (MEAN,) if metric.startswith("abx") else ()
    return lambda result: result.metric == metric and result.condition in (*conditions, *means)


def labelled(systems: Sequence[Measured]) -> tuple[tuple[str, ...], list[Row]]:
    """Labels that tell systems apart, and the rows that have them."""
    several = len({system.training for system in systems} - {UNTRAINED}) > 1
    rows = []
    for system in systems:
        labels = [system.model, system.layer_text, system.units, str(system.num_units or "")]
        rows.append(system.row(*labels, *([training_label(*system.training)] if several else [])))
    return ("Model", "Layer", "Units", "V", *(["Language model"] if several else [])), rows
