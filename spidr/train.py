"""Train SpidR or DinoSR: ``python -m spidr.train --settings config/spidr/base.yaml --train M.csv ...``.

On several GPUs: the same command behind ``torchrun --nproc-per-node 8 -m`` or ``srun``. Started
again, a training goes on from its newest checkpoint and ends where it would have ended without the
interruption, on the CPU bit for bit: the seed and a batch's number decide everything drawn at
random, so a checkpoint holds no generator's state and no place in the data but the step.
"""

import argparse
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch

from artifacts.checkpoints import ADVICE, CheckpointWriter, load_newest_checkpoint, require_finite
from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_json
from artifacts.interruption import Interruption, Stopped
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.record import Record
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from artifacts.workers import ALONE, Workers, together
from corpora.manifest import read_manifest
from corpora.speakers import require_other_speakers
from spidr.batches import Batch, Batches, name_left_out, prefetch
from spidr.encoder import write_encoder
from spidr.learner import SpidR, build_learner
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import SAMPLE_RATE_HZ, Recipe
from spidr.step import Outcome, Stepper
from spidr.validation import figures, name_figures, validate, warn_of_collapse


class Unchecked(NamedTuple):
    """A step whose loss nobody has looked at yet."""

    fileids: list[str]
    outcome: Outcome


def train(
    recipe: Recipe,
    training: Batches,
    validation: Batches,
    folder: Path,
    seed: int,
    device: torch.device,
    workers: Workers = ALONE,
    time_budget_s: float | None = None,
) -> tuple[SpidR, dict[str, Any]]:
    """Train, or go on with the training in `folder`.

    Args:
        folder: Holds `log.jsonl` and `checkpoints/`.
        workers: All processes of the training; the first writes.
        time_budget_s: Seconds after which to save and stop.

    Returns:
        The model, and a summary: steps, samples in a step on average, hours of audio seen, utterances
        left out as bad (as often as they were met), wall seconds (of all runs), device, number of them.

    Raises:
        InputError: An audio file is not what the manifest says, a loss or a weight is not finite, the
            training in `folder` is already past the recipe's last step, or the batches of a step cannot
            be shared out evenly.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    every, num_steps = recipe.training, recipe.num_steps
    learner = build_learner(recipe.model, seed).to(device).train()
    stepper = Stepper(learner, recipe, seed, workers)
    start, samples_before, left_out_before, seconds_before = _go_on(stepper, folder, num_steps)
    began = time.monotonic()
    num_samples = num_left_out = 0  # this worker's, since `start`
    unchecked: dict[int, Unchecked] = {}

    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption(time_budget_s))
        record = Record(
            "train", folder, recipe, start=start, steps=num_steps, seen=samples_before, speaks=workers.is_first
        )
        stack.enter_context(record)
        writer = CheckpointWriter(folder / "checkpoints", every.keep_checkpoints)
        checkpoints = stack.enter_context(writer) if workers.is_first else None

        def save(done: int) -> None:
            check_finite(unchecked)
            require_finite(learner.state_dict(), done)
            totals = workers.total(num_samples), workers.total(num_left_out)
            if checkpoints is not None:
                state = {
                    "step": done,
                    "num_samples": samples_before + int(totals[0]),
                    "num_left_out": left_out_before + int(totals[1]),
                    "seconds": seconds_before + time.monotonic() - began,
                    "learner": learner.state_dict(),
                    "optimizer": stepper.optimizer.state_dict(),
                }
                checkpoints.save(done, state)

        for step, batches in _shares(training, range(start, num_steps), device, workers, record):
            outcome = stepper.step(batches, step)
            done = step + 1
            num_samples += sum(batch.waveforms.numel() for batch in batches)
            num_left_out += name_left_out(batches)
            fileids = [fileid for batch in batches for fileid in batch.fileids]
            unchecked[done] = Unchecked(fileids, outcome)

            if done % every.log_every == 0 or done == num_steps:
                check_finite(unchecked)
                measured = name_figures(figures(outcome.objective), recipe.model.codebook_layers)
                line = {"split": "train", "step": done, **measured}
                line["gradient_norm"] = outcome.gradient_norm.item()
                line["learning_rate"] = learning_rate(step, recipe.optimizer)
                line["teacher_decay"] = teacher_decay(step, recipe.teacher)  # null where it is frozen
                samples_per_s, line["waited_for_data"] = record.speed(samples_before + int(workers.total(num_samples)))
                line["audio_s_per_s"] = samples_per_s / SAMPLE_RATE_HZ
                record.training(line, _note(line))

            if done % every.validate_every == 0 or done == num_steps:
                check_finite(unchecked)
                paused = time.monotonic()
                line = {"split": "validation", "step": done, **validate(learner, validation, device, workers)}
                record.evaluation(line, time.monotonic() - paused)
                if workers.is_first:
                    warn_of_collapse(line, done, recipe.model.codebook_size)

            stops = workers.any(interruption.requested is not None) and done < num_steps
            if stops or done % every.checkpoint_every == 0 or done == num_steps:
                save(done)
            record.step_done()
            if stops:
                if checkpoints is not None:
                    checkpoints.wait()
                workers.wait()  # the first that ends has its launcher end the others, who may still be writing
                why = interruption.requested or "a signal to another worker"
                raise Stopped(f"stopped by {why} after step {done:,} of {num_steps:,}, saved: start again to go on")

    num_samples = samples_before + int(workers.total(num_samples))
    summary = {
        "steps": num_steps,
        "samples_per_step": num_samples / max(num_steps, 1),
        "hours": num_samples / SAMPLE_RATE_HZ / 3600,
        "utterances_left_out": left_out_before + int(workers.total(num_left_out)),
        "seconds": seconds_before + time.monotonic() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "num_devices": workers.size,
    }
    return learner, summary


def _go_on(stepper: Stepper, folder: Path, num_steps: int) -> tuple[int, int, int, float]:
    """Take up the newest checkpoint, if there is one: its step, samples seen, utterances left out, seconds."""
    checkpoint = load_newest_checkpoint(folder / "checkpoints")
    start = 0 if checkpoint is None else checkpoint["step"]
    if stepper.workers.total(start) != start * stepper.workers.size:
        raise InputError(f"{folder / 'checkpoints'}: workers found different checkpoints, expected a shared folder")
    if start > num_steps:
        raise InputError(f"{folder / 'checkpoints'}: found a training of {start} steps, expected at most {num_steps}")
    if checkpoint is None:
        return 0, 0, 0, 0.0
    stepper.learner.load_state_dict(checkpoint["learner"])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])
    return start, checkpoint["num_samples"], checkpoint["num_left_out"], checkpoint["seconds"]


def _shares(
    training: Batches, steps: range, device: torch.device, workers: Workers, record: Record
) -> Iterator[tuple[int, list[Batch]]]:
    """Each step with this worker's share of its batches."""
    per_step = training.recipe.batches.batches_per_step
    mine = workers.share_of(per_step, "batches.batches_per_step")
    stream = prefetch(training, (step * per_step + index for step in steps for index in mine), device)
    for step in steps:
        asked = time.monotonic()
        batches = [next(stream) for _ in mine]
        record.waited(time.monotonic() - asked)
        yield step, batches


