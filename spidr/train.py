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
from itertools import batched
from pathlib import Path
from typing import Any

from artifacts.checkpoints import require_finite
from artifacts.device import choose_device
from artifacts.errors import run
from artifacts.files import sha256, write_json
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from artifacts.training import Training
from artifacts.workers import Workers, together
from corpora.manifest import read_manifest
from corpora.speakers import require_other_speakers
from spidr.batches import Batch, Batches, name_left_out, prefetch
from spidr.encoder import write_encoder
from spidr.learner import build_learner
from spidr.schedules import learning_rate, teacher_decay
from spidr.settings import SAMPLE_RATE_HZ, Recipe
from spidr.step import Stepper
from spidr.validation import figures, name_figures, validate, warn_of_collapse


def train(
    stepper: Stepper, speech: Batches, validation: Batches, folder: Path, time_budget_s: float | None = None
) -> dict[str, Any]:
    """Train, or go on with the training in `folder`.

    Args:
        stepper: The model as it is before the first step; it is changed.
        speech: To learn from.
        validation: To validate on.
        folder: Holds `log.jsonl` and `checkpoints/`.
        time_budget_s: Seconds after which to save and stop.

    Returns:
        A summary: steps, samples in a step on average, hours of audio seen, utterances left out as bad
        (as often as they were met), wall seconds (of all runs), device, number of them.

    Raises:
        InputError: An audio file is not what the manifest says, a loss or a weight is not finite, or the
            training in `folder` is already past the recipe's last step.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    learner, recipe, workers = stepper.learner, stepper.recipe, stepper.workers
    device, every = learner.mask_embedding.device, recipe.training
    training = Training("train", folder, recipe, recipe.num_steps, "num_samples", workers, time_budget_s)
    left_out_before = _go_on(stepper, training)
    num_left_out = 0  # this worker's, since then

    def state(done: int) -> dict[str, Any]:
        require_finite(learner.state_dict(), done)
        return {
            "num_left_out": left_out_before + int(workers.total(num_left_out)),
            "learner": learner.state_dict(),
            "optimizer": stepper.optimizer.state_dict(),
        }

    with training:
        for step, batches in training.steps(_shares(speech, stepper, training.start), state):
            outcome = stepper.step(batches, step)
            fileids = [fileid for batch in batches for fileid in batch.fileids]
            num_samples = sum(batch.waveforms.numel() for batch in batches)
            training.learned(num_samples, outcome.objective.loss, outcome.gradient_norm, fileids)
            num_left_out += name_left_out(batches)
            done = step + 1

            if training.due(every.log_every):
                training.check()
                measured = name_figures(figures(outcome.objective), recipe.model.codebook_layers)
                line = {"split": "train", "step": done, **measured}
                line["gradient_norm"] = outcome.gradient_norm.item()
                line["learning_rate"] = learning_rate(step, recipe.optimizer)
                line["teacher_decay"] = teacher_decay(step, recipe.teacher)  # null where it is frozen
                samples_per_s, line["waited_for_data"] = training.record.speed(training.seen())
                line["audio_s_per_s"] = samples_per_s / SAMPLE_RATE_HZ
                training.record.training(line, _note(line))

            if training.due(every.validate_every):
                training.check()
                paused = time.monotonic()
                line = {"split": "validation", "step": done, **validate(learner, validation, device, workers)}
                training.record.evaluation(line, time.monotonic() - paused)
                if workers.is_first:
                    warn_of_collapse(line, done, recipe.model.codebook_size)

    num_samples = training.seen()
    return training.summary(device) | {
        "samples_per_step": num_samples / max(recipe.num_steps, 1),
        "hours": num_samples / SAMPLE_RATE_HZ / 3600,
        "utterances_left_out": left_out_before + int(workers.total(num_left_out)),
    }


def _go_on(stepper: Stepper, training: Training) -> int:
    """Take up the newest checkpoint, if there is one: how many utterances were left out before it."""
    checkpoint = training.resume()
    if checkpoint is None:
        return 0
    stepper.learner.load_state_dict(checkpoint["learner"])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])
    num_left_out: int = checkpoint["num_left_out"]
    return num_left_out


def _shares(speech: Batches, stepper: Stepper, start: int) -> Iterator[tuple[Batch, ...]]:
    """This worker's share of the batches of each step from `start` on."""
    per_step, num_steps = stepper.recipe.batches.batches_per_step, stepper.recipe.num_steps
    numbers = (step * per_step + index for step in range(start, num_steps) for index in stepper.share)
    return batched(prefetch(speech, numbers, stepper.learner.mask_embedding.device), len(stepper.share))


def _note(line: dict[str, Any]) -> str:
    """A line of the log in few words."""
    codebooks, predictions = (
        sum(line[key].values()) / len(line[key]) for key in ("codebook_perplexity", "prediction_perplexity")
    )
    speed = f"{line['audio_s_per_s']:.3g} s of audio a second"
    return f"loss {line['loss']:.3f}, perplexity {codebooks:.3g} and {predictions:.3g}, {speed}"


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
    speech = Batches(utterances, recipe, seed)
    validation = Batches(held_out, recipe, seed_for(seed, "validation"))
    for what, batches, given in (("training", speech, utterances), ("validation", validation, held_out)):
        if batches.num_short and workers.is_first:
            shortest = f"shorter than {recipe.batches.min_samples} samples"
            print(f"{batches.num_short} of {len(given)} utterances for {what} are left out: {shortest}")
    learner = build_learner(recipe.model, seed).to(choose_device(arguments.device)).train()
    stepper = Stepper(learner, recipe, seed, workers)
    settings = recipe.model_dump(mode="json")
    with ExitStack() as stack:
        if workers.is_first:
            stack.enter_context(locked(folder))
            manifests = [sha256(path) for path in arguments.train]
            decisive = {**settings, "training": {"precision": recipe.training.precision}}
            set_aside_another(folder, {"recipe": decisive, "seed": seed, "manifests": manifests})
        workers.wait()  # until an earlier training is out of the way
        summary = train(stepper, speech, validation, folder, arguments.time_budget)
        if workers.is_first:
            write_json(folder / "summary.json", summary)
            inputs = {str(path): path for path in (*arguments.train, arguments.validation)}
            write_encoder(arguments.output, learner, provenance(settings, inputs, seed))


if __name__ == "__main__":
    run(main)
