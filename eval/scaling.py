"""Figure 3: zero-shot scores by the hours of speech that a language model is trained on (section 4.4)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from artifacts.errors import InputError
from eval.levels import chance_level, draw_levels
from eval.metrics import METRICS, Metric
from eval.results import Result, alike_hours, estimate, group, standard
from eval.style import (
    Look,
    Series,
    add_legend,
    looks,
    metric_label,
    new_figure,
    say_no_scores,
    series_namer,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT_IN = 2.7
MIN_BAND = 3  # sizes a curve needs for its intervals to be drawn as a band
MARGIN = 0.15  # of the range of the sizes, left and right of them
DODGE, WIDEST = 0.02, 0.1  # of that range: between two, and between all
NEAREST_TICKS = 1.25  # sizes nearer than this ratio share a name on the axis
TELLING = {"layer": "layer {}", "num_units": "$V$ = {}", "slm": "{}"}
"""What tells curves of the same model and kind of units apart, where it differs."""


def draw_scaling(results: Sequence[Result], metrics: Sequence[str], colours: Mapping[str, str]) -> "Figure":
    """One panel a metric, hours on a logarithmic axis, with 95% intervals and a small dash for each of several seeds.

    Args:
        results: Scores; those of language models whose hours are not known are left out.
        metrics: What the panels show, left to right.
        colours: Of the models.

    Raises:
        InputError: No score has hours.
    """
    curves = scaling_curves([r for r in results if r.metric in metrics])
    if not curves:
        raise InputError("figure 3: found no score with hours, expected those of language models trained on speech")
    look = looks(curves, colours)
    figure, [panels] = new_figure(1, len(metrics), HEIGHT_IN)
    for axes, name in zip(panels, metrics, strict=True):
        metric = METRICS[name]
        axes.set_title(metric_label(metric), loc="left")
        of_metric = {series: by_hours(r for r in scores if r.metric == name) for series, scores in curves.items()}
        if any(of_metric.values()):
            _draw_panel(axes, metric, of_metric, look)
        else:
            say_no_scores(axes)
    add_legend(figure, curves, look, lines=True)
    return figure


def scaling_curves(results: Iterable[Result]) -> dict[Series, list[Result]]:
    """The scores with hours of each series.

    A series is the units of one layer: it is named by the layer, by the number of units and by the language model
    where several would otherwise share a name. Scores of two language models are never averaged.
    """
    timed = [r for r in standard(results) if r.slm and r.hours is not None]
    name_units = series_namer([])  # without the training, which is what a curve runs over
    return {
        replace(series, variant=variant): scores
        for series, of_units in sorted(group(timed, name_units).items())
        for variant, scores in _told_apart(of_units).items()
    }


def _told_apart(results: Sequence[Result]) -> dict[str, list[Result]]:
    telling = [field for field in ("layer", "num_units") if len({getattr(r, field) for r in results}) > 1]
    systems = group(results, lambda r: (r.metric, *(getattr(r, field) for field in telling)))
    if any(len({r.slm for r in of_size}) > 1 for scores in systems.values() for of_size in by_hours(scores).values()):
        telling.append("slm")

    def variant(result: Result) -> str:
        told = {field: getattr(result, field) for field in telling}
        return ", ".join(TELLING[field].format(value) for field, value in told.items() if value is not None)

    return group(results, variant)


def by_hours(results: Iterable[Result]) -> dict[float, list[Result]]:
    """The scores by rising hours; hours that differ only by what frames make of the same speech are one."""
    sizes: dict[float, list[Result]] = {}
    for hours, scores in sorted(group(results, lambda r: r.hours or 0.0).items()):
        alike = next((size for size in sizes if alike_hours(size, hours)), hours)
        sizes.setdefault(alike, []).extend(scores)
    return sizes


def _draw_panel(
    axes: "Axes", metric: Metric, curves: Mapping[Series, Mapping[float, list[Result]]], look: Mapping[Series, Look]
) -> None:
    all_sizes = sorted({hours for sizes in curves.values() for hours in sizes})
    range_ = max(all_sizes[-1] / all_sizes[0], 2.0)
    short = [series for series, sizes in curves.items() if 0 < len(sizes) < MIN_BAND]
    for series, sizes in curves.items():
        aside = (
            range_ ** (min(DODGE, WIDEST / len(short)) * (short.index(series) - (len(short) - 1) / 2))
            if series in short
            else 1.0
        )
        _draw_curve(axes, metric, {aside * hours: scores for hours, scores in sizes.items()}, look[series])
    _name_sizes(axes, all_sizes, range_**MARGIN)
    draw_levels(axes, chance_level(metric))


def _draw_curve(axes: "Axes", metric: Metric, sizes: Mapping[float, list[Result]], look: Look) -> None:
    """A curve in its band; where it is too short for one, dots with bars, moved aside so that none hides another."""
    if not sizes:
        return
    means = {hours: mean for hours, scores in sizes.items() if (mean := estimate(scores))}
    shown = [metric.shown(mean.value) for mean in means.values()]
    axes.plot(list(means), shown, linestyle=look.line, zorder=3, **look.dots())
    ends = [(hours, mean.low, mean.high) for hours, mean in means.items()]
    known = [
        (h, metric.shown(low), metric.shown(high)) for h, low, high in ends if low is not None and high is not None
    ]
    if len(known) >= MIN_BAND:
        places, lows, highs = zip(*known, strict=True)
        axes.fill_between(places, lows, highs, color=look.colour, alpha=0.14, linewidth=0, zorder=2)
    elif known:
        axes.vlines(*zip(*known, strict=True), color=look.colour, alpha=0.5, linewidth=1.0, zorder=2)
    for hours, scores in sizes.items():
        seeds = [estimate(of_seed) for of_seed in group(scores, lambda r: r.seed).values()]
        if len(seeds) > 1:
            values = [metric.shown(mean.value) for mean in seeds if mean]
            dashes: dict[str, Any] = {"linestyle": "none", "marker": "_", "markersize": 6, "markeredgewidth": 0.8}
            axes.plot([hours] * len(values), values, color=look.colour, alpha=0.7, zorder=2.5, **dashes)


def _name_sizes(axes: "Axes", sizes: Sequence[float], margin: float) -> None:
    """A logarithmic axis with the sizes that there are for its ticks, and a margin by a factor."""
    ticks = [sizes[0]]
    for hours in sizes[1:]:
        if hours > NEAREST_TICKS * ticks[-1]:
            ticks.append(hours)
    axes.set_xscale("log")
    axes.set_xlabel("Hours of speech")
    axes.set_xticks(ticks, [f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}" for hours in ticks])
    axes.set_xticks([], minor=True)
    axes.set_xlim(sizes[0] / margin, sizes[-1] * margin)
    axes.grid(visible=False, axis="x")
