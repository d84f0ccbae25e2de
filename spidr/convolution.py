"""Convolutions as products of frames with the kernel: the extractor's and, on a GPU, those of positions.

Layer norms and projections want the channels innermost in memory, where the library's convolutions
have the time: here nothing is transposed. Neither is anything prepared for a length that is seen for
the first time, as all are in extraction, for which oneDNN needs twenty times as long; and one compiled
graph of products serves all lengths.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

ALIGNED = 8
"""Numbers in bfloat16 that a GPU's matrix units read at once: rows of matrices are made of so many."""


def convolve(signal: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolution without padding.

    Args:
        signal: (batch, time, channels in).
        weight: (channels out, channels in, kernel).
        stride: In time steps, at most the kernel.

    Returns:
        (batch, shorter time, channels out).
    """
    signal, weight = _as_autocast(signal, weight)
    if signal.shape[-1] == 1:
        return _convolve_one(signal.squeeze(-1), weight.squeeze(1), stride, ALIGNED if signal.is_cuda else 1)
    convolved: Tensor = _Convolution.apply(signal, weight, stride)
    return convolved


def convolve_groups(frames: Tensor, weight: Tensor, groups: int) -> Tensor:
    """Convolution in groups of channels, the ends padded with zeros so that frames keep their number.

    What the library's kernels for few channels a group reach of a GPU's peak depends on its version and the
    layout. Here as many frames as the kernel is long, less one, are a row, and a row with the next is multiplied
    by the kernel written out at each of the row's places: half of that is zeros, but it is one product of large
    matrices a group, whose speed is known.

    Args:
        frames: (batch, time, channels).
        weight: (channels, channels / groups, kernel), the kernel odd.

    Returns:
        As `frames`.
    """
    frames, weight = _as_autocast(frames, weight)
    (batch, time, _), kernel = frames.shape, weight.shape[-1]
    stride = max(kernel - 1, 1)
    num_rows = time // stride + 1  # one too many where they fit, so that no length is a case of its own
    before = kernel // 2
    padded = functional.pad(frames, (0, 0, before, (num_rows + 1) * stride - time - before))
    rows = padded.view(batch, num_rows + 1, stride, groups, -1)
    windows = torch.cat((rows[:, :-1], rows[:, 1:]), dim=2)  # (batch, rows, 2 strides, groups, channels)
    matrices = windows.permute(3, 0, 1, 2, 4).reshape(groups, batch * num_rows, -1)
    products = torch.bmm(matrices, _bands(weight.view(groups, -1, *weight.shape[1:]), stride))
    convolved = products.reshape(groups, batch, num_rows * stride, -1).permute(1, 2, 0, 3)
    return convolved[:, :time].flatten(2)


def _as_autocast(signal: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Both in the precision that products will have anyway, before they are copied about."""
    if not torch.is_autocast_enabled(signal.device.type):
        return signal, weight
    precision = torch.get_autocast_dtype(signal.device.type)
    return signal.to(precision), weight.to(precision)


def _bands(weight: Tensor, stride: int) -> Tensor:
    """The kernel at each place of a row: (groups, out, in, kernel) to (groups, 2 strides * in, stride * out).

    Written one place after the other in rows one longer than they are read in, it moves on by one a row.
    """
    longer = functional.pad(weight, (0, 2 * stride + 1 - weight.shape[-1]))
    repeated = longer.unsqueeze(-2).expand(-1, -1, -1, stride, -1)
    bands = repeated.flatten(-2)[..., : 2 * stride**2].view(*weight.shape[:-1], stride, 2 * stride)
    return bands.permute(0, 4, 2, 3, 1).flatten(3).flatten(1, 2)


def _convolve_one(signal: Tensor, weight: Tensor, stride: int, aligned: int) -> Tensor:
    """Convolution of one channel, (batch, time) by (channels out, kernel); the kernel ends with taps of zero."""
    kernel = weight.shape[-1]
    beyond = -kernel % aligned
    windows = functional.pad(signal, (0, beyond)).unfold(-1, kernel + beyond, stride)  # (batch, frames, kernel), a view
    return windows @ functional.pad(weight, (0, beyond)).T


class _Convolution(torch.autograd.Function):
    """The signal is cut into strides, each one long row; the kernel into its taps, stride by stride.

    Row t of the output is the sum of the products of the first taps with row t of the signal, of the next
    with row t + 1, and so on. Products are made of whole matrices, the few rows too many cut away after
    them or filled with zeros before them: written out, so that no gradient of a slice is filled with
    zeros and added up, which takes a sixth of a step.
    """

    @staticmethod
    def forward(context: Any, signal: Tensor, weight: Tensor, stride: int) -> Tensor:
        """As `convolve`."""
        (batch, time, channels), (width, _, kernel) = signal.shape, weight.shape
        num_frames = (time - kernel) // stride + 1
        num_rows = num_frames + -(-kernel // stride) - 1
        missing = max(0, num_rows * stride - time)
        rows = functional.pad(signal, (0, 0, 0, missing))[:, : num_rows * stride].reshape(-1, stride * channels)
        context.save_for_backward(rows, weight)
        context.stride, context.time = stride, time
        output: Tensor | None = None
        for place, taps in enumerate(_taps(weight, stride)):
            products = (rows[:, : len(taps)] @ taps).reshape(batch, num_rows, width)
            part = products[:, place : place + num_frames]
            output = part if output is None else output + part
        assert output is not None
        return output

    @staticmethod
    @once_differentiable
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        """Gradients of the signal and of the weight."""
        rows, weight = context.saved_tensors
        (batch, num_frames, width), (_, channels, kernel) = gradient.shape, weight.shape
        num_rows = num_frames + -(-kernel // context.stride) - 1
        of_rows: Tensor | None = None
        of_taps = []
        for place, taps in enumerate(_taps(weight, context.stride)):
            part = functional.pad(gradient, (0, 0, place, num_rows - num_frames - place)).reshape(-1, width)
            of_taps.append((rows[:, : len(taps)].T @ part).reshape(-1, channels, width))
            if of_rows is None:
                of_rows = part @ taps.T
            else:
                of_rows[:, : len(taps)].addmm_(part, taps.T)
        assert of_rows is not None
        of_signal = of_rows.reshape(batch, -1, channels)
        beyond = context.time - of_signal.shape[1]  # samples that no kernel reached, or that were filled up
        return functional.pad(of_signal, (0, 0, 0, beyond)), torch.cat(of_taps).permute(2, 1, 0), None


def _taps(weight: Tensor, stride: int) -> list[Tensor]:
    """The kernel as matrices (taps * channels in, channels out), one for each stride that it reaches into."""
    return [part.permute(2, 1, 0).flatten(0, 1) for part in torch.split(weight, stride, dim=-1)]
