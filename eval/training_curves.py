"""Figure 2: perplexities of codebooks and predictions during training (section 4.2), from the logs of the trainings.

python -m eval.training_curves --log SpidR=results/demo/encoders/spidr/training/log.jsonl
    DinoSR=results/demo/encoders/dinosr/training/log.jsonl --output results/demo/figures/figure_02

A training that still runs can be looked at: what its log has so far is drawn.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field

from artifacts.errors import InputError, run
from artifacts.files import read_json, read_jsonl
from artifacts.settings import Settings, parse_settings
from eval.naming import named_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CAPTION = (
    "Perplexity of codebooks (top) and predictions (bottom) during training, by layer, on the validation corpus: taken "
    "over each batch, then averaged. It is 2 to the entropy over the V codewords: V where all are used equally, 1 "
    "where one is used alone. Predictions may start near V, as a head that has learned nothing gives all codewords "
    "about the same probability. A collapse looks like a curve that falls to the bottom and stays there: nearly all "
    "frames of that layer have the same few codewords as labels, which are easily predicted, so that a low loss then "
    "says little."
)
PANELS = {"codebook_perplexity": "Codebook perplexity", "prediction_perplexity": "Prediction perplexity"}
MOST_ABREAST = 3  # trainings beside each other; more stand below
MOST_IN_LEGEND = 12  # layers on one line
MOST_MARKED = 8  # points of a curve that are marked one by one
PANEL_IN, OTHER_IN = 1.5, 0.6  # height of a panel, and of everything outside the panels
BRIGHTEST = 0.85  # of the colour map: the yellow beyond is lost on a white page


class Validation(Settings):
    """A validation, as a line of the log has it; perplexities by layer."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)

    step: int
    """Steps trained for until then."""
    codebook_perplexity: dict[int, float] = Field(min_length=1)
    """Of the labels."""
    prediction_perplexity: dict[int, float] = Field(min_length=1)
    """Of the predictions at the masked frames."""


@dataclass(frozen=True, slots=True)
class Training:
    """The validations of a training, by rising step.

    Attributes:
        codebook_size: V, the number of codewords of each codebook.
    """

    name: str
    codebook_size: int
    validations: Sequence[Validation]

    def layers(self) -> set[int]:
        """The layers that have a codebook."""
        return {layer for validation in self.validations for layer in validation.codebook_perplexity}


def read_training(name: str, log: Path) -> Training:
    """A training from its `log.jsonl`, with the settings that lie beside it.

    Raises:
        InputError: A file is absent or malformed, or there is no validation yet.
    """
    lines = [(number, line) for number, line in read_jsonl(log, growing=True) if line.get("split") == "validation"]
    if not lines:
        raise InputError(f"{log}: found no validation, expected one at least: the training has come to none yet")
    validations = [parse_settings(Validation, line, f"{log}, line {number}") for number, line in lines]
    return Training(name, _codebook_size(log.with_name("settings.json")), validations)


def _codebook_size(path: Path) -> int:
    found: Any = read_json(path)
    for key in ("recipe", "model", "codebook_size"):
        found = found.get(key) if isinstance(found, dict) else None
    if type(found) is not int or found < 2:
        raise InputError(f"{path}: recipe.model.codebook_size: found {found!r}, expected a number of codewords")
    return found


def draw_training_curves(trainings: Sequence[Training]) -> "Figure":
    """One column a training, codebooks above predictions; one curve a layer, the last the darkest."""
    from eval.style import new_figure

    largest = max(training.codebook_size for training in trainings)
    colours = layer_colours({layer for training in trainings for layer in training.layers()})
    blocks = -(-len(trainings) // MOST_ABREAST)
    columns = -(-len(trainings) // blocks)
    height_in = 2 * blocks * PANEL_IN + OTHER_IN
    figure, rows = new_figure(2 * blocks, columns, height_in, sharex=True, sharey=True)
    for place in range(blocks * columns):
        block, column = divmod(place, columns)
        pair = [rows[2 * block][column], rows[2 * block + 1][column]]
        if place >= len(trainings):
            for axes in pair:
                axes.set_visible(False)
            continue
        for axes, (measure, label) in zip(pair, PANELS.items(), strict=True):
            _draw_panel(axes, trainings[place], measure, colours)
            if column == 0:
                axes.set_ylabel(label)
        pair[0].set_title(trainings[place].name, loc="left")
        pair[1].set_xlabel("Training steps")
        pair[1].tick_params(labelbottom=True)
    _set_scales(rows[0][0], largest)
    _add_legend(figure, colours)
    return figure


def layer_colours(layers: set[int]) -> dict[int, Any]:
    """Colours that darken from the first layer to the last, also for the colour-blind."""
    import matplotlib

    rising = sorted(layers)
    shades = [BRIGHTEST * (1 - i / max(len(rising) - 1, 1)) for i in range(len(rising))]
    return {layer: matplotlib.colormaps["plasma"](shade) for layer, shade in zip(rising, shades, strict=True)}


def _draw_panel(axes: "Axes", training: Training, measure: str, colours: dict[int, Any]) -> None:
    from eval.style import FAINT

    for layer in sorted(training.layers()):
        points = [(v.step, by_layer[layer]) for v in training.validations if layer in (by_layer := getattr(v, measure))]
        marks: dict[str, Any] = {"marker": "o", "markersize": 2.6} if len(points) <= MOST_MARKED else {}
        # Unclipped, so that a curve on the axis, at perplexity 1, is seen whole.
        axes.plot(*zip(*points, strict=True), color=colours[layer], linewidth=1.1, zorder=3, clip_on=False, **marks)
    size = training.codebook_size
    axes.axhline(size, color=FAINT, linestyle=(0, (1, 2)), linewidth=1.0, zorder=1.5)
    corner: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "xytext": (-1, 1.5), "ha": "right", "va": "bottom"}
    axes.annotate(f"$V$ = {size}", (1, size), textcoords="offset points", fontsize=8, color=FAINT, **corner)


def _set_scales(axes: "Axes", largest: int) -> None:
    """Steps from 0, and perplexities from 1 to the largest codebook's V, which all panels share."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, steps=[1, 2, 2.5, 5, 10], integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_ylim(1, 1 + 1.12 * (largest - 1))
    axes.set_yticks(list(dict.fromkeys([1, *(round(largest * quarter / 4) for quarter in range(1, 5))])))


def _add_legend(figure: "Figure", colours: dict[int, Any]) -> None:
    from matplotlib.lines import Line2D

    word = Line2D([], [], linestyle="none", label="Layer")
    handles = [Line2D([], [], color=colour, linewidth=2, label=str(layer)) for layer, colour in colours.items()]
    columns = 1 + min(len(handles), MOST_IN_LEGEND)
    shape: dict[str, Any] = {"ncols": columns, "handlelength": 1.1, "handletextpad": 0.4, "columnspacing": 1.1}
    figure.legend(handles=[word, *handles], loc="outside upper center", **shape)


def main() -> None:
    """Entry point: logs of trainings in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--log", nargs="+", required=True, metavar="NAME=PATH", help="log.jsonl of each training")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    trainings = [read_training(*named_path(text, "--log")) for text in given.log]
    from eval.style import save_figure

    save_figure(draw_training_curves(trainings), given.output)


if __name__ == "__main__":
    run(main)
