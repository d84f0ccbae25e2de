"""The count of operations that benchmarks are read by, against torch's own counter."""

import pytest
import torch
from test_spidr_model import SMALL
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.flops import step_flops, step_parts
from benchmarks.pretraining import known_peak
from spidr.learner import build_learner
from spidr.settings import ModelSettings


@pytest.mark.parametrize("predict_from", ["same_layer", "last_layer"])
def test_a_step_has_as_many_operations_as_torch_counts(predict_from: str) -> None:
    # torch counts the backward pass of convolutions in groups as if they had one group.
    model = SMALL.model_copy(update={"predict_from": predict_from, "codebook_frames": "masked", "position_groups": 1})
    learner = build_learner(model, 0).train()
    waveforms = torch.randn(2, 12_800)
    num_frames = model.num_frames(12_800)
    masked = torch.arange(0, num_frames, 2).expand(2, -1)
    with FlopCounterMode(display=False) as counter:
        learner(waveforms, masked).loss.backward()
    expected = step_flops(model, 2, 12_800, masked.shape[1] / num_frames)
    assert expected == pytest.approx(counter.get_total_flops(), rel=1e-6)


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA A100-SXM4-80GB", 312e12),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA A100-PCIE-40GB", None),
        ("NVIDIA H200 NVL", None),
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),
        ("NVIDIA GeForce RTX 4090", None),
    ],
)
def test_the_peak_of_an_sxm_module_is_no_other_card_s(card: str, expected: float | None) -> None:
    found = known_peak(card, "bfloat16")
    assert (found and found[0]) == expected
    assert known_peak(card, "float32") is None


def test_a_step_of_the_paper_is_about_13_tflop() -> None:
    parts = step_parts(ModelSettings(), 17, 216_000)
    assert sum(part.flops for part in parts.values()) == pytest.approx(13e12, rel=0.05)
