"""Training of a language model on packed utterances, beside transformers' Trainer on padded ones as SlamKit runs it.

``python -m pip install --no-deps --target .peer-trainer accelerate`` (the Trainer wants it), then
``python -m benchmarks.slm_training``. Both sides train the same OPT from the same weights on the same utterances, in
the same precision, with PyTorch's fused AdamW, and no dropout, as SlamKit. What counts are predicted tokens: padding is
work for nothing. On a GPU the clock is the wall's; on a CPU the process's own, so that other work counts little.
"""

import argparse
import platform
import sys
from pathlib import Path
from statistics import median

import numpy as np
import torch
import transformers

from artifacts.device import choose_device
from artifacts.provenance import git_commit
from benchmarks.pretraining import peak_flops
from benchmarks.sides import Answer, Request, ask
from slm.settings import ModelSettings, SlmRecipe
from slm.store import BOS, FIRST_UNIT

NUM_UNITS = 256
MEAN_UNITS, SPREAD, SHORTEST, LONGEST = 300, 0.5, 20, 700
"""Of an utterance: 12 s of LibriSpeech at 25 units a second after removing repetitions; its logarithm's deviation."""

SMALL = {"hidden_size": 256, "num_layers": 4, "num_heads": 4, "ffn_size": 1024, "context": 1024}

SIDE = "import sys; sys.path.append(sys.argv.pop(1)); from benchmarks.slm_sides import main; main()"
"""A process of a side: transformers looks for accelerate when it is imported."""


def make_utterances(count: int) -> list[torch.Tensor]:
    """Random units of log-normal numbers, as documents; int64 each."""
    rng = np.random.default_rng(0)
    lengths = rng.lognormal(np.log(MEAN_UNITS) - SPREAD**2 / 2, SPREAD, count).clip(SHORTEST, LONGEST).astype(int)
    documents = []
    for length in lengths:
        units = np.cumsum(rng.integers(1, NUM_UNITS, length)) % NUM_UNITS  # none after itself
        documents.append(torch.from_numpy(np.array([BOS, *units + FIRST_UNIT, BOS])))
    return documents


def flops_per_token(model: ModelSettings, documents: list[torch.Tensor]) -> float:
    """FLOP of training that a predicted token needs at least: products, backward at twice forward.

    A token's attention is with those up to itself, in its utterance.
    """
    inputs = np.array([len(document) - 1 for document in documents], dtype=float)
    linear = 4 * model.hidden_size**2 + 2 * model.hidden_size * model.ffn_size
    products = 2.0 * (model.num_layers * linear + model.hidden_size * (NUM_UNITS + FIRST_UNIT))
    attention = 2.0 * 2 * model.num_layers * model.hidden_size * (inputs * (inputs + 1) / 2).sum() / inputs.sum()
    return 3 * (products + float(attention))


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Packed training beside transformers' Trainer on padded batches.")
    parser.add_argument("--size", choices=("small", "opt-125m"), help="opt-125m on a GPU, small on a CPU by default")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="bfloat16 on a GPU by default")
    parser.add_argument("--contexts", type=int, help="in a batch: 16 on a GPU (the paper's), 2 on a CPU")
    parser.add_argument("--steps", type=int, help="that count, in each round: 40 on a GPU, 12 on a CPU")
    parser.add_argument("--warm-up", type=int, help="steps before them: 10 on a GPU, 2 on a CPU")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--packages", type=Path, default=Path(".peer-trainer"), help="folder that has accelerate")
    return parser.parse_args()


def main() -> None:
    """Run all sides in turn and print the comparison."""
    given = parse_arguments()
    device = choose_device(given.device)
    on_gpu = device.type == "cuda"
    size = given.size or ("opt-125m" if on_gpu else "small")
    precision = given.precision or ("bfloat16" if on_gpu else "float32")
    warm_up = given.warm_up or (10 if on_gpu else 2)
    steps = warm_up + (given.steps or (40 if on_gpu else 12))
    shape = SMALL if size == "small" else {}
    training = {"steps": steps, "batch_size": given.contexts or (16 if on_gpu else 2), "accumulation": 1}
    recipe = SlmRecipe.model_validate(
        {
            "model": {**shape, "dropout": 0.0},
            "optimizer": {"warmup_steps": 1},
            "training": {**training, "precision": precision},
        }
    )
    tokens = recipe.training.batch_size * recipe.model.context
    documents = make_utterances(max(400, 2 * steps * tokens // MEAN_UNITS))
    torch.set_num_threads(given.threads)
    mean = sum(map(len, documents)) / len(documents)
    common: Request = {"documents": documents, "vocab_size": NUM_UNITS + FIRST_UNIT, "steps": steps, "warm_up": warm_up}
    common |= {"device": device.type, "threads": given.threads, "recipe": recipe.model_dump(mode="json")}
    padded = {
        "side": "theirs",
        "utterances": round(tokens / mean),
    }
    seen = recipe.training.model_copy(update={"documents": "together"})
    together = recipe.model_copy(update={"training": seen}).model_dump(mode="json")
    sides: dict[str, Request] = {
        "Trainer, padded (SlamKit)": common | padded | {"sampling": "random"},
        "Trainer, padded, grouped by length": common | padded | {"sampling": "group_by_length"},
        "ours, packed, documents apart": common | {"side": "ours"},
        "ours, packed, documents together": common | {"side": "ours", "recipe": together},
    }
    answers: dict[str, list[Answer]] = {name: [] for name in sides}
    for number in range(given.rounds):
        for name, request in sides.items():
            answers[name].append(ask([sys.executable, "-c", SIDE, str(given.packages.absolute())], request))
            rate = answers[name][-1]["tokens_per_s"]
            print(f"round {number + 1}: {name}: {rate:,.0f} tokens a second", file=sys.stderr, flush=True)

    where = torch.cuda.get_device_name() if on_gpu else f"CPU ({platform.machine()}), {given.threads} thread(s)"
    lengths = f"{padded['utterances']} padded utterances of {mean:.0f} tokens on average"
    print(f"\n{size} size, {precision}, {recipe.training.batch_size} contexts of {recipe.model.context}, or {lengths}")
    packages = f"torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"{where}; {packages}, Python {platform.python_version()}, commit {git_commit()}\n")
    peak, known_from = peak_flops(device, precision)
    flops = flops_per_token(recipe.model, documents)
    second = "second" if on_gpu else "second of the processor"
    print(f"| | predicted tokens a {second}: median (least, most) | ratio | FLOP utilisation | peak memory |")
    print("|---|---|---|---|---|")
    first = [answer["tokens_per_s"] for answer in next(iter(answers.values()))]
    for name, found in answers.items():
        rates = [answer["tokens_per_s"] for answer in found]
        ratio = median(a / b for a, b in zip(rates, first, strict=True))
        memory = max(answer["memory_bytes"] for answer in found) / 2**30
        spread = f"{median(rates):,.0f} ({min(rates):,.0f}, {max(rates):,.0f})"
        print(f"| {name} | {spread} | {ratio:.2f} | {flops * median(rates) / peak:.0%} | {memory:.2f} GiB |")
    losses = [found[0]["loss"] for found in answers.values()]
    print(f"\nutilisation: {flops / 1e6:.3g} MFLOP a token, of {peak / 1e12:.3g} TFLOP/s, {known_from}")
    print(f"loss of the same utterances before training: {min(losses):.6f} to {max(losses):.6f} on all sides")


if __name__ == "__main__":
    main()
