"""Figures 7, 11 and 12: metrics by layer of the encoder."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from eval.levels import Level, chance_level, draw_levels
from eval.metrics import METRICS, Metric
from eval.results import TOPLINES, Estimate, Result, drawn_scores, estimate, group
from eval.style import (
    Look,
    Series,
    add_legend,
    is_reference,
    looks,
    metric_label,
    new_figure,
    say_no_scores,
    series_namer,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT_IN = 2.6
MIN_BAND = 3  # layers a curve needs for its intervals to be drawn as a band
DODGE, WIDEST = 0.06, 0.5  # of a layer: between two, and between all
MARGIN = 0.5, 0.03  # left and right of the layers: of a layer, and of their range; the larger holds


def draw_layer_curves(results: Sequence[Result], metrics: Sequence[str], colours: Mapping[str, str]) -> "Figure":
    """One panel a metric, one curve a series, with 95% intervals; references without layers are levels.

    Args:
        results: Scores; ABX and MAP are averaged over datasets and conditions. Those whose layer is not told are
            left out.
        metrics: What the panels show, left to right.
        colours: Of the models.
    """
    shown = [result for result in results if result.metric in metrics]
    results = [result for result in shown if result.layer is not None or is_reference(result.encoder)]
    name_series = series_namer(results)
    look = looks(map(name_series, results), colours)
    figure, [panels] = new_figure(1, len(metrics), HEIGHT_IN)
    curves: set[Series] = set()
    for axes, name in zip(panels, metrics, strict=True):
        metric = METRICS[name]
        scores, condition = drawn_scores(results, name)
        axes.set_title(metric_label(metric, condition), loc="left")
        by_series = group(scores, name_series)
        if by_series:
            curves |= _draw_panel(axes, metric, dict(sorted(by_series.items())), look)
        else:
            say_no_scores(axes)
    add_legend(figure, curves, look, lines=True)
    return figure


def _draw_panel(
    axes: "Axes", metric: Metric, by_series: dict[Series, list[Result]], look: dict[Series, Look]
) -> set[Series]:
    """Draw the curves and levels of one metric; returns which series are curves."""
    means = {
        series: {layer or 0: mean for layer, of_layer in group(scores, _layer).items() if (mean := estimate(of_layer))}
        for series, scores in by_series.items()
    }
    curves = {series: points for series, points in means.items() if not series.is_reference}
    short = [series for series, points in curves.items() if len(points) < MIN_BAND]
    for series, points in curves.items():
        step = min(DODGE, WIDEST / max(len(short), 1))
        aside = step * (short.index(series) - (len(short) - 1) / 2) if series in short else 0.0
        _draw_curve(axes, points, metric, look[series], aside)
    references = [
        Level(
            series.label,
            metric.shown(next(iter(points.values())).value),
            look[series].colour,
            line=(0, (5, 3)),
            however_far=series.encoder not in TOPLINES,
        )
        for series, points in means.items()
        if series.is_reference
    ]
    _number_layers(axes)
    draw_levels(axes, chance_level(metric) + references)
    return set(curves)


def _layer(result: Result) -> int | None:
    return result.layer


def _draw_curve(axes: "Axes", points: dict[int, Estimate], metric: Metric, look: Look, aside: float) -> None:
    """A curve in its band; where it is too short for one, dots with bars, moved aside so that none hides another."""
    layers = sorted(points)
    axes.plot(
        [layer + aside for layer in layers],
        [metric.shown(points[layer].value) for layer in layers],
        linestyle=look.line,
        zorder=3,
        **look.dots(),
    )
    ends = [(layer + aside, p.low, p.high) for layer in layers if (p := points[layer]).low is not None]
    places = [place for place, _, _ in ends]
    lows = [metric.shown(low) for _, low, _ in ends if low is not None]
    highs = [metric.shown(high) for _, _, high in ends if high is not None]
    if len(layers) < MIN_BAND:
        axes.vlines(places, lows, highs, color=look.colour, alpha=0.5, linewidth=1.0, zorder=2)
    else:
        axes.fill_between(places, lows, highs, color=look.colour, alpha=0.14, linewidth=0, zorder=2)


def _number_layers(axes: "Axes") -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("Layer")
    low, high = axes.dataLim.intervalx
    if low <= high:
        margin = max(MARGIN[0], MARGIN[1] * (high - low))
        axes.set_xlim(low - margin, high + margin)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12, min_n_ticks=1))
    else:
        axes.set_xticks([])  # nothing but levels
    axes.grid(visible=False, axis="x")
