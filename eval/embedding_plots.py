"""Figures 8 and 9: phone embeddings by class, speaker gender and phone (appendix B.2), from a table of coordinates.

python -m eval.embedding_plots --figure 8 --embeddings embeddings.csv --model SpidR
    --output results/demo/figures/figure_08

`python -m eval.embeddings` makes the table.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import ConfigDict

from artifacts.errors import InputError, run
from artifacts.files import read_csv
from artifacts.settings import Settings, parse_settings
from eval.ipa import ipa
from eval.phone_classes import CLASS_COLOURS, CLASSES, phone_class

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SAMPLE = (
    "Each dot is a phone of a speaker, up to ten of each: the mean of its frames, placed by t-SNE, which keeps near "
    "what is near; distances between clusters, and directions, say nothing."
)
CAPTIONS = {
    8: "Phone embeddings in two dimensions, by class of the phone (left) and by gender of the speaker (right). "
    f"{SAMPLE}",
    9: f"Phone embeddings in two dimensions, by phone, one panel a class; other classes are gray. {SAMPLE} A phone's "
    "letter stands where its dots lie closest.",
}
COLUMNS = ("encoder", "layer", "dataset", "phone", "gender", "x", "y")
GENDERS = {"f": ("Female", "#D55E00"), "m": ("Male", "#0072B2"), "": ("Unknown", "#bbbbbb")}
OTHERS = "#dedede"
COLUMNS_OF_CLASSES = 3
PANEL_IN, OTHER_IN = 2.3, 0.35
PHONE_COLOURS = ("#CC6677", "#332288", "#DDCC77", "#117733", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499")
"""The muted scheme of Paul Tol: apart for the colour-blind."""
PHONE_MARKERS = "o^s"
NEIGHBOURS = 10  # of a dot, by which the densest place of a phone is found
INK_OF_DOTS = 5000.0  # square points that all dots together have
SMALLEST_DOT, LARGEST_DOT = 0.6, 6.0  # square points


class Embedding(Settings):
    """A phone and its place, one row of a table."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    encoder: str
    layer: int
    dataset: str
    phone: str
    gender: str = ""
    """``f``, ``m``, or empty where it is not known."""
    x: float
    y: float


def read_embeddings(path: Path) -> list[Embedding]:
    """The phones of a table.

    Raises:
        InputError: A malformed row, rows of two layers, or none.
    """
    found: list[Embedding] = []
    for line, row in read_csv(path, COLUMNS):
        where = f"{path}, line {line}"
        embedding = parse_settings(Embedding, {c: row[c] for c in COLUMNS}, where)
        if embedding.gender not in GENDERS:
            raise InputError(f"{where}: gender: found {embedding.gender!r}, expected f, m or nothing")
        if found and (embedding.encoder, embedding.layer) != (found[0].encoder, found[0].layer):
            raise InputError(
                f"{where}: found layer {embedding.layer} of {embedding.encoder}, "
                f"expected layer {found[0].layer} of {found[0].encoder} as in the rows before"
            )
        found.append(embedding)
    if not found:
        raise InputError(f"{path}: found no phone, expected some")
    return found


def draw_classes(embeddings: Sequence[Embedding], model: str) -> "Figure":
    """Figure 8: by class of the phone on the left, by gender of the speaker on the right."""
    from eval.style import new_figure

    figure, [panels] = new_figure(1, 2, 3.6)
    by_class = {name: [e for e in embeddings if phone_class(e.phone) == name] for name in CLASSES}
    by_gender = {gender: [e for e in embeddings if e.gender == gender] for gender in GENDERS}
    _draw_groups(panels[0], {name: (name, colour) for name, colour in CLASS_COLOURS.items()}, by_class)
    _draw_groups(panels[1], GENDERS, by_gender)
    panels[0].set_title("Phone class", loc="left")
    panels[1].set_title("Speaker gender", loc="left")
    _title(figure, embeddings, model)
    return figure


