"""The two sides of the comparison, each in a process of its own that answers a request in a file with another."""

import os
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch

from artifacts.workers import ALONE
from spidr.batches import Batch
from spidr.layouts import LAYOUTS, released_views
from spidr.learner import build_learner
from spidr.settings import Recipe
from spidr.step import Stepper

Request = dict[str, Any]
Answer = dict[str, Any]


def ask(command: list[str], request: Request) -> Answer:
    """The answer of a process; its `memory_bytes` is the peak of the GPU, or of the process without one."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "request.pt"), Path(folder, "answer.pt")
        torch.save(request, asked)
        environment = os.environ | {"OMP_NUM_THREADS": str(request["threads"])}
        environment.pop("PYTHONPATH", None)  # our `spidr` must not hide the package's
        process = subprocess.Popen([*command, str(asked), str(answered)], env=environment)
        _, status, usage = os.wait4(process.pid, 0)
        if status != 0:
            raise SystemExit(f"{' '.join(command)}: failed")
        answer: Answer = torch.load(answered, weights_only=True)
    answer["memory_bytes"] = answer["memory_bytes"] or usage.ru_maxrss * 1024
    return answer


def our_request(recipe: Recipe, common: Request) -> Request:
    """Train as `recipe` says."""
    return {**common, "recipe": recipe.model_dump(mode="json")}


def peer_request(recipe: Recipe, common: Request, compiled: bool) -> Request:
    """The same model, from the same weights, in the terms of benchmarks/peer.py."""
    model, state = recipe.model, build_learner(recipe.model, 0).state_dict()
    weights = {name: view.clone() for name, view in released_views(LAYOUTS["spidr"], state).items()}
    weights["current_step"] = torch.zeros(1, dtype=torch.int64)
    settings = {
        "extractor_conv_layer_config": [list(layer) for layer in model.extractor],
        "encoder_embed_dim": model.hidden_size,
        "encoder_num_layers": model.num_layers,
        "encoder_num_heads": model.num_heads,
        "encoder_ff_interm_features": model.ffn_size,
        "encoder_layer_drop": model.layer_drop,
        "num_codebooks": model.num_codebooks,
    }
    what = {"what": "train", "kind": "spidr", "model": settings, "weights": weights, "optimizer": {}}
    return {**common, **what, "compile": compiled}


def train(request: Request) -> Answer:
    """What benchmarks/peer.py does with the package, with our code."""
    torch.set_num_threads(request["threads"])
    recipe, device = Recipe.model_validate(request["recipe"]), torch.device(request["device"])
    stepper = Stepper(build_learner(recipe.model, 0).to(device).train(), recipe, 0, ALONE)
    given = enumerate(request["batches"])
    batches = [Batch(step, [], waveforms, masked, None, {}) for step, (waveforms, masked) in given]
    if device.type == "cuda":
        batches = [batch.pin() for batch in batches]  # as those that are read from disk
    losses, marks = [], [mark(device)]
    for step, batch in enumerate(batches):
        losses.append(stepper.step([batch.to(device)], step).objective.loss)
        marks.append(mark(device))
    seconds = seconds_between(marks)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"losses": [loss.item() for loss in losses], "seconds": seconds, "memory_bytes": memory}


def mark(device: torch.device) -> Any:
    """The processor's time used so far; on a GPU a mark among its work, which nobody waits for."""
    if device.type != "cuda":
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def seconds_between(marks: list[Any]) -> list[float]:
    """Seconds from each mark to the next."""
    if isinstance(marks[0], float):
        return [after - before for before, after in pairwise(marks)]
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]


if __name__ == "__main__":
    torch.save(train(torch.load(sys.argv[1], weights_only=True)), sys.argv[2])
