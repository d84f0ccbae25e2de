"""Train SpidR or DinoSR: ``python -m spidr.train --settings config/spidr/base.yaml --train M.csv ...``.

Started again, a training goes on from its newest checkpoint and ends where it would have ended
without the interruption, on the CPU bit for bit: the seed and the step decide everything drawn at
random, so a checkpoint holds no generator's state and no place in the data but the step.
"""

import argparse
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch

from artifacts.checkpoints import ADVICE, load_newest_checkpoint, require_finite, save_checkpoint
from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_json
from artifacts.lock import locked, set_aside_another
from artifacts.log import Log
from artifacts.progress import Progress
from artifacts.provenance import provenance
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from corpora.manifest import read_manifest
from spidr.batches import Batches, prefetch
from spidr.encoder import write_encoder
from spidr.learner import SpidR, build_learner
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import SAMPLE_RATE_HZ, Recipe
from spidr.step import build_optimizer, to_device, training_step
from spidr.validation import figures, name_figures, validate, warn_of_collapse


class Unchecked(NamedTuple):
    """A step whose loss nobody has looked at yet."""

    fileids: list[str]
    loss: torch.Tensor
    gradient_norm: torch.Tensor


def train(
    recipe: Recipe, training: Batches, validation: Batches, folder: Path, seed: int, device: torch.device
) -> tuple[SpidR, dict[str, Any]]:
    """Train, or go on with the training in `folder`.

    Args:
        folder: Holds `log.jsonl` and `checkpoints/`.

    Returns:
        The model, and a summary: steps, samples in a step on average, hours of audio seen, wall seconds
        (of all runs), device.

    Raises:
        InputError: An audio file is not what the manifest says, a loss or a weight is not finite, or
            the training in `folder` is already past the recipe's last step.
    """
    every, num_steps = recipe.training, recipe.num_steps
    learner = build_learner(recipe.model, seed).to(device).train()
    optimizer = build_optimizer(learner, recipe.optimizer)
    start, num_samples, seconds_before = 0, 0, 0.0
    checkpoint = load_newest_checkpoint(folder / "checkpoints")
    if checkpoint is not None:
        learner.load_state_dict(checkpoint["learner"])
        optimizer.load_state_dict(checkpoint["optimizer"])
        start, num_samples, seconds_before = (checkpoint[key] for key in ("step", "num_samples", "seconds"))
    if start > num_steps:
        raise InputError(f"{folder / 'checkpoints'}: found a training of {start} steps, expected at most {num_steps}")
    began = time.monotonic()
    unchecked: dict[int, Unchecked] = {}
    samples_at_line, time_at_line = num_samples, began
    note = ""

    with Log(folder / "log.jsonl", start) as log, Progress("train", num_steps, "steps", start) as progress:
        for step, batch in enumerate(prefetch(training, range(start, num_steps)), start):
            objective, gradient_norm = training_step(learner, optimizer, *to_device(batch, device), recipe, seed, step)
            done = step + 1
            num_samples += batch.waveforms.size
            unchecked[done] = Unchecked(batch.fileids, objective.loss.detach(), gradient_norm)

            if done % every.log_every == 0 or done == num_steps:
                check_finite(unchecked)
                measured = name_figures(figures(objective), recipe.model.codebook_layers)
                line = {"split": "train", "step": done, **measured}
                line["gradient_norm"] = gradient_norm.item()
                line["learning_rate"] = learning_rate(step, recipe.optimizer)
                line["teacher_decay"] = teacher_decay(step, recipe.teacher)  # null where it is frozen
                now = time.monotonic()
                line["audio_s_per_s"] = (num_samples - samples_at_line) / SAMPLE_RATE_HZ / (now - time_at_line)
                samples_at_line, time_at_line = num_samples, now
                log.write(line)
                note = f"loss {line['loss']:.3f}"

            if done % every.validate_every == 0 or done == num_steps:
                check_finite(unchecked)
                paused = time.monotonic()
                line = {"split": "validation", "step": done, **validate(learner, validation, device)}
                log.write(line)
                warn_of_collapse(line, done, recipe.model.codebook_size)
                time_at_line += time.monotonic() - paused

            if done % every.checkpoint_every == 0 or done == num_steps:
                check_finite(unchecked)
                require_finite(learner.state_dict(), done)
                state = {
                    "step": done,
                    "num_samples": num_samples,
                    "seconds": seconds_before + time.monotonic() - began,
                    "learner": learner.state_dict(),
                    "optimizer": optimizer.state_dict(),
                }
                save_checkpoint(folder / "checkpoints", done, state, every.keep_checkpoints)
            progress.advance(note=note)

    summary = {
        "steps": num_steps,
        "samples_per_step": num_samples / max(num_steps, 1),
        "hours": num_samples / SAMPLE_RATE_HZ / 3600,
        "seconds": seconds_before + time.monotonic() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }
    return learner, summary


def check_finite(unchecked: dict[int, Unchecked]) -> None:
    """Look at the steps since the last look, all at once; the steps themselves wait for nothing.

    Raises:
        InputError: The loss of one or its gradient is not finite; the step and its batch's files are named.
    """
    if not unchecked:
        return
    finite = torch.stack([step.loss + step.gradient_norm for step in unchecked.values()]).isfinite().tolist()
    for (number, step), is_finite in zip(unchecked.items(), finite, strict=True):
        if not is_finite:
            raise InputError(
                f"step {number}: found a loss of {step.loss:.4g} with a gradient of norm {step.gradient_norm:.4g}, "
                f"expected finite numbers; {ADVICE}; the batch's files are {', '.join(step.fileids)}"
            )
    unchecked.clear()


def main() -> None:
    """Parse the command line, train, write the encoder."""
    parser = argparse.ArgumentParser(description="Train SpidR or DinoSR, or go on with a training.")
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument("--train", type=Path, nargs="+", default=[], metavar="MANIFEST", help="speech to learn from")
    parser.add_argument("--validation", type=Path, metavar="MANIFEST", help="speech to validate on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, required=True, help="encoder folder")
    parser.add_argument("--untrained", action="store_true", help="write the encoder as it is before the first step")
    arguments = parser.parse_args()
    recipe = load_settings(Recipe, arguments.settings)
    settings = recipe.model_dump(mode="json")
    if arguments.untrained:
        learner = build_learner(recipe.model, arguments.seed)
        write_encoder(arguments.output, learner, provenance(settings, {}, arguments.seed))
        return
    if not arguments.train or arguments.validation is None:
        parser.error("--train and --validation are needed, unless --untrained is given")

    folder = arguments.output / "training"
    utterances = [utterance for path in arguments.train for utterance in read_manifest(path)]
    training = Batches(utterances, recipe, arguments.seed)
    validation = Batches(read_manifest(arguments.validation), recipe, seed_for(arguments.seed, "validation"))
    if training.num_short:
        shortest = recipe.batches.min_samples
        print(f"{training.num_short} of {len(utterances)} utterances are left out: shorter than {shortest} samples")
    device = choose_device(arguments.device)
    with locked(folder):
        manifests = [sha256(path) for path in arguments.train]
        decisive = {**settings, "training": {"precision": recipe.training.precision}}
        set_aside_another(folder, {"recipe": decisive, "seed": arguments.seed, "manifests": manifests})
        learner, summary = train(recipe, training, validation, folder, arguments.seed, device)
        write_json(folder / "summary.json", summary)
        inputs = {str(path): path for path in (*arguments.train, arguments.validation)}
        write_encoder(arguments.output, learner, provenance(settings, inputs, arguments.seed))


if __name__ == "__main__":
    run(main)
