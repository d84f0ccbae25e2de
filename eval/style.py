"""How figures look: one style, and one colour and marker for a series in every figure.

The colour is the model's, the marker and the line are the quantizer's, so that neither is needed to read the other.
What is from elsewhere is hollow and dotted.
Colours are those of Okabe and Ito (2008), which stay apart for the colour-blind.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.files import atomic_file
from eval.metrics import Metric
from eval.rendering import ARROWS
from eval.results import CODEBOOK, OURS, TOPLINES, Result, training_label, unit_label

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TEXT_WIDTH_IN = 6.5
MOST_ABREAST = 4  # entries of a legend
LEGEND_LINE_IN = 0.17
DOTS_PER_INCH = 300

INK = "#222222"
FAINT = "#8a8a8a"
MODEL_COLOURS = {
    "SpidR": "#0072B2",
    "DinoSR": "#D55E00",
    "HuBERT": "#009E73",
    "MFCC": "#6f6f6f",
    "Phones": INK,
    "Text": INK,
}
OTHER_COLOURS = ("#CC79A7", "#B8860B", "#56B4E9", "#882255", "#7A5230", "#44AA99")
MARKERS: dict[str, Sequence[Any]] = {"": "o^<>*hsDP", "K-means": "o^<>*h", CODEBOOK: "sv8p"}
OTHER_MARKERS: Sequence[Any] = [*"DdPX", *((corners, 1, 0) for corners in (4, 6, 3, 8))]  # the latter are stars

STYLE: Any = {  # matplotlib types each key by itself
    "font.family": "STIXGeneral",  # comes with matplotlib, so that a figure looks the same everywhere
    "mathtext.fontset": "stix",
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#555555",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "axes.linewidth": 0.6,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "lines.linewidth": 1.3,
    "lines.markersize": 4.2,
    "legend.frameon": False,
    "pdf.fonttype": 42,  # text stays text
    "savefig.dpi": DOTS_PER_INCH,
}


@dataclass(frozen=True, slots=True, order=True)
class Series:
    """What a curve or a cloud of dots belongs to."""

    source: str
    encoder: str
    model: str
    units: str = ""
    variant: str = ""

    @property
    def label(self) -> str:
        """Its name in a legend; the source is named where it is not ours."""
        name = ", ".join(part for part in (self.model, self.units, self.variant) if part)
        return name if self.source == OURS else f"{name} ({self.source})"

    @property
    def is_reference(self) -> bool:
        """Whether it has no layers to speak of, and is drawn as a level."""
        return is_reference(self.encoder)


def is_reference(encoder: str) -> bool:
    """Whether an encoder has no layers to speak of."""
    return encoder in ("mfcc", *TOPLINES)


def series_namer(results: Iterable[Result]) -> Callable[[Result], Series]:
    """What names the series of a score.

    Its variant is what tells it from others of the same model and kind of units: the number of units where there are
    several, the training of its language model where its source has several trainings.
    """
    sizes: dict[tuple[str, ...], set[int | None]] = {}
    trainings: dict[str, set[tuple[Any, ...]]] = {}
    for result in results:
        if result.quantizer:
            sizes.setdefault(_of_units(result), set()).add(result.num_units)
        if result.slm:
            trainings.setdefault(result.source, set()).add((result.slm, result.corpus, result.hours))

    def name(result: Result) -> Series:
        several_sizes = len(sizes.get(_of_units(result), ())) > 1
        variant = [f"$V$ = {result.num_units}"] if several_sizes else []
        if result.slm and len(trainings.get(result.source, ())) > 1:
            variant.append(training_label(result.slm, result.corpus, result.hours))
        units = unit_label(result.quantizer, result.num_units)
        return Series(result.source, result.encoder, result.model, units, ", ".join(variant))

    return name


def _of_units(result: Result) -> tuple[str, ...]:
    return result.source, result.model, unit_label(result.quantizer, result.num_units)


@dataclass(frozen=True, slots=True)
class Look:
    """Colour, marker and line of a series."""

    colour: str
    marker: str
    line: Any
    filled: bool

    def dots(self) -> dict[str, Any]:
        """Marker arguments of ``plot``."""
        face = self.colour if self.filled else "white"
        return {"marker": self.marker, "color": self.colour, "markerfacecolor": face, "markeredgewidth": 1.0}


def model_colours(results: Iterable[Result]) -> dict[str, str]:
    """The colour of every model of an experiment: it depends on all of its scores, not on what one figure shows."""
    others = sorted({result.model for result in results} - set(MODEL_COLOURS))
    return MODEL_COLOURS | {model: OTHER_COLOURS[i % len(OTHER_COLOURS)] for i, model in enumerate(others)}


def looks(all_series: Iterable[Series], colours: Mapping[str, str]) -> dict[Series, Look]:
    """The look of every series.

    Args:
        colours: Of the models.
    """
    series = set(all_series)

    def look(each: Series) -> Look:
        kind = MARKERS.get(each.units)
        alike = {s for s in series if (s.units == each.units if kind else s.units not in MARKERS)}
        variants = sorted({(s.units, s.variant) for s in alike if s.variant or not kind}, key=_by_number)
        of_colour = sorted({s.model for s in alike if colours[s.model] == colours[each.model]})
        place = variants.index((each.units, each.variant)) if (each.units, each.variant) in variants else 0
        markers = kind or OTHER_MARKERS
        marker = markers[(place + of_colour.index(each.model)) % len(markers)]
        ours = each.source == OURS
        line = "--" if each.units == CODEBOOK else "-"
        return Look(colours[each.model], marker, line if ours else (0, (1, 1.5)), filled=ours)

    return {each: look(each) for each in series}


def in_legend(series: Iterable[Series]) -> list[Series]:
    """The series in the order of a legend: by name, sizes by number."""
    return sorted(series, key=lambda s: (s.source, s.encoder, s.model, *_by_number((s.units, s.variant))))


def _by_number(names: tuple[str, str]) -> tuple[object, ...]:
    """What sorts units and variants: ``V = 50`` comes before ``V = 100``."""
    return names[0], [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", names[1])]


def metric_label(metric: Metric, condition: str = "") -> str:
    """The name of a metric over a panel or along an axis, with a condition that is not the paper's."""
    unit = ", ".join(filter(None, (condition, "%" if metric.percent else "")))
    return f"{metric.label}{f' ({unit})' if unit else ''} {ARROWS[metric.better]}"


