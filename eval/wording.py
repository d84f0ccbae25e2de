"""Numbers, times and lists in sentences."""

from collections.abc import Sequence

from eval.metrics import Metric

NO_BREAK = "\N{NO-BREAK SPACE}"


def time_text(seconds: float) -> str:
    """A duration as one says it: ``40 s``, ``3.4 min``, ``47 min``, ``6.5 h``, ``960 h``."""
    amount, unit = seconds, "s"
    if seconds >= 99.5:
        amount, unit = (seconds / 60, "min") if seconds < 99.5 * 60 else (seconds / 3600, "h")
    return f"{amount:.1f}{NO_BREAK}{unit}" if amount < 9.95 else f"{amount:,.0f}{NO_BREAK}{unit}"


def count_text(number: int, one: str, many: str | None = None) -> str:
    """A number and what is counted: ``1 speaker``, ``4 speakers``, ``1,200 steps``."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def listed(names: Sequence[str], last: str = "and") -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return f" {last} ".join(part for part in (", ".join(names[:-1]), *names[-1:]) if part)


def figure_text(value: float, metric: Metric, *, bare: bool = False) -> str:
    """A score as a sentence has it: a digit less than tables print, and its unit.

    Args:
        bare: Without the unit, as the ends of an interval stand.
    """
    text = f"{metric.shown(value):.{1 if metric.percent else 3}f}".replace("-", "\N{MINUS SIGN}")
    return text if bare or not metric.percent else f"{text}%"


def interval_text(low: float | None, high: float | None, metric: Metric) -> str:
    """The 95% interval after a score: `` [12.1, 16.0]``; nothing where there is none."""
    if low is None or high is None:
        return ""
    return f" [{figure_text(low, metric, bare=True)},{NO_BREAK}{figure_text(high, metric, bare=True)}]"