def draw_phones(embeddings: Sequence[Embedding], model: str) -> "Figure":
    """Figure 9: by phone, one panel a class."""
    from eval.style import new_figure

    classes = [name for name in CLASSES if any(phone_class(e.phone) == name for e in embeddings)]
    columns = min(COLUMNS_OF_CLASSES, len(classes))
    rows = -(-len(classes) // columns)
    figure, panels = new_figure(rows, columns, rows * PANEL_IN + OTHER_IN)
    everywhere = [axes for row in panels for axes in row]
    for axes, name in zip(everywhere, classes, strict=False):
        _draw_class(axes, name, embeddings)
    for axes in everywhere[len(classes) :]:
        axes.set_visible(False)
    _title(figure, embeddings, model)
    return figure


def _draw_class(axes: "Axes", name: str, embeddings: Sequence[Embedding]) -> None:
    """The phones of one class, the others gray behind them."""
    size = _dot_size(len(embeddings))
    by_phone: dict[str, list[Embedding]] = {}
    others: list[Embedding] = []
    for embedding in embeddings:
        is_own = phone_class(embedding.phone) == name
        (by_phone.setdefault(embedding.phone, []) if is_own else others).append(embedding)
    looks = _phone_looks(sorted(by_phone))
    _dots(axes, others, OTHERS, 0.7 * size)
    for phone, (colour, marker) in looks.items():
        _dots(axes, by_phone[phone], colour, 1.5 * size, marker)
    for phone, members in by_phone.items():
        _write_phone(axes, phone, members)
    axes.set_title(name, loc="left")
    _add_key(axes, {ipa(phone) or phone: look for phone, look in looks.items()}, ncols=8)


DRAWINGS = {8: draw_classes, 9: draw_phones}


def _draw_groups(axes: "Axes", looks: Mapping[str, tuple[str, str]], groups: Mapping[str, Sequence[Embedding]]) -> None:
    """Dots of several groups in random order, so that the last group hides no other.

    Args:
        looks: Name and colour of each group.
    """
    shown = [(embedding, looks[group][1]) for group, members in groups.items() for embedding in members]
    order = np.random.default_rng(0).permutation(len(shown)).tolist()
    _dots(axes, [shown[i][0] for i in order], [shown[i][1] for i in order], _dot_size(len(shown)))
    _add_key(axes, {looks[group][0]: (looks[group][1], "o") for group, members in groups.items() if members}, ncols=3)


def _dots(axes: "Axes", embeddings: Sequence[Embedding], colour: Any, size: float, marker: str = "o") -> None:
    # Thousands of dots as one picture: a PDF of paths would be slow to open.
    x, y = [e.x for e in embeddings], [e.y for e in embeddings]
    axes.scatter(x, y, s=size, c=colour, marker=marker, linewidths=0, rasterized=True)
    axes.set(xticks=[], yticks=[])
    axes.set_aspect("equal", adjustable="datalim")
    axes.grid(visible=False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def _add_key(axes: "Axes", looks: Mapping[str, tuple[str, str]], ncols: int) -> None:
    """What the dots of a panel are, under it."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="none", marker=marker, markersize=3.5, color=colour, label=name)
        for name, (colour, marker) in looks.items()
    ]
    shape: dict[str, Any] = {"handletextpad": 0.1, "columnspacing": 0.6, "handlelength": 1.0, "fontsize": 8}
    axes.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0.02), ncols=ncols, borderpad=0, **shape)


def _dot_size(total: int) -> float:
    return min(LARGEST_DOT, max(SMALLEST_DOT, INK_OF_DOTS / total))


def _phone_looks(phones: Sequence[str]) -> Mapping[str, tuple[str, str]]:
    """Colour and marker of each phone of a class; no two share both."""
    size = len(PHONE_COLOURS)
    return {phone: (PHONE_COLOURS[i % size], PHONE_MARKERS[i // size % 3]) for i, phone in enumerate(phones)}


def _densest(embeddings: Sequence[Embedding]) -> Any:
    """Where the dots of a phone lie closest: a median would lie between two clusters."""
    from scipy.spatial import KDTree

    places = np.array([(e.x, e.y) for e in embeddings])
    distances, _ = KDTree(places).query(places, k=[min(NEIGHBOURS, len(places))])
    return places[int(distances[:, 0].argmin())]


def _write_phone(axes: "Axes", phone: str, embeddings: Sequence[Embedding]) -> None:
    from matplotlib.patheffects import withStroke

    halo = [withStroke(linewidth=2, foreground="white")]
    x, y = _densest(embeddings)
    axes.text(x, y, ipa(phone) or phone, ha="center", va="center", zorder=5, path_effects=halo)


def _title(figure: "Figure", embeddings: Sequence[Embedding], model: str) -> None:
    first = embeddings[0]
    figure.suptitle(f"{model}, layer {first.layer}: {len(embeddings):,} phones of {first.dataset}", fontsize=9)


def main() -> None:
    """Entry point: a table of coordinates in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=int, required=True, choices=DRAWINGS, help="number of the figure")
    parser.add_argument("--embeddings", type=Path, required=True, help="CSV of eval.embeddings")
    parser.add_argument("--model", required=True, help="what to call the encoder")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    embeddings = read_embeddings(given.embeddings)
    from eval.style import save_figure

    save_figure(DRAWINGS[given.figure](embeddings, given.model), given.output)


if __name__ == "__main__":
    run(main)
