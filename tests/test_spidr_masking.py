"""Masks (appendix A.2), and the schedules of section 4.1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spidr.masking import sample_masked_frames
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import ExponentialTeacher, LinearTeacher, MaskingSettings, OptimizerSettings

PAPER = MaskingSettings()


def mean_share(num_rows: int, num_frames: int = 675) -> float:
    draws = [sample_masked_frames(np.random.default_rng(seed), num_rows, num_frames, PAPER) for seed in range(100)]
    return float(np.mean([masked.shape[1] / num_frames for masked in draws]))


def test_spans_of_ten_from_eight_percent_of_the_frames_mask_57_percent_of_a_row_alone() -> None:
    assert mean_share(1) == pytest.approx(1 - 0.92**10, abs=0.01)


def test_evening_out_the_rows_of_a_batch_lowers_the_share_to_52_percent() -> None:
    assert mean_share(17) == pytest.approx(0.52, abs=0.01)
    assert mean_share(17) < mean_share(4) < mean_share(1)


def test_what_the_paper_says_of_masked_spans_is_true_of_the_unmasked() -> None:
    (masked,) = sample_masked_frames(np.random.default_rng(0), 1, 100_000, PAPER)
    gaps = np.diff(masked) - 1
    spans = gaps[gaps > 0]
    assert spans.sum() / 100_000 == pytest.approx(0.43, abs=0.01)
    assert spans.mean() == pytest.approx(11.9, abs=1)
    assert np.median(spans) == pytest.approx(8, abs=1)


@given(st.integers(1, 20), st.integers(1, 300), st.integers(0, 1000))
def test_every_row_masks_the_same_number_of_frames_each_once(rows: int, num_frames: int, seed: int) -> None:
    masked = sample_masked_frames(np.random.default_rng(seed), rows, num_frames, PAPER)
    assert masked.shape[0] == rows
    assert masked.shape[1] >= 1
    assert (np.diff(masked, axis=1) > 0).all()
    assert masked.min() >= 0
    assert masked.max() < num_frames


def test_a_row_alone_is_masked_in_whole_spans() -> None:
    (masked,) = sample_masked_frames(np.random.default_rng(3), 1, 500, PAPER)
    spans = np.split(masked, np.flatnonzero(np.diff(masked) > 1) + 1)
    assert all(len(span) >= 10 for span in spans[:-1])  # the last may end with the row
    assert max(len(span) for span in spans) > 10  # spans overlap


def test_masks_follow_from_the_generator() -> None:
    first, again, other = (sample_masked_frames(np.random.default_rng(seed), 3, 200, PAPER) for seed in (0, 0, 1))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_learning_rate_has_three_stages() -> None:
    paper = OptimizerSettings()
    steps = {0: 5e-6, 6000: 2.525e-4, 12_000: 5e-4, 200_000: 5e-4, 300_000: 5e-5, 400_000: 5e-6, 500_000: 5e-6}
    assert {step: learning_rate(step, paper) for step in steps} == pytest.approx(steps)


def test_spidrs_teacher_approaches_a_decay_of_one() -> None:
    paper = ExponentialTeacher()
    steps = {0: 0.999, 10_000: 1 - 0.001 / np.e, 20_000: 1 - 0.001 / np.e**2, 10**7: 1.0}
    assert {step: teacher_decay(step, paper) for step in steps} == pytest.approx(steps, abs=1e-12)


def test_dinosrs_teacher_rises_stays_and_freezes() -> None:
    teacher = LinearTeacher(schedule="linear")
    steps = {0: 0.999, 15_000: 0.99945, 30_000: 0.9999, 199_999: 0.9999}
    assert {step: teacher_decay(step, teacher) for step in steps} == pytest.approx(steps, abs=1e-12)
    assert teacher_decay(200_000, teacher) is None
    never_frozen = LinearTeacher(schedule="linear", freeze_step=None)
    assert teacher_decay(10**6, never_frozen) == pytest.approx(0.9999)
