"""Train a language model on units: ``python -m slm.train --settings config/slm/opt-125m.yaml --tokens ...``.

Started again, a training goes on from its newest checkpoint and ends where it would have ended
without the interruption, on the CPU bit for bit: the seed and the step decide everything drawn at
random, so a checkpoint holds no generator's state and no place in the data but the step. SIGTERM,
SIGUSR1, Ctrl-C or the end of a time budget stop it after the step it is in, saved, with exit code 75.
"""

import argparse
import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.models.opt.modeling_opt import OPTForCausalLM

from artifacts.checkpoints import ADVICE, CheckpointWriter, load_newest_checkpoint, require_finite
from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_json
from artifacts.interruption import Interruption, Stopped
from artifacts.lock import locked, set_aside_another
from artifacts.log import Log
from artifacts.progress import Progress
from artifacts.provenance import provenance
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from artifacts.trackers import Trackers
from corpora.speakers import read_genders, require_other_speakers
from slm.model import build_model, save_model, summed_loss
from slm.packing import RULE, PackedCorpus
from slm.settings import OptimizerSettings, SlmRecipe
from slm.store import TokenStore, open_stores


def train(
    recipe: SlmRecipe,
    corpus: PackedCorpus,
    validation: PackedCorpus,
    folder: Path,
    seed: int,
    device: torch.device,
    time_budget_s: float | None = None,
) -> tuple[OPTForCausalLM, dict[str, Any]]:
    """Train, or go on with the training in `folder`.

    Args:
        folder: Holds `log.jsonl` and `checkpoints/`.
        time_budget_s: Seconds after which to save and stop.

    Returns:
        The model with the weights of the lowest validation loss, and a summary: best step, its loss in
        nats per token, tokens predicted, epochs, wall seconds (of all runs), device.

    Raises:
        InputError: A loss or a weight is not finite, or a tracker is not installed.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    every, num_steps = recipe.training, recipe.training.steps
    model = build_model(recipe.model, corpus.stores[0].vocab_size, seed).to(device)
    optimizer = build_optimizer(model, recipe.optimizer)
    start, tokens_seen, seconds_before = 0, 0, 0.0
    best: dict[str, Any] = {"loss": math.inf, "step": 0, "model": {}}
    checkpoint = load_newest_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        model.load_state_dict(checkpoint["model"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        best, start = checkpoint["best"], checkpoint["step"]
        tokens_seen, seconds_before = checkpoint["tokens_seen"], checkpoint["seconds"]
    began = time.monotonic()
    unchecked: dict[int, Tensor] = {}
    note = ""

    with (
        Interruption(time_budget_s) as interruption,
        Log(folder / "log.jsonl", start) as log,
        Trackers(every.trackers, folder, recipe.model_dump(mode="json")) as trackers,
        CheckpointWriter(folder / "checkpoints", every.keep_checkpoints) as checkpoints,
        Progress("train", num_steps, "steps", start) as progress,
    ):

        def write(line: dict[str, Any]) -> None:
            log.write(line)
            trackers.write(line)

        for step in range(start, num_steps):
            loss, gradient_norm, num_predicted = training_step(model, optimizer, corpus, recipe, seed, step)
            done = step + 1
            tokens_seen += num_predicted
            unchecked[done] = torch.stack([loss, gradient_norm])
            logs, validates, saves = (
                done % interval == 0 or done == num_steps
                for interval in (every.log_every, every.validate_every, every.checkpoint_every)
            )
            stops = interruption.requested is not None and done < num_steps
            if logs or validates or saves or stops:
                check_finite(unchecked)

            if logs:
                line = {"split": "train", "step": done, "loss": loss.item(), "gradient_norm": gradient_norm.item()}
                rate = learning_rate(step, num_steps, recipe.optimizer)
                write(line | {"learning_rate": rate, "tokens_seen": tokens_seen})
                note = f"loss {line['loss']:.3f}"

            if validates:
                validation_loss = validate(model, validation, every.batch_size)
                write({"split": "validation", "step": done, "loss": validation_loss})
                if validation_loss < best["loss"]:
                    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
                    best = {"loss": validation_loss, "step": done, "model": weights}

            if saves or stops:
                state = {
                    "step": done,
                    "tokens_seen": tokens_seen,
                    "seconds": seconds_before + time.monotonic() - began,
                    "model": model.state_dict(),
                    "optimizer": optimizer.state_dict(),
                    "best": best,
                }
                require_finite(state["model"], done)  # the losses were those before the update
                checkpoints.save(done, state)
            progress.advance(note=note)
            if stops:
                checkpoints.wait()
                why = interruption.requested
                raise Stopped(f"stopped by {why} after step {done:,} of {num_steps:,}, saved: start again to go on")

    model.load_state_dict(best["model"])
    contexts_seen = num_steps * every.batch_size * every.accumulation
    summary = {
        "steps": num_steps,
        "best_step": best["step"],
        "validation_loss": best["loss"],
        "tokens_seen": tokens_seen,
        "epochs": contexts_seen / corpus.num_contexts,
        "wall_s": seconds_before + time.monotonic() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return model, summary


def build_optimizer(model: OPTForCausalLM, settings: OptimizerSettings) -> torch.optim.AdamW:
    """AdamW over all weights."""
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.learning_rate,
        betas=settings.betas,
        eps=settings.epsilon,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def learning_rate(step: int, num_steps: int, settings: OptimizerSettings) -> float:
    """Learning rate of a step, counted from 0: a linear rise, then half a cosine down to the last step."""
    peak, final, warmup = settings.learning_rate, settings.final_learning_rate, settings.warmup_steps
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step + 1 - warmup) / (num_steps - warmup)
    return final + (peak - final) * (1 + math.cos(math.pi * progress)) / 2


def training_step(
    model: OPTForCausalLM,
    optimizer: torch.optim.Optimizer,
    corpus: PackedCorpus,
    recipe: SlmRecipe,
    seed: int,
    step: int,
) -> tuple[Tensor, Tensor, int]:
    """One update of the weights. Nothing here waits for the device.

    Every predicted token of the step weighs the same, however the accumulated batches divide them.

    Returns:
        The loss before the update in nats per token, the gradient's norm before clipping, and the
        number of tokens predicted.
    """
    settings = recipe.training
    device = model.device
    first = step * settings.accumulation * settings.batch_size
    batches = [
        corpus.batch(first + number * settings.batch_size, settings.batch_size)
        for number in range(settings.accumulation)
    ]
    num_predicted = sum(batch.num_predicted for batch in batches)
    torch.manual_seed(seed_for(seed, "dropout", step))
    for group in optimizer.param_groups:
        group["lr"] = learning_rate(step, settings.steps, recipe.optimizer)

    model.train()
    optimizer.zero_grad()
    loss = torch.zeros((), device=device)
    for batch in batches:
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
            share = summed_loss(model, batch) / num_predicted
        share.backward()  # type: ignore[no-untyped-call]
        loss += share.detach()
    gradient_norm = torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.optimizer.clip_norm)
    optimizer.step()
    return loss, gradient_norm, num_predicted


@torch.inference_mode()
def validate(model: OPTForCausalLM, validation: PackedCorpus, batch_size: int) -> float:
    """Negative log-likelihood in nats per predicted token, every document alone, in float32.

    Raises:
        InputError: It is not finite.
    """
    model.eval()
    nats = torch.zeros((), dtype=torch.float64, device=model.device)
    for first in range(0, validation.num_contexts, batch_size):
        size = min(batch_size, validation.num_contexts - first)
        nats += summed_loss(model, validation.batch(first, size))
    loss = nats.item() / validation.num_predicted
    if not math.isfinite(loss):
        raise InputError(f"validation: found a loss of {loss}, expected a finite number; {ADVICE}")
    return loss


def check_finite(unchecked: dict[int, Tensor]) -> None:
    """Look at losses and gradient norms since the last look, all at once; the steps themselves wait for nothing.

    Args:
        unchecked: Step -> (loss, gradient norm).

    Raises:
        InputError: One is not finite; its step is named.
    """
    measured = torch.stack(list(unchecked.values())).tolist()
    for step, (loss, gradient_norm) in zip(unchecked, measured, strict=True):
        if not math.isfinite(loss + gradient_norm):
            raise InputError(
                f"step {step}: found a loss of {loss} and a gradient norm of {gradient_norm}, expected finite numbers; "
                + ADVICE
            )
    unchecked.clear()


def identity(recipe: SlmRecipe, seed: int, stores: list[TokenStore], held_out: TokenStore) -> dict[str, Any]:
    """What decides a training's result."""
    only_looking = {"log_every", "checkpoint_every", "keep_checkpoints", "trackers"}
    return {
        "recipe": recipe.model_dump(mode="json", exclude={"training": only_looking}),
        "seed": seed,
        "tokens": [[store.corpus, sha256(store.folder / "tokens.bin")] for store in stores],
        "validation_tokens": [held_out.corpus, sha256(held_out.folder / "tokens.bin")],
    }


