"""Our pretraining step beside that of the authors' package, on the same batches in one run.

``make peer`` makes the package's environment, then ``python -m benchmarks.pretraining``. Each side runs
in a process of its own, in turn, several rounds of it; the first steps of each are not counted. What is
compared is the step: reading audio is measured apart.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import soundfile
import torch

from artifacts.device import choose_device
from artifacts.provenance import git_commit
from artifacts.workers import ALONE
from benchmarks.flops import step_flops
from corpora.manifest import Utterance
from spidr.batches import Batch, Batches
from spidr.layouts import LAYOUTS, released_views
from spidr.learner import build_learner
from spidr.masking import sample_masked_frames
from spidr.settings import SAMPLE_RATE_HZ, Recipe
from spidr.step import Stepper

SMALL = {
    "extractor": [[128, 10, 5], *[[128, 3, 2]] * 4, *[[128, 2, 2]] * 2],
    "hidden_size": 256,
    "num_layers": 6,
    "num_heads": 4,
    "ffn_size": 1024,
    "num_codebooks": 4,
}
PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""bfloat16 products per second without sparsity, from the data sheets of NVIDIA's SXM modules."""
NAMES = {"ours": "ours", "all": "ours, codebooks moved by all frames (the paper)", "peer": "spidr 0.2.0 (PyPI)"}


def make_batches(recipe: Recipe, count: int, seconds: float) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """`count` batches of noise, of `seconds` of audio together, in lengths that differ, with their masked frames."""
    rng = np.random.default_rng(0)
    batches = []
    for _ in range(count):
        num_samples = int(rng.uniform(10, 16) * SAMPLE_RATE_HZ) if seconds > 100 else int(rng.uniform(3, 5) * 16_000)
        num_rows = max(1, int(seconds * SAMPLE_RATE_HZ) // num_samples)
        waveforms = torch.from_numpy(rng.standard_normal((num_rows, num_samples), dtype=np.float32))
        num_frames = recipe.model.num_frames(num_samples)
        masked = torch.from_numpy(sample_masked_frames(rng, num_rows, num_frames, recipe.masking))
        batches.append((waveforms, masked))
    return batches


def train_ours(request: dict[str, Any]) -> dict[str, Any]:
    """What benchmarks/peer.py does with the package, with our code."""
    torch.set_num_threads(request["threads"])
    recipe, device = Recipe.model_validate(request["recipe"]), torch.device(request["device"])
    stepper = Stepper(build_learner(recipe.model, 0).to(device).train(), recipe, 0, ALONE)
    losses, seconds = [], []
    for step, (waveforms, masked) in enumerate(request["batches"]):
        started = time.perf_counter()
        batch = Batch(step, [], waveforms, masked, None, {}).to(device)
        loss = stepper.step([batch], step).objective.loss
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"losses": losses, "seconds": seconds, "memory_bytes": memory}


def run_side(command: list[str], request: dict[str, Any]) -> dict[str, Any]:
    """Let a process answer a request; its peak memory is that of the GPU, or of the process without one."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.pt"), Path(folder, "answer.pt")
        torch.save(request, asked)
        environment = os.environ | {"OMP_NUM_THREADS": str(request["threads"])}
        environment.pop("PYTHONPATH", None)  # our `spidr` must not hide the package's
        process = subprocess.Popen([*command, str(asked), str(answered)], env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{' '.join(command)}: failed")
        answer: dict[str, Any] = torch.load(answered, weights_only=True)
    answer["memory_bytes"] = answer["memory_bytes"] or usage.ru_maxrss * 1024
    return answer


def peer_request(recipe: Recipe, common: dict[str, Any]) -> dict[str, Any]:
    """The same model, weights and optimizer in the package's terms."""
    model = recipe.model
    weights = {name: view.clone() for name, view in _released(recipe).items()}
    settings = {
        "extractor_conv_layer_config": [list(layer) for layer in model.extractor],
        "encoder_embed_dim": model.hidden_size,
        "encoder_num_layers": model.num_layers,
        "encoder_num_heads": model.num_heads,
        "encoder_ff_interm_features": model.ffn_size,
        "encoder_layer_drop": model.layer_drop,
        "num_codebooks": model.num_codebooks,
    }
    return {**common, "what": "train", "kind": "spidr", "model": settings, "weights": weights, "optimizer": {}}


def _released(recipe: Recipe) -> dict[str, torch.Tensor]:
    layout = LAYOUTS["spidr"]
    return {
        **released_views(layout, build_learner(recipe.model, 0).state_dict()),
        "current_step": torch.zeros(1).long(),
    }


