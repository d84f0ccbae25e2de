"""What Spin learns from: targets by Sinkhorn's algorithm, and the loss of each view with the other's."""

import numpy as np
import pytest
import torch

from artifacts.workers import Workers
from units.spin.objective import sinkhorn, swapped_prediction
from units.spin.settings import ModelSettings


def cosines(frames: int, codes: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(frames, 8)), rng.normal(size=(codes, 8))
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return a @ b.T


def oracle_sinkhorn(scores: np.ndarray, epsilon: float = 0.02, iterations: int = 3) -> np.ndarray:
    """Algorithm 1 of Caron et al. (2020), step by step, with codes as rows."""
    q = np.exp(scores / epsilon).T
    q /= q.sum()
    codes, frames = q.shape
    for _ in range(iterations):
        for code in range(codes):
            q[code] *= (1 / codes) / q[code].sum()
        for frame in range(frames):
            q[:, frame] *= (1 / frames) / q[:, frame].sum()
    return (q * frames).T


def test_targets_are_those_of_sinkhorns_algorithm() -> None:
    scores = cosines(50, 6)
    found = sinkhorn(torch.from_numpy(scores).float(), ModelSettings()).numpy()
    np.testing.assert_allclose(found, oracle_sinkhorn(scores), atol=1e-5)
    np.testing.assert_allclose(found.sum(1), 1, atol=1e-6)


def test_in_the_end_all_codes_have_the_same_share() -> None:
    scores = torch.from_numpy(cosines(300, 6))
    for epsilon in (0.05, 0.5):
        q = sinkhorn(scores, ModelSettings(epsilon=epsilon, iterations=500))
        np.testing.assert_allclose(q.sum(0), 50, rtol=1e-3)
        np.testing.assert_allclose(q.sum(1), 1, rtol=1e-6)


class Mirror(Workers):
    """Two workers with the same frames: every sum is twice this one's."""

    def add_up(self, tensor: torch.Tensor) -> None:
        tensor.mul_(2)


def test_the_targets_of_all_workers_are_made_together() -> None:
    scores = torch.from_numpy(cosines(40, 5))
    alone = sinkhorn(torch.cat([scores, scores]), ModelSettings())
    torch.testing.assert_close(sinkhorn(scores, ModelSettings(), Mirror(0, 2)), alone[:40])


def test_the_loss_is_the_cross_entropy_of_each_view_with_the_others_targets() -> None:
    first, second = cosines(30, 5), cosines(30, 5, seed=1)
    q = oracle_sinkhorn(first), oracle_sinkhorn(second)
    p = [np.exp(view / 0.1) / np.exp(view / 0.1).sum(1, keepdims=True) for view in (first, second)]
    loss = 0.0
    for frame in range(30):
        for code in range(5):
            loss -= 0.5 * (
                q[0][frame, code] * np.log(p[1][frame, code]) + q[1][frame, code] * np.log(p[0][frame, code])
            )
    agreed = (p[0].argmax(1) == q[1].argmax(1)).sum() + (p[1].argmax(1) == q[0].argmax(1)).sum()
    usage = np.bincount(np.concatenate([x.argmax(1) for x in p]), minlength=5) / 60
    tally = swapped_prediction(torch.from_numpy(first), torch.from_numpy(second), ModelSettings())
    assert tally.loss.item() == pytest.approx(loss, rel=1e-6)
    figures = tally.figures()
    assert figures["loss"] == pytest.approx(loss / 30, rel=1e-6)
    assert figures["agreement"] == pytest.approx(agreed / 60)
    assert figures["code_perplexity"] == pytest.approx(np.exp(-sum(u * np.log(u) for u in usage if u)))
    mean = (p[0] + p[1]).mean(0) / 2
    assert figures["prediction_perplexity"] == pytest.approx(np.exp(-(mean * np.log(mean)).sum()))


def test_targets_have_no_gradient() -> None:
    first = torch.from_numpy(cosines(30, 5)).requires_grad_()
    second = torch.from_numpy(cosines(30, 5, seed=1))
    swapped_prediction(first, second, ModelSettings()).loss.backward()
    assert first.grad is not None
    targets = torch.from_numpy(oracle_sinkhorn(second.numpy()))
    expected = ((first.detach() / 0.1).softmax(1) - targets) / 0.1 / 2  # that of the cross-entropy alone
    torch.testing.assert_close(first.grad, expected, atol=1e-6, rtol=1e-6)