def main() -> None:
    """Train an OPT on token stores, or go on with a training."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument(
        "--tokens", type=Path, nargs="+", required=True, metavar="STORE", help="token stores to learn from"
    )
    parser.add_argument("--validation-tokens", type=Path, required=True, metavar="STORE", help="selects the checkpoint")
    parser.add_argument("--speakers", type=Path, nargs="+", default=[], metavar="CSV", help="who speaks in the stores")
    parser.add_argument("--validation-speakers", type=Path, metavar="CSV", help="who speaks in validation: others")
    parser.add_argument("--slm", required=True, help="name of the language model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument(
        "--output", type=Path, required=True, help="folder for model/, log.jsonl, checkpoints/, summary.json"
    )
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="save and stop after this time")
    given = parser.parse_args()
    recipe = load_settings(SlmRecipe, given.settings)
    if bool(given.speakers) != bool(given.validation_speakers):
        parser.error("--speakers and --validation-speakers: expected both or none")
    if given.speakers:
        heard = [speaker for table in given.speakers for speaker in read_genders(table)]
        require_other_speakers(heard, read_genders(given.validation_speakers), str(given.validation_speakers))
    *stores, held_out = open_stores([*given.tokens, given.validation_tokens])
    corpus = PackedCorpus(stores, recipe.model.context, given.seed)
    validation = PackedCorpus([held_out], recipe.model.context, given.seed)
    device = choose_device(given.device)
    with locked(given.output):
        set_aside_another(given.output, identity(recipe, given.seed, stores, held_out))
        model, summary = train(recipe, corpus, validation, given.output, given.seed, device, given.time_budget)
        save_model(model, given.output / "model")
        inputs = {str(store.folder): store.folder / "tokens.bin" for store in (*stores, held_out)}
        hours = [store.hours for store in stores if store.hours is not None]
        about = {
            "slm": given.slm,
            "corpus": "+".join(store.corpus for store in stores),
            "hours": sum(hours) if len(hours) == len(stores) else None,
            "vocab_size": held_out.vocab_size,
            "num_parameters": model.num_parameters(),
            "seed": given.seed,
            "packing": RULE,
            "provenance": provenance(recipe.model_dump(mode="json"), inputs, given.seed),
        }
        write_json(given.output / "summary.json", about | summary)


if __name__ == "__main__":
    run(main)
