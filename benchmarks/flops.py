"""The floor of a pretraining step: floating-point operations and bytes that cannot be avoided.

``python -m benchmarks.flops`` prints the table in docs/pretraining.md.
"""

import argparse
from typing import NamedTuple

import torch

from artifacts.settings import load_settings
from spidr.learner import SpidR
from spidr.settings import ModelSettings, Recipe

MASKED = 0.52
"""Share of the frames that are masked in a batch of the paper's size (`spidr.masking`)."""


class Part(NamedTuple):
    """Operations of one part of the model for one batch."""

    forward: float
    """FLOP of one forward pass; a multiplication and an addition are two."""
    passes: float
    """Forward passes that a step is worth: 3 where it is learnt (backward costs twice forward), 1 where not."""

    @property
    def flops(self) -> float:
        """FLOP of a step."""
        return self.forward * self.passes


def step_parts(model: ModelSettings, num_rows: int, num_samples: int, masked: float = MASKED) -> dict[str, Part]:
    """FLOP of one step with one batch of `num_rows` waveforms of `num_samples`: products only, as is usual.

    Args:
        masked: Share of the frames that are masked.
    """
    frames_per_row = model.num_frames(num_samples)
    frames = num_rows * frames_per_row
    dim, layers, sizes = model.hidden_size, model.num_layers, model.num_codebooks * model.codebook_size
    seen = (frames_per_row - 1) * model.hop + model.receptive_field  # samples that some frame sees
    extractor, channels, length = 0.0, 1, seen
    first = 0.0
    for conv in model.extractor:
        length = (length - conv.kernel) // conv.stride + 1
        products = 2.0 * num_rows * length * channels * conv.kernel * conv.channels
        first, extractor, channels = first or products, extractor + products, conv.channels
    kernel = model.position_kernel // model.position_layers
    positions = 2.0 * frames * model.position_layers * dim * (dim // model.position_groups) * kernel
    linear = 2.0 * frames * layers * (4 * dim * dim + 2 * dim * model.ffn_size)
    attention = 2.0 * num_rows * layers * 2 * frames_per_row**2 * dim
    clustered = frames if model.codebook_frames == "all" else masked * frames
    return {
        "extractor": Part(extractor, 3 - first / extractor),  # a waveform needs no gradient
        "projection": Part(2.0 * frames * channels * dim, 3),
        "student: positional convolutions": Part(positions, 3),
        "student: linear layers": Part(linear, 3),
        "student: attention": Part(attention, 3),
        "teacher": Part(positions + linear + attention, 1),
        "heads": Part(2.0 * masked * frames * sizes * dim, 3),
        "codebooks: nearest codeword, sums": Part(2.0 * clustered * sizes * dim, 2),
    }


def step_flops(model: ModelSettings, num_rows: int, num_samples: int, masked: float = MASKED) -> float:
    """FLOP of one step with one batch."""
    return sum(part.flops for part in step_parts(model, num_rows, num_samples, masked).values())


def weight_bytes(model: ModelSettings) -> dict[str, float]:
    """Bytes that a step moves for the weights alone, all float32, whatever the batch."""
    with torch.device("meta"):
        learner = SpidR(model)
    learnt = sum(weights.numel() for weights in learner.parameters() if weights.requires_grad)
    taught = sum(weights.numel() for weights in learner.teacher.parameters())
    return {
        "gradient: norm, scaling": 4.0 * learnt * 3,  # read, read, write
        "AdamW": 4.0 * learnt * 7,  # reads weight, gradient and two moments, writes all but the gradient
        "teacher": 4.0 * taught * 3,  # reads both, writes one
    }


def main() -> None:
    """Print the floor of a recipe's step, for one batch."""
    parser = argparse.ArgumentParser(description="Operations and bytes of one pretraining step with one batch.")
    parser.add_argument("--settings", default="config/spidr/base.yaml", help="recipe")
    parser.add_argument("--samples", type=int, default=216_000, help="samples of an utterance (13.5 s in the paper)")
    arguments = parser.parse_args()
    recipe = load_settings(Recipe, arguments.settings)
    num_rows = recipe.batches.max_batch_samples // arguments.samples
    parts = step_parts(recipe.model, num_rows, arguments.samples)
    total = sum(part.flops for part in parts.values())
    print(f"{num_rows} utterances of {arguments.samples:,} samples, {MASKED:.0%} of the frames masked\n")
    print("| part | TFLOP of a step | share |\n|---|---|---|")
    for name, part in parts.items():
        print(f"| {name} | {part.flops / 1e12:.3f} | {part.flops / total:.1%} |")
    print(f"| all | {total / 1e12:.2f} | |\n")
    print("| weights | GB of a step |\n|---|---|")
    for name, num_bytes in weight_bytes(recipe.model).items():
        print(f"| {name} | {num_bytes / 1e9:.2f} |")


if __name__ == "__main__":
    main()
