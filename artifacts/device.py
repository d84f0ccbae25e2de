"""Which device the numbers are made on: a choice that is always printed, never quietly changed."""

import subprocess
import sys
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Literal

from artifacts.errors import InputError

if TYPE_CHECKING:
    import torch

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]
"""What forward passes of encoders compute in."""
PATIENCE_S = 20
"""How long a driver may take to answer."""


def has_gpu() -> bool:
    """Whether this machine has a GPU, as far as its driver tells: without torch, which takes seconds to load."""
    try:
        said = subprocess.run(["nvidia-smi", "--list-gpus"], capture_output=True, text=True, timeout=PATIENCE_S)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return said.returncode == 0 and bool(said.stdout.strip())


def uses_gpu(name: DeviceName) -> bool:
    """Whether `name` stands for a GPU here."""
    import torch

    return name != "cpu" and torch.cuda.is_available()


def choose_device(name: DeviceName) -> "torch.device":
    """The torch device for `name`; ``auto`` takes a GPU where there is one and prints what it took.

    Raises:
        InputError: ``cuda`` was asked for and there is none.
    """
    import torch

    if name == "cuda" and not uses_gpu(name):
        raise InputError("device: found cuda, but torch sees no GPU; expected a GPU, or device: cpu")
    device = torch.device("cuda" if uses_gpu(name) else "cpu")
    what = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    print(f"device: {what}", file=sys.stderr)
    return device


def computing_in(precision: Precision, name: DeviceName) -> AbstractContextManager[object]:
    """A block whose matrix products and convolutions compute in `precision`; what wants float32 keeps it."""
    if precision == "float32":
        return nullcontext()
    import torch

    return torch.autocast("cuda" if uses_gpu(name) else "cpu", torch.bfloat16)
