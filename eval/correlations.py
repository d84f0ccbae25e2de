"""Figures 13 and 14: language modelling scores against what is known of the representations beforehand."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eval.levels import chance_level, draw_levels, is_near
from eval.metrics import METRICS
from eval.results import Result, drawn_scores, estimate, group
from eval.statistics import Correlation, pearson
from eval.style import (
    INK,
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

ROW_HEIGHT_IN = 2.1
LINE_HEIGHT_PT = 9.0
DOT_SIZE_PT = 7.2
REACH = 0.2  # how far from the dots chance is still drawn, in heights of the dots
PREFERRED = {"abx_continuous": ("abx_codebook", "abx_continuous")}  # of a system's, the first that has a score
MIN_POINTS = 3  # of two points r is always 1 or -1

type Points = dict[Series, dict[int | None, tuple[float, float]]]


def draw_correlations(
    results: Sequence[Result], proxies: Sequence[str], targets: Sequence[str], colours: Mapping[str, str]
) -> "Figure":
    """A panel for each proxy (rows) and language modelling metric (columns), Pearson's r above it.

    Args:
        results: Scores; those whose layer is not told are left out.
        proxies: Metrics of features or units, horizontal.
        targets: Metrics of language models, vertical; several seeds of a training are averaged.
        colours: Of the models.
    """
    results = [result for result in results if result.layer is not None]
    look = looks(map(series_namer(results), results), colours)
    found = [[proxy_points(results, proxy, target) for target in targets] for proxy in proxies]
    lines = max(len(correlate(points)) for row in found for points in row)
    height = len(proxies) * (ROW_HEIGHT_IN + lines * LINE_HEIGHT_PT / 72) + 0.3
    figure, panels = new_figure(len(proxies), len(targets), height)
    for proxy, axes_row, points_row in zip(proxies, panels, found, strict=True):
        for target, axes, points in zip(targets, axes_row, points_row, strict=True):
            axes.set_xlabel(metric_label(METRICS[proxy], drawn_scores(results, proxy)[1]))
            axes.set_ylabel(metric_label(METRICS[target]))
            if points:
                _draw_points(axes, proxy, target, points, look)
            else:
                say_no_scores(axes)
    shown = {series for row in found for points in row for series in points}
    add_legend(figure, shown, look, lines=False)
    return figure


def proxy_points(results: Sequence[Result], proxy: str, target: str) -> Points:
    """The (proxy, target) of each layer of each series, as fractions; the annotated phones are left out.

    ``abx_continuous`` of units that have predictions, those of codebooks, is that of the predictions, as in the paper.
    """
    points: Points = {}
    name = series_namer(results)
    known_layer = [r for r in results if r.layer is not None]
    proxies = [drawn_scores(known_layer, metric)[0] for metric in PREFERRED.get(proxy, (proxy,))]
    trained = group(drawn_scores(known_layer, target)[0], lambda r: (name(r), r.layer))
    for (series, layer), of_system in trained.items():
        of_each = (estimate([r for r in scores if _belongs(r, of_system[0])]) for scores in proxies)
        known = next(filter(None, of_each), None)
        reached = estimate(of_system)
        if known and reached:
            points.setdefault(series, {})[layer] = known.value, reached.value
    return points


def _belongs(result: Result, system: Result) -> bool:
    """Whether a score is of what a system's language model reads: of its features, or of its units."""
    same = ["source", "encoder", "layer"]
    if result.metric not in ("abx_continuous", "map_words"):
        same += ["quantizer", "num_units"]
    return all(getattr(result, field) == getattr(system, field) for field in same)


def correlate(points: Points) -> list[tuple[Series | str, Correlation]]:
    """Pearson's r over all points of each source, and over the layers of each series, where it is defined.

    Sources are not pooled: language models trained elsewhere, on other data, would lend r their distance from ours.
    """
    clouds: dict[Series | str, list[tuple[float, float]]] = {}
    for series, layers in points.items():
        clouds.setdefault(series.source, []).extend(layers.values())
    clouds |= {series: list(layers.values()) for series, layers in sorted(points.items())}
    defined = {
        whose: cloud
        for whose, cloud in clouds.items()
        if len(cloud) >= MIN_POINTS and all(len(set(coordinate)) > 1 for coordinate in zip(*cloud, strict=True))
    }
    return [(whose, pearson(*zip(*cloud, strict=True))) for whose, cloud in defined.items()]


def _draw_points(axes: "Axes", proxy: str, target: str, points: Points, look: dict[Series, Look]) -> None:
    for series, layers in sorted(points.items()):
        style = look[series]
        for layer, (known, reached) in sorted(layers.items(), key=lambda item: item[0] or 0):
            x, y = METRICS[proxy].shown(known), METRICS[target].shown(reached)
            edge = {"markeredgecolor": "white", "markeredgewidth": 0.5} if style.filled else {}
            axes.plot(x, y, linestyle="none", markersize=DOT_SIZE_PT, alpha=0.85, zorder=3, **(style.dots() | edge))
            if not series.is_reference:
                colour = "white" if style.filled else style.colour
                place: dict[str, Any] = {"ha": "center", "va": "center_baseline", "clip_on": True}
                axes.text(x, y, str(layer), fontsize=6, color=colour, zorder=4, **place)
    axes.margins(0.1)
    draw_levels(axes, [level for level in chance_level(METRICS[target]) if is_near(axes, level.value, REACH)])
    found = correlate(points)
    one_source = len({series.source for series in points}) == 1
    axes.set_title(" ", pad=max(0, len(found) * LINE_HEIGHT_PT - 4))  # makes room
    for line, (whose, correlation) in enumerate(reversed(found)):
        height_pt = 5 + line * LINE_HEIGHT_PT
        if isinstance(whose, Series):
            _write_correlation(axes, height_pt, correlation, look[whose])
        else:
            _write_correlation(axes, height_pt, correlation, None, "" if one_source else f"{whose}: ")


def _write_correlation(
    axes: "Axes", height_pt: float, correlation: Correlation, look: Look | None, prefix: str = ""
) -> None:
    """One line above the panel: whose r by its marker; none for all dots of a source, which is named before it."""
    from matplotlib.transforms import ScaledTranslation

    to_inches = axes.figure.dpi_scale_trans
    marker = axes.transAxes + ScaledTranslation(3 / 72, (height_pt + 2.5) / 72, to_inches)
    text = axes.transAxes + ScaledTranslation((9 if look else 0) / 72, height_pt / 72, to_inches)
    if look:
        axes.plot(0, 1, transform=marker, linestyle="none", markersize=4, clip_on=False, in_layout=False, **look.dots())
    interval = ""
    if correlation.low is not None and correlation.high is not None:
        interval = f" [{_two_digits(correlation.low)}, {_two_digits(correlation.high)}]"
    line = f"{prefix}$r$ = {_two_digits(correlation.r)}{interval}, $n$ = {correlation.n}"
    axes.text(0, 1, line, transform=text, fontsize=7.5, color=look.colour if look else INK, in_layout=False)


def _two_digits(number: float) -> str:
    """With a real minus, and none before zero."""
    return f"{round(number, 2) + 0.0:.2f}".replace("-", "\N{MINUS SIGN}")
