"""The names of levels stand beside the data, not on it."""

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.transforms import Bbox

from eval.levels import Level, draw_levels
from eval.style import new_figure

CHANCE, MFCC = Level("chance", 50, "#8a8a8a", ":"), Level("MFCC", 10.8, "#6f6f6f", "--")


def panel(curves: list[list[float]]) -> Axes:
    """A panel of two, with curves over the layers from 1."""
    figure, [[axes, _]] = new_figure(1, 2, 2.6)
    for values in curves:
        axes.plot(np.arange(1, len(values) + 1), values, marker="o")
    axes.set_xlim(0.5, max(map(len, curves)) + 0.5)
    draw_levels(axes, [CHANCE, MFCC])
    figure.draw_without_rendering()
    return axes


def names(axes: Axes) -> dict[str, Bbox]:
    return {text.get_text(): text.get_window_extent() for text in axes.texts}


@pytest.mark.parametrize(
    "curves",
    [
        [[10.4, 11.5, 12.6, 12.6], [7.9, 7.8, 9.7, 8.6], [53.2, 53, 53, 52.7]],
        [[45, 52, 53, 55], [5, 5, 14, 13]],
        [[51, 30, 20, 10.5], [48, 12, 11, 9]],
    ],
)
def test_names_of_levels_touch_no_dot_and_no_other_name(curves: list[list[float]]) -> None:
    axes = panel(curves)
    found = names(axes)
    assert found.keys() == {"chance", "MFCC"}
    assert not found["chance"].overlaps(found["MFCC"])
    for values in curves:
        for layer, value in enumerate(values, start=1):
            x, y = axes.transData.transform((layer, value))
            radius = 4.2 / 2 * axes.figure.dpi / 72
            dot = Bbox.from_extents(x - radius, y - radius, x + radius, y + radius)
            assert not any(box.overlaps(dot) for box in found.values()), (layer, value)


def test_levels_that_lie_close_have_their_names_apart() -> None:
    figure, [[axes]] = new_figure(1, 1, 2.6)
    axes.plot([1, 2], [0, 100])
    draw_levels(axes, [CHANCE, Level("MFCC", 51, "#6f6f6f", "--")])
    figure.draw_without_rendering()
    found = names(axes)
    assert not found["chance"].overlaps(found["MFCC"])
