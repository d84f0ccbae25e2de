"""What each metric is called where people read it, which way it is better, and what chance gives."""

from dataclasses import dataclass
from typing import Literal

from corpora.settings import SALMON_TASKS

type Better = Literal["lower", "higher"]
type Resampled = Literal["items", "speakers", "words", "pairs"]
"""What is drawn for an interval; `eval.resampling` has which items belong together."""


@dataclass(frozen=True, slots=True)
class Metric:
    """How a metric is printed and read.

    Attributes:
        label: Its name in tables and figures.
        better: Which way is better; None where the number only describes.
        chance: The value of a system that guesses, where guessing has one.
        percent: Whether the fraction is printed in percent.
        decimals: Digits after the point, as the paper prints them where it has the metric.
        conditions: The conditions that make up the paper's number. Others (any context, another formula) are
            different numbers and never averaged with these.
        items: What identifies an item in the score's per-item table; empty where there is nothing to pair.
        resample: What intervals and tests draw, where a score does not say.
    """

    label: str
    better: Better | None = "higher"
    chance: float | None = None
    percent: bool = True
    decimals: int = 2
    conditions: tuple[str | None, ...] = (None,)
    items: tuple[str, ...] = ()
    resample: Resampled = "items"

    def shown(self, value: float) -> float:
        """The value in the unit it is printed in."""
        return 100 * value if self.percent else value

    def format(self, value: float, *, sign: bool = False) -> str:
        """The value as it is printed, with a real minus; ``+`` too where `sign` is asked for."""
        text = f"{self.shown(value):{'+' if sign else ''}.{self.decimals}f}"
        return text.replace("-", "\N{MINUS SIGN}")


def _abx(label: str) -> Metric:
    items = ("phone_a", "phone_b", "speaker")
    return Metric(label, "lower", chance=0.5, conditions=("within", "across"), items=items, resample="speakers")


def _of_units(label: str, better: Better | None = "higher", decimals: int = 3) -> Metric:
    return Metric(label, better, percent=False, decimals=decimals, items=("speaker",), resample="speakers")


def _choice(label: str, *items: str, conditions: tuple[str | None, ...] = (None,)) -> Metric:
    return Metric(label, chance=0.5, conditions=conditions, items=items)


METRICS = {
    "abx_continuous": _abx("ABX"),
    "abx_codebook": _abx("ABX on codebook predictions"),
    "abx_units": _abx("ABX on units"),
    "map_words": Metric(
        "MAP words", conditions=(None, "strict"), items=("fileid", "onset", "offset", "label"), resample="words"
    ),
    "pnmi": _of_units("PNMI"),
    "phone_purity": _of_units("phone purity"),
    "cluster_purity": _of_units("cluster purity"),
    "codebook_perplexity": _of_units("codebook perplexity", better=None, decimals=1),
    "active_units": _of_units("active units", better=None, decimals=0),
    "bitrate": _of_units("bitrate, bit/s", better=None, decimals=1),
    "entropy_bitrate": _of_units("entropy bitrate, bit/s", better=None, decimals=1),
    "units_per_second": _of_units("units per second", better=None, decimals=1),
    "per_many_to_one": Metric("PER, many-to-one", "lower", items=("speaker",), resample="speakers"),
    "per_one_to_one": Metric("PER, one-to-one", "lower", items=("speaker",), resample="speakers"),
    "boundary_precision": Metric("boundary precision", items=("speaker",), resample="speakers"),
    "boundary_recall": Metric("boundary recall", items=("speaker",), resample="speakers"),
    "boundary_f1": Metric("boundary F1", items=("speaker",), resample="speakers"),
    "boundary_r_value": Metric("boundary R-value", items=("speaker",), resample="speakers"),
    "swuggy_all": _choice("sWUGGY all", "id"),
    "swuggy_in_vocab": _choice("sWUGGY in-vocab", "id"),
    "sblimp": _choice("sBLIMP", "type", "subtype", "id"),
    "tsc": _choice("tSC", "id"),
    "ssc": _choice("sSC", "id"),
    "prosaudit": _choice("prosAudit", "type", "id", conditions=("protosyntax", "lexical")),
    "salmon": _choice("SALMon", "task", "id", conditions=SALMON_TASKS),
    "salmon_consistency": _choice("SALMon consistency", "task", "id"),
    "salmon_alignment": _choice("SALMon alignment", "task", "id"),
    "pairs": _choice("pairs", "id"),
}


def metric(name: str) -> Metric:
    """The metric of that name; one that is not known here is printed as it is and judged in no direction."""
    return METRICS.get(name, Metric(name, better=None, percent=False, decimals=3))
