"""What changes with the step: the learning rate and the teacher's decay (section 4.1, figure 5)."""

from math import exp

from spidr.settings import ExponentialTeacher, OptimizerSettings, TeacherSettings


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
