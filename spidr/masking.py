"""Which frames the student does not see (appendix A.2, after wav2vec 2.0)."""

import numpy as np

from spidr.settings import MaskingSettings


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
