"""Horizontal lines with a name in a panel: chance, a reference, a topline."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eval.metrics import Metric
from eval.style import FAINT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.transforms import Bbox

REACH = 1.0  # how far from the data a level is still drawn, in heights of the data
NAME_SIZE_PT = 8
ENOUGH_PT = 4.0  # between a name and the nearest of the data; more is no better
STEPS = 40  # points along each straight part of a curve


@dataclass(frozen=True, slots=True)
class Level:
    """A horizontal line with a name."""

    name: str
    value: float
    colour: str
    line: Any
    however_far: bool = False


def chance_level(metric: Metric) -> list[Level]:
    """What guessing gives, where the metric has such a level."""
    return [] if metric.chance is None else [Level("chance", metric.shown(metric.chance), FAINT, (0, (1, 2)))]


def draw_levels(axes: "Axes", levels: Sequence[Level]) -> None:
    """Draw the levels near the data; those far off would flatten it, and are named above the panel instead.

    The names stand at the end of their line where there is most room, so the horizontal limits must be set before.
    """
    from matplotlib.patheffects import withStroke

    curves = [np.asarray(line.get_xydata(), np.float64) for line in axes.lines]
    dots = np.concatenate(curves or [np.empty((0, 2))])
    near = [level.however_far or not len(dots) or is_near(axes, level.value, REACH) for level in levels]
    drawn = [level for level, is_drawn in zip(levels, near, strict=True) if is_drawn]
    for level in drawn:
        axes.axhline(level.value, color=level.colour, linestyle=level.line, linewidth=1.0, zorder=1.5)
    axes.margins(y=0.1)
    axes.autoscale_view(scalex=False)
    data_pt = np.concatenate([_along(_in_points(axes, curve)) for curve in curves] or [dots])
    named: list[Bbox] = []
    for level in drawn:
        at_right, above, place = _roomiest(axes, level, data_pt, named)
        named.append(place)
        axes.annotate(
            level.name,
            (1 if at_right else 0, level.value),
            xycoords=("axes fraction", "data"),
            xytext=(-1 if at_right else 2, 1.5 if above else -1.5),
            textcoords="offset points",
            ha="right" if at_right else "left",
            va="bottom" if above else "top",
            fontsize=NAME_SIZE_PT,
            color=level.colour,
            zorder=5,
            in_layout=False,
            path_effects=[withStroke(linewidth=2, foreground="white")],
        )
    far = [f"{level.name}: {level.value:.4g}" for level in levels if level not in drawn]
    axes.set_title(", ".join(far), loc="right", fontsize=NAME_SIZE_PT, color=FAINT, in_layout=False)


def is_near(axes: "Axes", level: float, reach: float) -> bool:
    """Whether a level is at most `reach` heights of the data away from the data."""
    low, high = axes.dataLim.intervaly
    return bool(low - reach * (high - low) <= level <= high + reach * (high - low))


def _along(curve: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Points along a curve of (points, 2), its own among them."""
    if len(curve) < 2:
        return curve
    places = np.linspace(0, len(curve) - 1, STEPS * (len(curve) - 1) + 1)
    return np.stack([np.interp(places, np.arange(len(curve)), values) for values in curve.T], axis=1)


def _in_points(axes: "Axes", data: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Where data of (points, 2) lies in the figure, in typographic points."""
    return axes.transData.transform(data) * 72 / axes.figure.dpi


def _roomiest(
    axes: "Axes", level: Level, data_pt: npt.NDArray[np.float64], named: Sequence["Bbox"]
) -> tuple[bool, bool, "Bbox"]:
    """Where a level's name has most room: whether at the right, whether above, and its box in typographic points.

    Args:
        data_pt: What is drawn, in typographic points, (points, 2).
        named: Boxes that are taken.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath
    from matplotlib.transforms import Bbox

    width, height = TextPath((0, 0), level.name, prop=FontProperties(size=NAME_SIZE_PT)).get_extents().size
    (left, _), (right, _) = axes.transAxes.transform([(0, 0), (1, 0)]) * 72 / axes.figure.dpi
    ((_, line),) = _in_points(axes, np.array([(axes.get_xlim()[0], level.value)]))

    def place(at_right: bool, above: bool) -> tuple[bool, bool, Bbox]:
        corner = right - 1 - width if at_right else left + 2, line + 1.5 if above else line - 1.5 - height
        return at_right, above, Bbox.from_bounds(*corner, width, height)

    def room(placed: tuple[bool, bool, Bbox]) -> float:
        taken = any(placed[2].overlaps(other) for other in named)
        return 0.0 if taken else min(_distance(placed[2], data_pt), ENOUGH_PT)

    return max((place(at_right, above) for above in (True, False) for at_right in (True, False)), key=room)


def _distance(box: "Bbox", data_pt: npt.NDArray[np.float64]) -> float:
    """From a box to the nearest point of (points, 2); 0 inside."""
    outside = np.maximum(np.maximum([box.x0, box.y0] - data_pt, data_pt - [box.x1, box.y1]), 0)
    return float(np.hypot(*outside.T).min(initial=np.inf))
