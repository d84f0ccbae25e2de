"""Figure 6: which frames of a batch are masked (appendix A.2), from the table of a mask.

python -m eval.masking --mask mask.csv --output results/demo/figures/figure_06

`python -m spidr.masking` makes such a table of a recipe.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from artifacts.errors import InputError, run
from artifacts.files import read_csv
from artifacts.settings import Settings, parse_settings

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTION = (
    "The mask of one batch as pretraining draws it: masked frames in black, the others in gray, one row an utterance. "
    "Above it: the share of the frames that is masked, and the lengths of the stretches of masked frames. Every row "
    "has the same number of masked frames, so the share is a little below what overlapping spans cover by themselves, "
    "1 \N{MINUS SIGN} 0.92\N{SUPERSCRIPT ONE}\N{SUPERSCRIPT ZERO} = 57% with the paper's settings."
)
COLUMNS = ("row", "first_frame", "num_frames", "masked")
MASKED, UNMASKED = "#111111", "#c4c4c4"
ROW_IN, GAP, OTHER_IN = 0.11, 0.25, 0.75  # height of a row; share of it that is left white; height of what is around


class Stretch(Settings):
    """Frames of a row that follow one another and are all masked, or all not."""

    row: int = Field(ge=0)
    first_frame: int = Field(ge=0)
    num_frames: int = Field(ge=1)
    masked: bool


@dataclass(frozen=True, slots=True)
class Mask:
    """The mask of a batch.

    Attributes:
        masked: Whether a frame is masked, (rows, frames).
        span_lengths: Frames of every stretch of masked frames.
    """

    masked: npt.NDArray[np.bool_]
    span_lengths: npt.NDArray[np.int64]

    @property
    def summary(self) -> str:
        """Share and spans in one line."""
        rows, frames = self.masked.shape
        lengths = self.span_lengths
        spans = (
            f"; masked stretches of {lengths.mean():.1f} frames on average (median {np.median(lengths):g}, "
            f"longest {lengths.max()})"
            if len(lengths)
            else ""
        )
        return f"{self.masked.mean():.1%} of {rows} \N{MULTIPLICATION SIGN} {frames} frames are masked{spans}"


def read_mask(path: Path) -> Mask:
    """The mask of a batch.

    Raises:
        InputError: A malformed row, a gap or an overlap, or rows of different lengths.
    """
    rows: list[list[bool]] = []
    lengths: list[int] = []
    for line, found in read_csv(path, COLUMNS):
        where = f"{path}, line {line}"
        stretch = parse_settings(Stretch, {column: found[column] for column in COLUMNS}, where)
        if stretch.row == len(rows):
            rows.append([])
        if stretch.row != len(rows) - 1 or stretch.first_frame != len(rows[-1]):
            raise InputError(
                f"{where}: found frame {stretch.first_frame} of row {stretch.row}, expected frame "
                f"{len(rows[-1]) if rows else 0} of row {max(len(rows) - 1, 0)}, or the next row's first"
            )
        rows[-1] += [stretch.masked] * stretch.num_frames
        if stretch.masked:
            lengths.append(stretch.num_frames)
    if not rows:
        raise InputError(f"{path}: found no row, expected some")
    if len({len(row) for row in rows}) > 1:
        found_lengths = sorted({len(row) for row in rows})
        raise InputError(f"{path}: found rows of {found_lengths[0]} to {found_lengths[-1]} frames, expected one length")
    return Mask(np.array(rows), np.array(lengths, dtype=np.int64))


def draw_mask(mask: Mask) -> "Figure":
    """One strip an utterance."""
    from eval.style import new_figure

    num_rows, num_frames = mask.masked.shape
    figure, [[axes]] = new_figure(1, 1, num_rows * ROW_IN + OTHER_IN)
    for row, masked in enumerate(mask.masked):
        strip: dict[str, Any] = {"height": 1 - GAP, "linewidth": 0}
        axes.barh(row, num_frames, left=0, color=UNMASKED, **strip)
        edges = np.flatnonzero(np.diff(masked, prepend=False, append=False))
        starts, ends = edges[::2], edges[1::2]
        axes.barh([row] * len(starts), ends - starts, left=starts, color=MASKED, **strip)
    axes.set(xlim=(0, num_frames), ylim=(num_rows - 0.4, -0.6), yticks=[], xlabel="Frame", ylabel="Utterance")
    axes.set_title(mask.summary, loc="left", fontsize=8.5)
    axes.grid(visible=False)
    axes.spines["left"].set_visible(False)
    return figure


def main() -> None:
    """Entry point: the table of a mask in, one figure out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mask", type=Path, required=True, help=f"CSV: {','.join(COLUMNS)}")
    parser.add_argument("--output", type=Path, required=True, help="figure without extension")
    given = parser.parse_args()
    mask = read_mask(given.mask)
    from eval.style import save_figure

    save_figure(draw_mask(mask), given.output)


if __name__ == "__main__":
    run(main)
