"""Figure 5: the learning rate and the teacher's decay during training (appendix A.1), from tables of recipes.

python -m eval.schedules --schedules SpidR=spidr.csv DinoSR=dinosr.csv --output results/demo/figures/figure_05

`python -m spidr.schedules` makes such a table of a recipe.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from artifacts.errors import InputError, run
from artifacts.files import read_csv
from artifacts.settings import Settings, parse_settings
from eval.naming import named_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "Learning rate (left) and decay of the teacher (right) by step. The decay is the share of itself that the teacher "
    "keeps at a step, the rest is the student's; where a teacher is frozen it keeps all, drawn dotted. Curves that "
    "coincide are dashed in one another."
)
COLUMNS = ("step", "learning_rate", "teacher_decay")
HEIGHT_IN = 2.3
LINES: tuple[Any, ...] = ("-", (0, (4, 2)), (0, (1.5, 1.5)), (0, (6, 2, 1, 2)))
FROZEN = (0, (1, 1.6))


class Scheduled(Settings):
    """What a step is trained with."""

    model_config = ConfigDict(allow_inf_nan=False)

    step: int = Field(ge=0)
    learning_rate: float = Field(ge=0)
    teacher_decay: float | None = Field(None, ge=0, le=1)
    """None where the teacher is frozen."""


@dataclass(frozen=True, slots=True)
class Schedule:
    """The schedules of one training, by rising step."""

    name: str
    steps: Sequence[Scheduled]


def read_schedule(name: str, path: Path) -> Schedule:
    """The schedules of a training, named.

    Raises:
        InputError: A malformed row, steps that do not rise, or none.
    """
    steps: list[Scheduled] = []
    for line, row in read_csv(path, COLUMNS):
        step = parse_settings(Scheduled, {c: row[c] for c in COLUMNS if row[c]}, f"{path}, line {line}")
        if steps and step.step <= steps[-1].step:
            raise InputError(f"{path}, line {line}: step: found {step.step} after {steps[-1].step}, expected a later")
        steps.append(step)
    if not steps:
        raise InputError(f"{path}: found no step, expected some")
    return Schedule(name, steps)


def draw_schedules(schedules: Sequence[Schedule]) -> "Figure":
    """The learning rate on the left, the teacher's decay on the right, one curve a training."""
    from matplotlib.lines import Line2D

    from eval.style import new_figure, place_legend

    figure, [[rate, decay]] = new_figure(1, 2, HEIGHT_IN)
    peak = max(each.learning_rate for schedule in schedules for each in schedule.steps)
    exponent = math.floor(math.log10(peak)) if peak else 0
    unit = 10.0**exponent
    handles = []
    for schedule, (colour, line) in zip(schedules, _curve_looks(schedules), strict=True):
        look: dict[str, Any] = {"color": colour, "linestyle": line, "linewidth": 1.5}
        steps = [each.step for each in schedule.steps]
        rate.plot(steps, [each.learning_rate / unit for each in schedule.steps], **look)
        moving = [(each.step, each.teacher_decay) for each in schedule.steps if each.teacher_decay is not None]
        if moving:
            decay.plot(*zip(*moving, strict=True), **look)
        if frozen := [each.step for each in schedule.steps if each.teacher_decay is None]:
            decay.plot([frozen[0], frozen[-1]], [1, 1], color=colour, linestyle=FROZEN, linewidth=1.5)
        handles.append(Line2D([], [], label=schedule.name, **look))
    rate.set_title(rf"Learning rate ($10^{{{exponent}}}$)", loc="left")
    decay.set_title("Decay of the teacher", loc="left")
    for axes in (rate, decay):
        _set_steps(axes)
    rate.set_ylim(bottom=0)
    place_legend(figure, handles, handlelength=2.4)
    return figure


def _curve_looks(schedules: Sequence[Schedule]) -> list[tuple[str, Any]]:
    """Colour and line of each: a model's own colour, lines that let one see a curve under another."""
    from eval.style import MODEL_COLOURS, OTHER_COLOURS

    others = [schedule.name for schedule in schedules if schedule.name not in MODEL_COLOURS]
    colours = MODEL_COLOURS | {name: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, name in enumerate(others)}
    return [(colours[schedule.name], LINES[i % len(LINES)]) for i, schedule in enumerate(schedules)]


def _set_steps(axes: "Axes") -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.ticklabel_format(axis="y", useOffset=False)
    axes.set_xlabel("Training steps")


def main() -> None:
    """Entry point: tables of schedules in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--schedules", nargs="+", required=True, metavar="NAME=PATH", help="table of each training")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    schedules = [read_schedule(*named_path(text, "--schedules")) for text in given.schedules]
    from eval.style import save_figure

    save_figure(draw_schedules(schedules), given.output)


if __name__ == "__main__":
    run(main)
