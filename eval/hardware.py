"""Figure 4: how long pretraining takes on what hardware (section 4.5), from compute footprints.

python -m eval.hardware --footprint results/demo/footprint.csv results/published/table_4.csv
    --output results/demo/figures/figure_04
"""

import argparse
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from artifacts.errors import InputError, run
from eval.footprint import FIELDS, Footprint, read_footprints

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "Pretraining time by hardware: hours against the number of devices, both on logarithmic axes, by kind of device. "
    "A dot is a training that was run; lines join trainings of one model on one kind of device, and thin gray lines "
    "those that cost as many device hours. What lies lower takes less time, what lies further to the lower left costs "
    "less."
)
HEIGHT_IN = 3.4
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#6f6f6f", "#B8860B", "#56B4E9", "#882255")
MARKERS = "os^Dv<>p"
NEAR = 1.3  # a factor: names of dots nearer than this above each other stand on either side
MARGIN = 1.7  # of both axes, as a factor


def read_trainings(paths: Iterable[Path]) -> list[Footprint]:
    """The trainings of footprint tables, in the order given.

    Raises:
        InputError: A malformed row, a number that has no place on a logarithmic axis, or no row.
    """
    found = []
    given = list(paths)
    for path in given:
        for training in read_footprints(path):
            if not (training.num_gpus > 0 and 0 < training.pretraining_time_h < float("inf")):
                raise InputError(
                    f"{path}: {training.model}: found {training.pretraining_time_h:g} h "
                    f"on {training.num_gpus} devices, expected numbers above 0"
                )
            found.append(training)
    if not found:
        raise InputError(f"{given[0]}: found no training, expected one at least")
    return found


def draw_hardware(trainings: Sequence[Footprint]) -> "Figure":
    """One panel; colour and marker are the kind of device, names stand beside the dots."""
    from matplotlib.lines import Line2D

    from eval.style import new_figure, place_legend

    figure, [[axes]] = new_figure(1, 1, HEIGHT_IN)
    kinds = list(dict.fromkeys(training.gpu for training in trainings))
    named: list[tuple[int, float, bool]] = []
    places = sorted(trainings, key=lambda t: (t.gpu, t.model, t.num_gpus, t.pretraining_time_h))
    for _, joined in groupby(places, key=lambda t: (t.gpu, t.model)):
        own = list(joined)
        kind = kinds.index(own[0].gpu)
        x, y = [t.num_gpus for t in own], [t.pretraining_time_h for t in own]
        look: dict[str, Any] = {"color": COLOURS[kind % len(COLOURS)], "marker": MARKERS[kind % len(MARKERS)]}
        axes.plot(x, y, zorder=3, **look)
        x_named, y_named = own[-1].num_gpus, own[-1].pretraining_time_h
        at_right = x_named**2 <= max(t.num_gpus for t in trainings)  # half of the logarithmic axis
        if any(x_named == x and at_right == side and 1 / NEAR < y_named / y < NEAR for x, y, side in named):
            at_right = not at_right
        named.append((x_named, y_named, at_right))
        _name_dot(axes, own[-1], at_right=at_right)
    _set_scales(axes, trainings)
    _draw_costs(axes)
    handles = [
        Line2D([], [], linestyle="none", color=COLOURS[i % len(COLOURS)], marker=MARKERS[i % len(MARKERS)], label=kind)
        for i, kind in enumerate(kinds)
    ]
    place_legend(figure, handles, handlelength=1)
    return figure


def _name_dot(axes: "Axes", training: Footprint, *, at_right: bool) -> None:
    from matplotlib.patheffects import withStroke

    from eval.style import INK

    place: dict[str, Any] = {"xytext": (5 if at_right else -5, 0), "ha": "left" if at_right else "right"}
    axes.annotate(
        training.model,
        (training.num_gpus, training.pretraining_time_h),
        textcoords="offset points",
        va="center",
        fontsize=8,
        color=INK,
        zorder=4,
        path_effects=[withStroke(linewidth=2.5, foreground="white")],
        **place,
    )


def _set_scales(axes: "Axes", trainings: Sequence[Footprint]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    numbers = [training.num_gpus for training in trainings]
    times = [training.pretraining_time_h for training in trainings]
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xlim(min(numbers) / MARGIN, max(numbers) * MARGIN)
    axes.set_ylim(min(times) / MARGIN, max(times) * MARGIN)
    ticks = sorted(set(numbers))
    axes.set_xticks(ticks, [str(number) for number in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda hours, _: f"{hours:,g}"))
    axes.set(xlabel="Number of devices", ylabel="Pretraining time (h)")


def _draw_costs(axes: "Axes") -> None:
    """Lines of 1, 10, 100... device hours, as far as they cross the panel."""
    from eval.style import FAINT

    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    for power in range(int(np.ceil(np.log10(left * low))), int(np.floor(np.log10(right * high))) + 1):
        cost_h = 10.0**power
        axes.plot([left, right], [cost_h / left, cost_h / right], color=FAINT, linewidth=0.4, alpha=0.6, zorder=1)
        first = max(left, cost_h / high)  # where the line enters the panel
        axes.annotate(
            f"{cost_h:,g} device h",
            (first, cost_h / first),
            xytext=(10, -1),  # right of the line, which falls
            textcoords="offset points",
            va="top",
            fontsize=6.5,
            color=FAINT,
            clip_on=True,
        )


def main() -> None:
    """Entry point: footprint tables in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--footprint", type=Path, nargs="+", required=True, help=f"CSV: {','.join(FIELDS)}")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    trainings = read_trainings(given.footprint)
    from eval.style import save_figure

    save_figure(draw_hardware(trainings), given.output)


if __name__ == "__main__":
    run(main)
