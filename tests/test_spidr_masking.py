"""Masks (appendix A.2), and the schedules of section 4.1."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spidr.masking import sample_masked_frames
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import ExponentialTeacher, LinearTeacher, MaskingSettings, OptimizerSettings

PAPER = MaskingSettings()


def test_spans_of_ten_from_eight_percent_of_the_frames_mask_57_percent() -> None:
    masked = sample_masked_frames(np.random.default_rng(0), 4, 20_000, PAPER)
    assert masked.shape[1] / 20_000 == pytest.approx(1 - 0.92**10, abs=0.01)


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
    steps = {0: 0.999, 15_000: 0.99945, 30_000: 0.9999, 199_999: 0.9999, 200_000: 1.0}
    assert {step: teacher_decay(step, teacher) for step in steps} == pytest.approx(steps, abs=1e-12)
    never_frozen = LinearTeacher(schedule="linear", freeze_step=None)
    assert teacher_decay(10**6, never_frozen) == pytest.approx(0.9999)
