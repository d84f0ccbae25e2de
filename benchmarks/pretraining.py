"""Our pretraining step beside that of the authors' package, on the same batches in one run.

``make peer`` makes the package's environment, then ``.venv/bin/python -m benchmarks.pretraining``. Each side runs in
turn, several rounds of it; the first steps of each are not counted. On a GPU time is its own, from the end of the last
of these steps to that of the last of all, and no step is waited for; on a CPU it is the process's, so that other work
on the machine counts little. What is compared is the step alone: how fast audio is read is measured apart.
"""

import argparse
import os
import platform
import sys
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from artifacts.device import choose_device
from artifacts.provenance import git_commit
from benchmarks.flops import step_flops
from benchmarks.sides import Answer, Request, ask, our_request, peer_request
from corpora.manifest import Utterance
from spidr.batches import Batches
from spidr.masking import sample_masked_frames
from spidr.settings import SAMPLE_RATE_HZ, Recipe

SMALL = {
    "extractor": [[128, 10, 5], *[[128, 3, 2]] * 4, *[[128, 2, 2]] * 2],
    "hidden_size": 256,
    "num_layers": 6,
    "num_heads": 4,
    "ffn_size": 1024,
    "num_codebooks": 4,
}
UTTERANCE_S = {"base": (10, 16), "small": (3, 5)}
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""bfloat16 products per second without sparsity, from the data sheets of NVIDIA's SXM modules."""
LESSER = ("PCIE", "NVL", "MIG")
"""What the names of slower cards of the same kind, or of slices of one, have in them."""


class Side(NamedTuple):
    """One row of the table."""

    name: str
    command: list[str]
    request: Request


