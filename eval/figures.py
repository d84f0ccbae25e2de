"""Figures 7, 11, 12, 13 and 14 of the paper from an experiment's scores: PDF and PNG.

python -m eval.figures --figure 7 11 --scores results/demo/scores.csv --output results/demo/figures
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError, run
from eval.results import Result, read_results, require

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANGUAGE_METRICS = ("swuggy_all", "sblimp", "tsc")
LAYERS = "Bands and bars are 95% confidence intervals; levels are references without layers. "
DOTS = (
    "A dot is a language model, labelled by the layer its units are from. Above a panel: Pearson's r with its 95% "
    "confidence interval, over all dots (black) and over the layers of each series with at least three. Layers of one "
    "model are not independent, so the intervals are rather too narrow. "
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a figure shows: curves by layer, or, where there are proxies, dots of `metrics` against them."""

    metrics: tuple[str, ...]
    caption: str
    proxies: tuple[str, ...] = ()


FIGURES = {
    7: Drawing(
        ("abx_continuous", "map_words"),
        "ABX and MAP (in %) of the continuous features by layer. ABX is averaged over datasets and speaker conditions, "
        f"MAP over datasets. {LAYERS}Chance is 50% for ABX; for MAP it is near 0.",
    ),
    11: Drawing(
        ("abx_units", "pnmi"),
        "ABX (in %) and PNMI of the discrete units by layer. ABX is averaged over datasets and speaker conditions. "
        f"{LAYERS}Chance is 50% for ABX; PNMI is 0 for units that know nothing of the phones.",
    ),
    12: Drawing(
        LANGUAGE_METRICS,
        "Zero-shot spoken language modeling (accuracy in %) by the layer the units are from. "
        f"{LAYERS}Chance is 50% for all three.",
    ),
    13: Drawing(
        LANGUAGE_METRICS,
        "Spoken language modeling against discriminability of the continuous representations. ABX of codebook units is "
        f"that of the codebook predictions (symmetrised KL). {DOTS}Chance is 50% for ABX, sWUGGY, sBLIMP and tSC.",
        proxies=("abx_continuous", "map_words"),
    ),
    14: Drawing(
        LANGUAGE_METRICS,
        f"Spoken language modeling against phonetic evaluation of the discrete units. {DOTS}Chance is 50% for ABX, "
        "sWUGGY, sBLIMP and tSC.",
        proxies=("abx_units", "pnmi"),
    ),
}


def draw(number: int, results: Sequence[Result]) -> "Figure":
    """The figure of that number.

    A panel without scores says so.

    Raises:
        InputError: There is no score for any panel.
    """
    from eval.correlations import draw_correlations
    from eval.layer_curves import draw_layer_curves

    drawing = FIGURES[number]
    require(results, drawing.metrics, f"figure {number}")
    if drawing.proxies:
        return draw_correlations(results, drawing.proxies, drawing.metrics)
    return draw_layer_curves(results, drawing.metrics)


def main() -> None:
    """Entry point: scores in, figures out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=int, nargs="+", required=True, choices=FIGURES, help="numbers of the figures")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.csv; several are drawn together")
    parser.add_argument("--output", type=Path, required=True, help="folder of the figures")
    arguments = parser.parse_args()
    results = read_results(arguments.scores)
    if not results:
        raise InputError(f"{arguments.scores[0]}: no scores, expected some")
    from eval.style import save_figure

    for number in arguments.figure:
        save_figure(draw(number, results), arguments.output / f"figure_{number:02d}")


if __name__ == "__main__":
    run(main)