def new_figure(rows: int, columns: int, height_in: float, **shape: Any) -> tuple["Figure", list[list["Axes"]]]:
    """A figure as wide as the text, and its panels by row and column.

    Args:
        shape: What else ``Figure.subplots`` takes: ``height_ratios``, ``sharex``.
    """
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcdefaults()
    matplotlib.rcParams.update(STYLE)
    figure = Figure(figsize=(TEXT_WIDTH_IN, height_in), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False, **shape)
    return figure, [list(row) for row in panels]


def add_legend(figure: "Figure", series: Iterable[Series], look: Mapping[Series, Look], *, lines: bool) -> None:
    """One legend above all panels."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle=look[each].line if lines else "none", label=each.label, **look[each].dots())
        for each in in_legend(series)
    ]
    place_legend(figure, handles, handlelength=2.4 if lines else 1)


def place_legend(figure: "Figure", handles: Sequence["Artist"], **shape: Any) -> None:
    """A legend above all panels, with as many entries abreast as fit; the figure grows by its further lines."""
    if not handles:
        return
    width_in, height_in = figure.get_size_inches()
    for columns in range(min(len(handles), MOST_ABREAST), 0, -1):
        further_lines = -(-len(handles) // columns) - 1
        figure.set_size_inches(width_in, height_in + further_lines * LEGEND_LINE_IN)
        legend = figure.legend(handles=list(handles), loc="outside upper center", ncols=columns, **shape)
        figure.draw_without_rendering()
        if columns == 1 or legend.get_window_extent().width <= figure.bbox.width:
            return
        legend.remove()


def say_no_scores(axes: "Axes") -> None:
    """An empty panel says that it is empty."""
    axes.text(0.5, 0.5, "no scores", transform=axes.transAxes, ha="center", va="center", color=FAINT)
    axes.set(xticks=[], yticks=[])


def save_figure(figure: "Figure", stem: Path) -> None:
    """Write a figure as PDF and PNG, ``stem`` with each extension: the same figure is the same bytes."""
    metadata: dict[str, dict[str, None]] = {"pdf": {"CreationDate": None}, "png": {"Software": None}}
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # laid out once for both
    for extension in ("pdf", "png"):
        with atomic_file(stem.with_suffix(f".{extension}")) as temporary:
            figure.savefig(temporary, format=extension, metadata=metadata[extension])
