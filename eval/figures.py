"""Figures 3, 7, 11, 12, 13 and 14 of the paper from scores: PDF and PNG.

python -m eval.figures --figure 7 11 --scores results/demo/scores.csv --output results/demo/figures
    --select '{"figure_11": {"num_units": [256]}}'

Scores from elsewhere, further files after the first, are drawn beside the others, or alone. The other figures are
drawn from other files, each by a module of its own; what all of them show is told here.
"""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.errors import InputError, run
from eval.embedding_plots import CAPTIONS as EMBEDDING_CAPTIONS
from eval.hardware import CAPTION as HARDWARE_CAPTION
from eval.masking import CAPTION as MASKING_CAPTION
from eval.phone_given_unit import CAPTION as PHONE_GIVEN_UNIT_CAPTION
from eval.results import Result, read_results, require
from eval.schedules import CAPTION as SCHEDULES_CAPTION
from eval.selection import Selection, parse_selections, select
from eval.training_curves import CAPTION as TRAINING_CAPTION

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LANGUAGE_METRICS = ("swuggy_all", "sblimp", "tsc")
LAYERS = "Bands and bars are 95% confidence intervals; levels are references without layers. "
DOTS = (
    "A dot is a language model, labelled by the layer its units are from. Above a panel: Pearson's r with its 95% "
    "confidence interval, over all dots of a source (black) and over the layers of each series with at least three. "
    "Layers of one model are not independent, so the intervals are rather too narrow; of dots scored on different "
    "speech r says little. "
)


@dataclass(frozen=True, slots=True)
class Drawing:
    """What a figure shows: curves by layer or by hours, or, where there are proxies, dots of `metrics` against them."""

    metrics: tuple[str, ...]
    caption: str
    proxies: tuple[str, ...] = ()
    by_hours: bool = False


FIGURES = {
    3: Drawing(
        LANGUAGE_METRICS,
        "Zero-shot spoken language modeling (accuracy in %) by the hours of speech that the language model is trained "
        "on (the axis is logarithmic). Bands and bars are 95% confidence intervals; a curve is the mean over seeds, "
        "dashes are seeds where there are several. Text and Phones are toplines. Chance is 50% for all three.",
        by_hours=True,
    ),
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
"""Those drawn from scores."""

CAPTIONS = dict(
    sorted(
        {
            **{number: drawing.caption for number, drawing in FIGURES.items()},
            **{2: TRAINING_CAPTION, 4: HARDWARE_CAPTION, 5: SCHEDULES_CAPTION, 6: MASKING_CAPTION},
            **{**EMBEDDING_CAPTIONS, 10: PHONE_GIVEN_UNIT_CAPTION},
        }.items()
    )
)
"""What each figure shows."""


def draw(number: int, results: Sequence[Result], wanted: Selection | None = None) -> "Figure":
    """The figure of that number.

    A panel without scores says so.

    Args:
        results: All scores of the experiment: a model has its colour from them, whatever a figure shows.
        wanted: Which of them are drawn, by the values of their fields; by default all.

    Raises:
        InputError: There is no score for any panel.
    """
    from eval.correlations import draw_correlations
    from eval.layer_curves import draw_layer_curves
    from eval.scaling import draw_scaling
    from eval.style import model_colours

    drawing = FIGURES[number]
    shown = select(results, wanted or {})
    require(shown, drawing.metrics, f"figure {number}")
    colours = model_colours(results)
    if drawing.proxies:
        return draw_correlations(shown, drawing.proxies, drawing.metrics, colours)
    if drawing.by_hours:
        return draw_scaling(shown, drawing.metrics, colours)
    return draw_layer_curves(shown, drawing.metrics, colours)


def main() -> None:
    """Entry point: scores in, figures out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--figure", type=int, nargs="+", required=True, choices=FIGURES, help="numbers of the figures")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.csv; several are drawn together")
    parser.add_argument("--select", default="{}", help="JSON: figure_07 and its like -> field of a score -> values")
    parser.add_argument("--output", type=Path, required=True, help="folder of the figures")
    arguments = parser.parse_args()
    selections = parse_selections(arguments.select)
    results = read_results(arguments.scores)
    if not results:
        raise InputError(f"{arguments.scores[0]}: no scores, expected some")
    from eval.style import save_figure

    for number in arguments.figure:
        name = f"figure_{number:02d}"
        save_figure(draw(number, results, selections.get(name)), arguments.output / name)


if __name__ == "__main__":
    run(main)
