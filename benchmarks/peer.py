"""Drives the authors' package `spidr` (PyPI, CC BY-NC), as a peer to compare with: run by an interpreter of its own.

Their package has our import name, so the two never meet in a process: they exchange files. ``make peer``
makes the environment. A request is a file of `torch.save` with the keys that `main` and the function it
names read; the answer is another.
"""

import sys
import time
from contextlib import nullcontext
from dataclasses import MISSING, fields
from itertools import pairwise
from typing import Any

import torch
from spidr.checkpoint import remove_param_group
from spidr.config import DataConfig, DinoSRConfig, MaskingConfig, OptimizerConfig, SpidRConfig
from spidr.environment import setup_pytorch
from spidr.models import build_model
from spidr.models.dinosr import DinoSR
from spidr.optimizer import build_optimizer

Answer = dict[str, Any]
MODELS = {"spidr": SpidRConfig, "dinosr": DinoSRConfig}


def defaults(request: dict[str, Any]) -> Answer:
    """The package's settings where nothing else is asked for, section by section."""
    sections = {"model": MODELS[request["kind"]], "optimizer": OptimizerConfig, "masking": MaskingConfig}
    return {section: _defaults_of(settings) for section, settings in {**sections, "data": DataConfig}.items()}


def _defaults_of(settings: Any) -> Answer:
    values = {}
    for field in fields(settings):
        value = field.default if field.default_factory is MISSING else field.default_factory()
        if value is not MISSING:
            values[field.name] = value
    return values


def outputs(request: dict[str, Any]) -> Answer:
    """Intermediate outputs, predictions, loss and perplexities of the first batch, without learning from it."""
    model = _model(request).eval()
    waveforms, masked = request["batches"][0]
    with torch.no_grad():
        intermediate = model.get_intermediate_outputs(waveforms)
        predictions = [prediction for prediction in model.get_codebooks(waveforms) if prediction is not None]
        loss, perplexities = model(waveforms, mask_indices=masked)
    return {"intermediate": intermediate, "predictions": predictions, "loss": loss.mean(), **perplexities}


def train(request: dict[str, Any]) -> Answer:
    """Learn from the batches one after the other, as the package's training loop does, and time the steps.

    The loss is averaged over the masked frames. With ``compile`` the model is compiled as that loop does.
    From the model's ``freeze_step`` on, the optimizer no longer has the extractor and its projection.
    """
    device = torch.device(request["device"])
    precision = {"float32": torch.float32, "bfloat16": torch.bfloat16}[request["precision"]]
    model = _model(request).to(device).train()
    settings = OptimizerConfig(**request["optimizer"], dtype=request["precision"])
    optimizer, scaler, scheduler = build_optimizer(model, settings)
    if device.type != "cuda":
        scaler = torch.GradScaler(enabled=False)
    setup_pytorch(use_deterministic=False)
    if request["compile"]:
        model.compile(dynamic=True)
    batches = request["batches"]
    if device.type == "cuda":
        batches = [(waveforms.pin_memory(), masked.pin_memory()) for waveforms, masked in batches]
    losses, norms, marks = [], [], [mark(device)]
    for step, (waveforms, masked) in enumerate(batches, start=1):
        waveforms, masked = waveforms.to(device, non_blocking=True), masked.to(device, non_blocking=True)
        mixed = settings.mixed_precision
        with torch.autocast(device.type, precision) if mixed else nullcontext():
            loss, _ = model(waveforms, mask_indices=masked)
        loss = loss.sum() / masked.numel()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), settings.max_norm)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad(set_to_none=True)
        scheduler.step()
        model.update_ema(step)
        if step == model.freeze_step:
            remove_param_group(optimizer, scheduler, 1)
        losses.append(loss.detach())
        norms.append(norm)
        marks.append(mark(device))
    seconds = seconds_between(marks)
    memory = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return {
        "losses": [loss.item() for loss in losses],
        "gradient_norms": [norm.item() for norm in norms],
        "seconds": seconds,
        "memory_bytes": memory,
        "model": model.state_dict(),
    }


def mark(device: torch.device) -> Any:
    """As in benchmarks/sides.py, which this environment cannot import."""
    if device.type != "cuda":
        return time.process_time()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def seconds_between(marks: list[Any]) -> list[float]:
    """Seconds from each mark to the next."""
    if isinstance(marks[0], float):
        return [after - before for before, after in pairwise(marks)]
    torch.cuda.synchronize()
    return [before.elapsed_time(after) / 1000 for before, after in pairwise(marks)]


def _model(request: dict[str, Any]) -> DinoSR:
    """The model of the request's ``kind`` and settings, with its weights, or with random ones where these are None."""
    torch.manual_seed(0)
    model = build_model(cfg=MODELS[request["kind"]](**request["model"]))
    if request["weights"] is not None:
        model.load_state_dict(request["weights"])
    return model


def main() -> None:
    """Answer the request in the file of the first argument into that of the second."""
    request = torch.load(sys.argv[1], weights_only=True)
    torch.set_num_threads(request["threads"])
    answer = {"defaults": defaults, "outputs": outputs, "train": train}[request["what"]](request)
    torch.save(answer, sys.argv[2])


if __name__ == "__main__":
    main()
