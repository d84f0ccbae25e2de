"""What oracles of encoders share: what they hear, and layers as plain functions of a file's tensors."""

import numpy as np
from torch import Tensor


def speech(num_samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(num_samples).normal(0.05, 0.1, (batch, num_samples)).astype(np.float32)


def norm(t: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * t[f"{name}.weight"] + t[f"{name}.bias"]


def linear(t: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]