def peak_flops(device: torch.device, precision: str, threads: int) -> tuple[float, str]:
    """Products a second that the device can do: of the data sheet where it is known, else of one large product."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name()
        for known, peak in PEAK_FLOPS.items():
            if known in name and precision == "bfloat16":
                return peak, f"data sheet of {known}"
    torch.set_num_threads(threads)
    size = 8192 if device.type == "cuda" else 2048
    matrix = torch.randn(size, size, device=device, dtype=getattr(torch, precision))
    times = []
    for _ in range(8):
        started = time.perf_counter()
        matrix @ matrix
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times), f"a product of two {size} x {size} matrices here"


def reading_speed(recipe: Recipe) -> float:
    """Seconds of audio that one thread makes into batches in a second, from FLAC."""
    with tempfile.TemporaryDirectory() as folder:
        rng, utterances = np.random.default_rng(0), []
        for index in range(8):
            path, num_samples = Path(folder, f"{index}.flac"), 200_000 + 3000 * index
            soundfile.write(path, (rng.standard_normal(num_samples) * 0.05).clip(-1, 1), SAMPLE_RATE_HZ)
            utterances.append(Utterance(str(index), path, num_samples, "s"))
        batches = Batches(utterances, recipe.model_copy(update={"training": recipe.training}), 0)
        started, read = time.perf_counter(), 0
        for number in range(10):
            read += batches[number].waveforms.numel()
        return read / SAMPLE_RATE_HZ / (time.perf_counter() - started)


def main() -> None:
    """Run both sides in turn and print the comparison as a table."""
    parser = argparse.ArgumentParser(description="Pretraining steps beside those of the package spidr.")
    parser.add_argument("--size", choices=("small", "base"), help="base (table 5) on a GPU, small on a CPU by default")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), help="bfloat16 on a GPU by default")
    parser.add_argument("--seconds", type=float, help="audio in a batch: 237 (table 5) for base, 24 for small")
    parser.add_argument("--steps", type=int, default=8, help="steps that count, in each round")
    parser.add_argument("--warm-up", type=int, default=3, help="steps before them")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1, help="of the CPU")
    parser.add_argument("--compile", action="store_true", help="compile on a CPU too; both sides always are on a GPU")
    parser.add_argument("--peer", default=os.environ.get("SPIDR_PEER", ".peer/bin/python"), help="its interpreter")
    arguments = parser.parse_args()
    device = choose_device(arguments.device)
    on_gpu = device.type == "cuda"
    size = arguments.size or ("base" if on_gpu else "small")
    precision = arguments.precision or ("bfloat16" if on_gpu else "float32")
    seconds = arguments.seconds or (237 if size == "base" else 24)
    compiled = on_gpu or arguments.compile
    model = {**(SMALL if size == "small" else {}), "layer_drop": 0, "codebook_frames": "masked"}
    training = {"precision": precision, "compile": "always" if compiled else "never"}
    recipe = Recipe.model_validate({"model": model, "batches": {"batches_per_step": 1}, "training": training})
    batches = make_batches(recipe, arguments.warm_up + arguments.steps, seconds)
    common = {"batches": batches, "device": device.type, "precision": precision, "threads": arguments.threads}
    ours = [sys.executable, "-m", "benchmarks.pretraining", "answer"]
    all_frames = recipe.model_copy(update={"model": recipe.model.model_copy(update={"codebook_frames": "all"})})
    sides: dict[str, tuple[list[str], dict[str, Any]]] = {
        "peer": ([arguments.peer, "benchmarks/peer.py"], {**peer_request(recipe, common), "compile": compiled}),
        "ours": (ours, {**common, "recipe": recipe.model_dump(mode="json")}),
        "all": (ours, {**common, "recipe": all_frames.model_dump(mode="json")}),
    }
    answers: dict[str, list[dict[str, Any]]] = {name: [] for name in sides}
    for number in range(arguments.rounds):
        for name, (command, request) in sides.items():
            answers[name].append(run_side(command, request))
            took = median(answers[name][-1]["seconds"][arguments.warm_up :])
            print(f"round {number + 1}: {NAMES[name]}: {took:.3f} s a step", file=sys.stderr, flush=True)

    counted = batches[arguments.warm_up :]
    peak, peak_source = peak_flops(device, precision, arguments.threads)
    flops = sum(
        step_flops(recipe.model, *w.shape, m.shape[1] / recipe.model.num_frames(w.shape[1])) for w, m in counted
    )
    audio = sum(waveforms.numel() for waveforms, _ in counted) / SAMPLE_RATE_HZ
    speeds = {
        name: [audio / sum(answer["seconds"][arguments.warm_up :]) for answer in given]
        for name, given in answers.items()
    }
    print(
        f"\n{size}, {precision}, {'compiled' if compiled else 'not compiled'}, {audio / len(counted):.0f} s of audio a "
    )
    print(
        f"batch; {torch.cuda.get_device_name() if on_gpu else f'{platform.machine()} CPU, {arguments.threads} thread(s)'}"
    )
    print(f"torch {torch.__version__}, Python {platform.python_version()}, commit {git_commit()}\n")
    print(
        "| | s of audio a second: median (min, max) | ratio | model FLOP utilisation | peak memory |\n|---|---|---|---|---|"
    )
    for name, rates in speeds.items():
        ratio = median(a / b for a, b in zip(rates, speeds["peer"], strict=True))
        memory = max(answer["memory_bytes"] for answer in answers[name]) / 2**30
        utilisation = flops / audio * median(rates) / peak
        spread = f"{median(rates):.1f} ({min(rates):.1f}, {max(rates):.1f})"
        print(f"| {NAMES[name]} | {spread} | {ratio:.2f} | {utilisation:.0%} | {memory:.2f} GiB |")
    losses = [answers[name][0]["losses"] for name in ("peer", "ours")]
    apart = max(abs(mine - theirs) / theirs for theirs, mine in zip(*losses, strict=True))
    print(f"\npeak: {peak / 1e12:.3g} TFLOP/s, {peak_source}")
    print(
        f"losses {losses[0][0]:.4f} to {losses[0][-1]:.4f} (peer), {losses[1][0]:.4f} to {losses[1][-1]:.4f} (ours): "
    )
    print(f"at most {apart:.2%} apart in a step (dropout is drawn differently)")
    print(f"reading FLAC: {reading_speed(recipe):.0f} s of audio a second and thread")


if __name__ == "__main__":
    if sys.argv[1:2] == ["answer"]:
        torch.save(train_ours(torch.load(sys.argv[2], weights_only=True)), sys.argv[3])
    else:
        main()