def make_batches(
    recipe: Recipe, count: int, seconds: float, utterance_s: tuple[int, int]
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`count` batches of noise with their masked frames, each of `seconds` of audio at most, of lengths that differ."""
    rng, batches = np.random.default_rng(0), []
    for _ in range(count):
        num_samples = int(rng.uniform(*utterance_s) * SAMPLE_RATE_HZ)
        num_rows = max(1, int(seconds * SAMPLE_RATE_HZ) // num_samples)
        waveforms = torch.from_numpy(rng.standard_normal((num_rows, num_samples), dtype=np.float32))
        masked = sample_masked_frames(rng, num_rows, recipe.model.num_frames(num_samples), recipe.masking)
        batches.append((waveforms, torch.from_numpy(masked)))
    return batches


def known_peak(card: str, precision: str) -> tuple[float, str] | None:
    """Products a second of a card by its name, and how this is known; None for one that `PEAK_FLOPS` is not about."""
    if precision != "bfloat16" or any(mark in card.upper() for mark in LESSER):
        return None
    return next(((peak, f"the data sheet of {known}") for known, peak in PEAK_FLOPS.items() if known in card), None)


def peak_flops(device: torch.device, precision: str) -> tuple[float, str]:
    """Products a second that the device can do, and how this is known."""
    if device.type == "cuda" and (known := known_peak(torch.cuda.get_device_name(), precision)):
        return known
    size = 8192 if device.type == "cuda" else 2048
    matrix, times = torch.randn(size, size, device=device, dtype=getattr(torch, precision)), []
    for _ in range(8):
        started = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times), f"the fastest of 8 products of two {size} x {size} matrices here"


def reading_speed(recipe: Recipe) -> float:
    """Seconds of audio that one thread decodes, crops and masks in a second, from FLAC files of 13 s of noise."""
    with tempfile.TemporaryDirectory() as folder:
        rng, utterances = np.random.default_rng(0), []
        for index in range(8):
            path, num_samples = Path(folder, f"{index}.flac"), 200_000 + 3000 * index
            soundfile.write(path, (rng.standard_normal(num_samples) * 0.05).clip(-1, 1), SAMPLE_RATE_HZ)
            utterances.append(Utterance(str(index), path, num_samples, "s"))
        batches = Batches(utterances, recipe, 0)
        started = time.process_time()
        num_samples = sum(batches[number].waveforms.numel() for number in range(10))
        return num_samples / SAMPLE_RATE_HZ / (time.process_time() - started)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pretraining steps beside those of the package spidr.")
    parser.add_argument("--size", choices=("small", "base"), help="base (table 5) on a GPU, small on a CPU by default")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="bfloat16 on a GPU by default")
    parser.add_argument("--seconds", type=float, help="audio in a batch: 237 on a GPU (table 5), 24 on a CPU")
    parser.add_argument("--steps", type=int, default=6, help="steps that count, in each round")
    parser.add_argument("--warm-up", type=int, help="steps before, on the same batches: as many on a GPU, 2 on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--peer", default=os.environ.get("SPIDR_PEER", ".peer/bin/python"), help="its interpreter")
    return parser.parse_args()


def main() -> None:
    """Run both sides in turn and print the comparison."""
    arguments = parse_arguments()
    device = choose_device(arguments.device)
    torch.set_num_threads(arguments.threads)
    on_gpu = device.type == "cuda"
    size = arguments.size or ("base" if on_gpu else "small")
    precision = arguments.precision or ("bfloat16" if on_gpu else "float32")
    model = {**(SMALL if size == "small" else {}), "layer_drop": 0, "codebook_frames": "masked"}
    recipe = Recipe.model_validate(
        {"model": model, "batches": {"batches_per_step": 1}, "training": {"precision": precision}}
    )
    seconds = arguments.seconds or (237 if on_gpu else 24)
    counted = make_batches(recipe, arguments.steps, seconds, UTTERANCE_S[size])
    # On a GPU all of them: what is made for a length when it is first seen, such as cuDNN's plans, serves every epoch.
    warm_up = arguments.warm_up or (arguments.steps if on_gpu else 2)
    batches = [*islice(cycle(counted), warm_up), *counted]
    common = {"batches": batches, "device": device.type, "precision": precision, "threads": arguments.threads}
    ours = [sys.executable, "-m", "benchmarks.sides"]
    all_frames = recipe.model_copy(update={"model": recipe.model.model_copy(update={"codebook_frames": "all"})})
    sides = [
        Side("spidr 0.2.0", [arguments.peer, "benchmarks/peer.py"], peer_request(recipe, common, on_gpu)),
        Side("ours", ours, our_request(recipe, common)),
        Side("ours, codebooks moved by all frames", ours, our_request(all_frames, common)),
    ]
    answers: list[list[Answer]] = [[] for _ in sides]
    for number in range(arguments.rounds):
        for side, given in zip(sides, answers, strict=True):
            given.append(ask(side.command, side.request))
            took = median(given[-1]["seconds"][warm_up:])
            print(f"round {number + 1}: {side.name}: {took:.3f} s a step", file=sys.stderr, flush=True)

    audio = sum(waveforms.numel() for waveforms, _ in counted) / SAMPLE_RATE_HZ
    flops = 0.0
    for waveforms, masked in counted:
        share = masked.shape[1] / recipe.model.num_frames(waveforms.shape[1])
        flops += step_flops(recipe.model, len(waveforms), waveforms.shape[1], share)
    peak, known_from = peak_flops(device, precision)
    where = torch.cuda.get_device_name() if on_gpu else f"CPU ({platform.machine()}), {arguments.threads} thread(s)"
    print(f"\n{size} size, {precision}, {audio / len(counted):.0f} s of audio a step, {where}")
    print(f"torch {torch.__version__}, Python {platform.python_version()}, commit {git_commit()}\n")
    second = "second" if on_gpu else "second of the processor"
    print(f"| | s of audio a {second}: median (least, most) | ratio | FLOP utilisation | peak memory |")
    print("|---|---|---|---|---|")
    rates = [[audio / sum(answer["seconds"][warm_up:]) for answer in given] for given in answers]
    for side, given, mine in zip(sides, answers, rates, strict=True):
        ratio = median(a / b for a, b in zip(mine, rates[0], strict=True))
        memory = max(answer["memory_bytes"] for answer in given) / 2**30
        spread = f"{median(mine):.1f} ({min(mine):.1f}, {max(mine):.1f})"
        print(
            f"| {side.name} | {spread} | {ratio:.2f} | {flops / audio * median(mine) / peak:.0%} | {memory:.2f} GiB |"
        )
    print(f"\nutilisation: of {peak / 1e12:.3g} TFLOP/s, {known_from}")
    theirs, mine = (given[0]["losses"] for given in answers[:2])
    apart = max(abs(a - b) / b for a, b in zip(mine, theirs, strict=True))
    print(f"losses from {theirs[0]:.4f} to {theirs[-1]:.4f} and from {mine[0]:.4f} to {mine[-1]:.4f}, ", end="")
    print(f"at most {apart:.2%} apart (each side draws its own dropout)")
    print(f"reading from FLAC: {reading_speed(recipe):,.0f} s of audio a second and thread")


if __name__ == "__main__":
    main()
