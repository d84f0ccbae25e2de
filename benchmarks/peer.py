"""Drives the authors' package `spidr` (PyPI, CC BY-NC), as a peer to compare with: run by an interpreter of its own.

Their package has our import name, so the two never meet in a process: they exchange files. ``make peer``
makes the environment. A request is a file of `torch.save` with the keys of `main`; the answer is another.
"""

import sys
import time
from contextlib import nullcontext
from typing import Any

import torch
from spidr.config import DinoSRConfig, OptimizerConfig, SpidRConfig
from spidr.environment import setup_pytorch
from spidr.models import build_model
from spidr.models.dinosr import DinoSR
from spidr.optimizer import build_optimizer

Answer = dict[str, Any]


def outputs(model: DinoSR, request: dict[str, Any]) -> Answer:
    """Intermediate outputs, predictions, loss and perplexities of the first batch, without learning from it."""
    waveforms, masked = request["batches"][0]
    model.eval()
    with torch.no_grad():
        intermediate = model.get_intermediate_outputs(waveforms)
        predictions = [prediction for prediction in model.get_codebooks(waveforms) if prediction is not None]
        loss, perplexities = model(waveforms, mask_indices=masked)
    return {"intermediate": intermediate, "predictions": predictions, "loss": loss.mean(), **perplexities}


def train(model: DinoSR, request: dict[str, Any]) -> Answer:
    """Learn from the batches one after the other, as the package's training loop does, and time the steps.

    The loss is averaged over the masked frames. With ``compile`` the model is compiled as that loop does.
    """
    device = torch.device(request["device"])
    precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[request["precision"]]
    model = model.to(device).train()
    settings = OptimizerConfig(**request["optimizer"], dtype=request["precision"])
    optimizer, scaler, scheduler = build_optimizer(model, settings)
    if device.type != "cuda":
        scaler = torch.GradScaler(enabled=False)
    setup_pytorch(use_deterministic=False)
    if request["compile"]:
        model.compile(dynamic=True)
    losses, seconds = [], []
    for step, (waveforms, masked) in enumerate(request["batches"], start=1):
        started = time.perf_counter()
        waveforms, masked = waveforms.to(device, non_blocking=True), masked.to(device, non_blocking=True)
        mixed = settings.mixed_precision
        with torch.autocast(device.type, precision) if mixed else nullcontext():
            loss, _ = model(waveforms, mask_indices=masked)
        loss = loss.sum() / masked.numel()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        model.update_ema(step)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
        losses.append(loss.item())
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {"losses": losses, "seconds": seconds, "memory_bytes": memory, "model": model.state_dict()}


def main() -> None:
    """Answer the request in the file of the first argument into that of the second."""
    request = torch.load(sys.argv[1], weights_only=True)
    torch.set_num_threads(request["threads"])
    torch.manual_seed(0)
    config = {"spidr": SpidRConfig, "dinosr": DinoSRConfig}[request["kind"]](**request["model"])
    model = build_model(cfg=config)
    if request["weights"] is not None:
        model.load_state_dict(request["weights"])
    answer = {"outputs": outputs, "train": train}[request["what"]](model, request)
    torch.save(answer, sys.argv[2])


if __name__ == "__main__":
    main()
