"""Log-likelihoods by `slm.likelihoods`, beside one utterance at a time and padded batches in the order of the file.

``python -m benchmarks.slm_scoring``: an OPT-125M with random weights and 256 units, and utterances of random units of
the lengths of sWUGGY's and of tSC's. The other sides are what one writes with transformers: batches of a fixed number
of utterances, padded to the longest, with its attention mask, and the soft-max of all logits. All sides score the same
utterances with the same model in turn, several rounds of it; their log-likelihoods must agree.
"""

import argparse
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import NamedTuple

import numpy as np
import torch
import transformers
from torch.nn.utils.rnn import pad_sequence
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import Precision, choose_device, computing_in
from artifacts.provenance import git_commit
from slm.likelihoods import BATCH_TOKENS, log_likelihoods
from slm.model import build_model
from slm.settings import ModelSettings
from slm.store import BOS, EOS, FIRST_UNIT, PAD

NUM_UNITS = 256
LENGTHS = {"sWUGGY-like": (5, 40), "tSC-like": (200, 600)}
"""Fewest and most units; any number between is as frequent."""
PADDED = (2, 4, 8, 16, 32, 64, 128)
"""Utterances of a padded batch."""
MOST_PADDED = 32_768
"""Most tokens of a padded batch, on a CPU a fourth: larger ones are left out."""


class Time(NamedTuple):
    """Seconds of the clock on the wall, and of the processor."""

    wall_s: float
    processor_s: float


def make_documents(number: int, shortest: int, longest: int) -> list[np.ndarray]:
    """Random units, none twice in a row, between BOS and EOS."""
    draw = np.random.default_rng(0)
    lengths = draw.integers(shortest, longest + 1, number)
    steps = [draw.integers(1, NUM_UNITS, length) for length in lengths]
    return [np.r_[BOS, np.cumsum(step) % NUM_UNITS + FIRST_UNIT, EOS] for step in steps]


@torch.inference_mode()
def padded(model: PreTrainedModel, documents: list[np.ndarray], precision: Precision, size: int) -> list[float]:
    """Batches of `size` utterances in their order, padded to the longest."""
    found: list[float] = []
    for first in range(0, len(documents), size):
        batch = [torch.from_numpy(document) for document in documents[first : first + size]]
        tokens = pad_sequence(batch, batch_first=True, padding_value=PAD).to(model.device)
        with computing_in(precision, model.device.type):
            logits = model(tokens[:, :-1], attention_mask=tokens[:, :-1].ne(PAD).long(), use_cache=False).logits
        nats = logits.float().log_softmax(2).gather(2, tokens[:, 1:, None]).squeeze(2)
        found += (nats * tokens[:, 1:].ne(PAD)).double().sum(1).tolist()
    return found


def ours(model: PreTrainedModel, documents: list[np.ndarray], precision: Precision) -> list[float]:
    """By `slm.likelihoods`."""
    found = np.zeros(len(documents))
    for batch, nats in log_likelihoods(model, documents, BATCH_TOKENS[model.device.type], precision=precision):
        found[batch] = nats.cpu().numpy()
    return found.tolist()


def timed(score: Callable[[], list[float]]) -> tuple[Time, list[float]]:
    """Every side ends with its values on the processor, so a GPU has finished too."""
    wall, processor = time.perf_counter(), time.process_time()
    values = score()
    return Time(time.perf_counter() - wall, time.process_time() - processor), values


def main() -> None:
    """Run all sides and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--tokens", type=int, help="of each kind, about: 1,000,000 on a GPU, 6,000 on a CPU")
    parser.add_argument("--rounds", type=int, default=3, help="the median counts (default 3)")
    parser.add_argument("--threads", type=int, default=2, help="of the CPU")
    given = parser.parse_args()
    device = choose_device(given.device)
    torch.set_num_threads(given.threads)
    model = build_model(ModelSettings(), NUM_UNITS + FIRST_UNIT, 0).to(device).eval()
    model.set_attn_implementation("sdpa")
    num_tokens = given.tokens or (1_000_000 if device.type == "cuda" else 6_000)
    rows = []
    for kind, (shortest, longest) in LENGTHS.items():
        documents = make_documents(max(8, 2 * num_tokens // (shortest + longest)), shortest, longest)
        limit = MOST_PADDED if device.type == "cuda" else MOST_PADDED // 4
        sizes = [size for size in PADDED if size <= len(documents) and size * longest <= limit]
        sides = {"one at a time": partial(padded, model, documents, given.precision, 1)}
        sides |= {f"padded, {size}": partial(padded, model, documents, given.precision, size) for size in sizes}
        sides["ours"] = partial(ours, model, documents, given.precision)
        times: dict[str, list[Time]] = {side: [] for side in sides}
        values = {}
        padded(model, documents[:2], given.precision, 2)  # what is built at first use
        for number in range(given.rounds):
            for side, score in sides.items():
                spent, values[side] = timed(score)
                times[side].append(spent)
                print(f"{kind}, round {number + 1}, {side}: {spent.wall_s:.1f} s", file=sys.stderr, flush=True)
        taken = {
            side: Time(*(median(clock) for clock in zip(*of_side, strict=True))) for side, of_side in times.items()
        }
        clock = "wall_s" if device.type == "cuda" else "processor_s"
        best = min((side for side in sides if side.startswith("padded")), key=lambda side: getattr(taken[side], clock))
        lengths = np.array([len(document) - 1 for document in documents])
        for side, spent in taken.items():
            apart = np.abs((np.array(values[side]) - np.array(values["one at a time"])) / lengths).max()
            cells = (
                f"{kind}, {len(documents)}",
                f"{side} (the best padded)" if side == best else side,
                f"{len(documents) / spent.wall_s:,.1f}",
                f"{len(documents) / spent.processor_s:,.1f}",
                f"{getattr(taken[best], clock) / getattr(spent, clock):.2f}",
                f"{getattr(taken['one at a time'], clock) / getattr(spent, clock):.2f}",
                f"{apart:.1e}",
            )
            rows.append(f"| {' | '.join(cells)} |")
    where = torch.cuda.get_device_name() if device.type == "cuda" else f"CPU ({platform.machine()})"
    print(f"\nOPT-125M, {NUM_UNITS} units, {given.precision}, {where}, {given.threads} threads")
    packages = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{packages}, Python {platform.python_version()}, commit {git_commit()}\n")
    print(
        "| utterances | | a second | a second of the processor | to the best padded | to one at a time"
        " | apart a token, at most |"
    )
    print("|---|---|---|---|---|---|---|")
    print("\n".join(rows))


if __name__ == "__main__":
    main()
