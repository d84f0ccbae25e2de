"""What changes with the step: the learning rate and the teacher's decay (section 4.1, figure 5).

python -m spidr.schedules --settings config/spidr/base.yaml --output schedules.csv
"""

import argparse
from collections.abc import Iterator
from math import exp
from pathlib import Path

from artifacts.errors import run
from artifacts.files import write_csv
from artifacts.settings import load_settings
from spidr.settings import ExponentialTeacher, LinearTeacher, OptimizerSettings, Recipe, TeacherSettings

COLUMNS = ("step", "learning_rate", "teacher_decay")
NUM_POINTS = 1000
"""Steps of a table, evenly over the training; those where a schedule bends come on top."""


def learning_rate(step: int, settings: OptimizerSettings) -> float:
    """Learning rate of a step: linear warm-up, hold, exponential decay, then constant."""
    peak, initial, final = settings.learning_rate, settings.initial_ratio, settings.final_ratio
    if step < settings.warmup_steps:
        return peak * (initial + (1 - initial) * step / settings.warmup_steps)
    falling = step - settings.warmup_steps - settings.hold_steps
    if falling <= 0:
        return peak
    if falling >= settings.decay_steps:
        return peak * final
    return float(peak * final ** (falling / settings.decay_steps))


def teacher_decay(step: int, settings: TeacherSettings) -> float | None:
    """beta_t: the share of itself that the teacher keeps at a step; None where it is frozen.

    Frozen is not a decay of 1: SpidR's reaches 1 in floating point late in a training, and the teacher's
    positional embeddings go on being copied.
    """
    if isinstance(settings, ExponentialTeacher):
        return 1 - (1 - settings.initial_decay) * exp(-step / settings.timescale)
    if settings.freeze_step is not None and step >= settings.freeze_step:
        return None
    risen = min(1.0, step / settings.warmup_steps)
    return settings.initial_decay + risen * (settings.final_decay - settings.initial_decay)


def schedule_rows(recipe: Recipe) -> Iterator[dict[str, float | int | None]]:
    """Both schedules of a training at steps that show their shape; the decay is None where the teacher is frozen."""
    optimizer, teacher, last = recipe.optimizer, recipe.teacher, recipe.num_steps
    bends = [optimizer.warmup_steps, optimizer.warmup_steps + optimizer.hold_steps]
    bends.append(bends[-1] + optimizer.decay_steps)
    if isinstance(teacher, LinearTeacher):
        bends.append(teacher.warmup_steps)
        if teacher.freeze_step is not None:
            bends += [teacher.freeze_step - 1, teacher.freeze_step]
    steps = {round(last * point / NUM_POINTS) for point in range(NUM_POINTS + 1)}
    for step in sorted(steps | {bend for bend in bends if 0 <= bend <= last}):
        yield {
            "step": step,
            "learning_rate": learning_rate(step, optimizer),
            "teacher_decay": teacher_decay(step, teacher),
        }


def main() -> None:
    """Entry point: a recipe in, a table of its schedules out."""
    parser = argparse.ArgumentParser(description="The schedules of a recipe by step, as CSV.")
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument("--output", type=Path, required=True, help=f"CSV: {','.join(COLUMNS)}")
    given = parser.parse_args()
    write_csv(given.output, COLUMNS, schedule_rows(load_settings(Recipe, given.settings)))


if __name__ == "__main__":
    run(main)