def _note(line: dict[str, Any]) -> str:
    """A line of the log in few words."""
    codebooks, predictions = (
        sum(line[key].values()) / len(line[key]) for key in ("codebook_perplexity", "prediction_perplexity")
    )
    speed = f"{line['audio_s_per_s']:.3g} s of audio a second"
    return f"loss {line['loss']:.3f}, perplexity {codebooks:.3g} and {predictions:.3g}, {speed}"


def check_finite(unchecked: dict[int, Unchecked]) -> None:
    """Look at the steps since the last look, all at once; the steps themselves wait for nothing.

    Raises:
        InputError: The loss of one or its gradient is not finite; the step and its batches' files are named.
    """
    if not unchecked:
        return
    outcomes = [step.outcome for step in unchecked.values()]
    finite = torch.stack([o.objective.loss + o.gradient_norm for o in outcomes]).isfinite().tolist()
    for (number, step), is_finite in zip(unchecked.items(), finite, strict=True):
        if not is_finite:
            loss, norm = step.outcome.objective.loss, step.outcome.gradient_norm
            raise InputError(
                f"step {number}: found a loss of {loss:.4g} with a gradient of norm {norm:.4g}, "
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
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="save and stop after this time")
    arguments = parser.parse_args()
    recipe = load_settings(Recipe, arguments.settings)
    if arguments.untrained:
        learner = build_learner(recipe.model, arguments.seed)
        write_encoder(arguments.output, learner, provenance(recipe.model_dump(mode="json"), {}, arguments.seed))
        return
    if not arguments.train or arguments.validation is None:
        parser.error("--train and --validation are needed, unless --untrained is given")
    with together() as workers:
        _train_and_write(recipe, arguments, workers)


def _train_and_write(recipe: Recipe, arguments: argparse.Namespace, workers: Workers) -> None:
    seed, folder = arguments.seed, arguments.output / "training"
    utterances = [utterance for path in arguments.train for utterance in read_manifest(path)]
    held_out = read_manifest(arguments.validation)
    heard = (utterance.speaker for utterance in utterances)
    require_other_speakers(heard, (utterance.speaker for utterance in held_out), str(arguments.validation))
    training = Batches(utterances, recipe, seed)
    validation = Batches(held_out, recipe, seed_for(seed, "validation"))
    for what, batches, given in (("training", training, utterances), ("validation", validation, held_out)):
        if batches.num_short and workers.is_first:
            shortest = f"shorter than {recipe.batches.min_samples} samples"
            print(f"{batches.num_short} of {len(given)} utterances for {what} are left out: {shortest}")
    device = choose_device(arguments.device)
    settings = recipe.model_dump(mode="json")
    with ExitStack() as stack:
        if workers.is_first:
            stack.enter_context(locked(folder))
            manifests = [sha256(path) for path in arguments.train]
            decisive = {**settings, "training": {"precision": recipe.training.precision}}
            set_aside_another(folder, {"recipe": decisive, "seed": seed, "manifests": manifests})
        workers.wait()  # until an earlier training is out of the way
        learner, summary = train(recipe, training, validation, folder, seed, device, workers, arguments.time_budget)
        if workers.is_first:
            write_json(folder / "summary.json", summary)
            inputs = {str(path): path for path in (*arguments.train, arguments.validation)}
            write_encoder(arguments.output, learner, provenance(settings, inputs, seed))


if __name__ == "__main__":
    run(main)
