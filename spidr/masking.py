"""Which frames the student does not see (appendix A.2, after wav2vec 2.0).

python -m spidr.masking --settings config/spidr/base.yaml --seed 0 --output mask.csv
"""

import argparse
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

from artifacts.errors import run
from artifacts.files import write_csv
from artifacts.seeds import generator
from artifacts.settings import load_settings
from spidr.settings import MaskingSettings, Recipe

COLUMNS = ("row", "first_frame", "num_frames", "masked")
TYPICAL_SAMPLES = 216_000
"""Average length of LibriSpeech's utterances in a batch: 13.5 seconds (appendix A.2)."""


def sample_masked_frames(
    rng: np.random.Generator, num_rows: int, num_frames: int, settings: MaskingSettings
) -> np.ndarray:
    """Indices of the masked frames, ascending, int64 (num_rows, num_masked).

    Every row draws the same number of span starts without replacement: `start_probability` of its
    frames, rounded up or down at random, at least one. Spans overlap freely and end with the row;
    what they cover is 1 - 0.92^10 = 57% of the frames of a long row. Rows that cover more than the
    smallest give frames back, chosen at random, as in wav2vec 2.0: all rows mask the same number of
    frames, so the shapes of a step are known before it starts. This lowers the share: to 52% in a
    batch of 17 rows of 675 frames, the paper's average length.

    Appendix A.2 says that 43% of the frames are masked, in spans of 11.9 on average with a median of 8.
    That describes the frames that stay unmasked: 0.92^10 = 43% of a row alone, in spans of 12.1 on
    average with a median of 9.
    """
    num_starts = int(settings.start_probability * num_frames + rng.random())
    num_starts = min(max(num_starts, 1), num_frames)
    starts = rng.random((num_rows, num_frames)).argsort(axis=1)[:, :num_starts]
    covered = (starts[:, :, None] + np.arange(settings.span_length)).reshape(num_rows, -1)
    mask = np.zeros((num_rows, num_frames + settings.span_length), dtype=bool)
    np.put_along_axis(mask, covered, True, axis=1)
    mask = mask[:, :num_frames]

    num_masked = mask.sum(axis=1).min()
    order = np.where(mask, rng.random(mask.shape), 2.0)  # unmasked frames come last
    return np.sort(order.argsort(axis=1)[:, :num_masked], axis=1)


def mask_rows(recipe: Recipe, seed: int) -> Iterator[dict[str, int]]:
    """The mask of a batch as a training draws it, one stretch of masked or unmasked frames after the other.

    The batch is as full as the recipe lets it be with utterances of the average length of LibriSpeech's, or of the
    longest that the recipe takes.
    """
    num_samples = min(TYPICAL_SAMPLES, recipe.batches.max_samples)
    num_rows = recipe.batches.max_batch_samples // num_samples
    num_frames = recipe.model.num_frames(num_samples)
    masked = sample_masked_frames(generator(seed, "masks", 0), num_rows, num_frames, recipe.masking)
    for row, frames in enumerate(masked):
        is_masked = np.zeros(num_frames, dtype=bool)
        is_masked[frames] = True
        edges = [0, *(np.flatnonzero(np.diff(is_masked)) + 1).tolist(), num_frames]
        for first, end in pairwise(edges):
            yield {"row": row, "first_frame": first, "num_frames": end - first, "masked": int(is_masked[first])}


def main() -> None:
    """Entry point: a recipe in, the mask of a batch out."""
    parser = argparse.ArgumentParser(description="A mask that a recipe's training draws, as CSV.")
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument("--seed", type=int, default=0, help="seed of the training (default 0)")
    parser.add_argument("--output", type=Path, required=True, help=f"CSV: {','.join(COLUMNS)}")
    given = parser.parse_args()
    write_csv(given.output, COLUMNS, mask_rows(load_settings(Recipe, given.settings), given.seed))


if __name__ == "__main__":
    run(main)
