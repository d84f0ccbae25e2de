"""Fine-tune an encoder by Spin: ``python -m units.spin.train --base encoders/hubert --settings config/spin/...``.

On several GPUs: the same command behind ``torchrun --nproc-per-node 8 -m`` or ``srun``; a batch is
shared out by rows, and the targets of all are made together. Started again, a training goes on from
its newest checkpoint and ends where it would have ended without the interruption, on the CPU bit for
bit: the seed and a step's number decide everything drawn at random.
"""

import argparse
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from artifacts.checkpoints import ADVICE, CheckpointWriter, load_newest_checkpoint, require_finite
from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_json
from artifacts.gradients import Gradients
from artifacts.interruption import Interruption, Stopped
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.record import Record
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from artifacts.workers import ALONE, Workers, together
from corpora.audio import SAMPLE_RATE_HZ
from corpora.manifest import read_manifest
from units.spin.batches import Batches, Views, read_ahead
from units.spin.model import Spin, load_base, write_spin
from units.spin.objective import Tally, swapped_prediction
from units.spin.settings import SpinRecipe, learning_rate
from units.weights import encoder_checksums


class Outcome(NamedTuple):
    """What a step was like, on the device."""

    tally: Tally
    """Before the step, of all workers."""
    gradient_norm: Tensor
    """Before clipping, ()."""


class Stepper:
    """A model with what it takes to train it; `spin` is on its device.

    Args:
        seed: Dropout follows from it.
        workers: All processes of the training; each has a copy of the model. Copies stay the same.
    """

    def __init__(self, spin: Spin, recipe: SpinRecipe, seed: int, workers: Workers = ALONE) -> None:
        self.spin, self.recipe, self.seed, self.workers = spin, recipe, seed, workers
        self._device = spin.head.weight.device
        learnt, settings = list(spin.learnt().values()), recipe.optimizer
        self._gradients = Gradients(learnt)
        self.optimizer = torch.optim.Adam(
            learnt, settings.learning_rate, settings.betas, settings.epsilon, settings.weight_decay, fused=True
        )

    def step(self, views: Views, step: int) -> Outcome:
        """One update by a batch of all workers.

        Args:
            views: This worker's rows.
            step: Number of steps done before this one; learning rate and dropout follow from it.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(step, self.recipe.optimizer)
        self._gradients.clear()
        self.spin.normalize_codebook()
        torch.manual_seed(seed_for(self.seed, "dropout", step, self.workers.rank))
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self.recipe.training.precision == "bfloat16"):
            cosines: Tensor = self.spin(views.to(self._device))
        half = len(cosines) // 2
        tally = swapped_prediction(cosines[:half], cosines[half:], self.recipe.model, self.workers)
        tally.loss.backward()  # type: ignore[no-untyped-call]
        tally = tally.exchange(self.workers)
        self.workers.add_up(self._gradients.vector)
        norm = self._gradients.average_and_clip(tally.num_frames, self.recipe.optimizer.clip_norm)
        self.optimizer.step()
        return Outcome(tally, norm)


def train(
    spin: Spin,
    recipe: SpinRecipe,
    batches: Batches,
    folder: Path,
    seed: int,
    workers: Workers = ALONE,
    time_budget_s: float | None = None,
) -> dict[str, Any]:
    """Train, or go on with the training in `folder`.

    Args:
        spin: On its device; it is changed.
        folder: Holds `log.jsonl` and `checkpoints/`.
        workers: All processes of the training; the first writes.
        time_budget_s: Seconds after which to save and stop.

    Returns:
        A summary: steps, hours of audio seen (in one view), wall seconds (of all runs), number of devices.

    Raises:
        InputError: An audio file is not what the manifest says, a loss or a weight is not finite, or the training
            in `folder` is already past the recipe's last step.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    every, num_steps = recipe.training, recipe.num_steps
    stepper = Stepper(spin, recipe, seed, workers)
    start, samples_before, seconds_before = _go_on(stepper, folder / "checkpoints", num_steps)
    began = time.monotonic()
    num_samples = 0  # this worker's, since `start`
    unchecked: dict[int, tuple[Outcome, list[str]]] = {}

    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption(time_budget_s))
        writer = CheckpointWriter(folder / "checkpoints", every.keep_checkpoints)
        if workers.is_first:
            checkpoints = stack.enter_context(writer)
        record = Record(
            "fine-tune", folder, recipe, start=start, steps=num_steps, seen=samples_before, speaks=workers.is_first
        )
        stack.enter_context(record)

        def save(done: int) -> None:
            _check_finite(unchecked)
            require_finite(spin.learnt(), done)
            total = samples_before + int(workers.total(num_samples))
            if workers.is_first:
                state = {
                    "step": done,
                    "num_samples": total,
                    "seconds": seconds_before + time.monotonic() - began,
                    "learnt": spin.learnt(),
                    "optimizer": stepper.optimizer.state_dict(),
                }
                checkpoints.save(done, state)

        for step, views in enumerate(read_ahead(batches, range(start, num_steps)), start):
            outcome = stepper.step(views, step)
            done = step + 1
            num_samples += views.original.size
            unchecked[done] = outcome, views.fileids
            if done % every.log_every == 0 or done == num_steps:
                _check_finite(unchecked)
                if workers.is_first:
                    line = {"split": "train", "step": done, **outcome.tally.figures()}
                    line["gradient_norm"] = outcome.gradient_norm.item()
                    line["learning_rate"] = learning_rate(step, recipe.optimizer)
                    record.training(line, f"loss {line['loss']:.3f}, agreement {line['agreement']:.2f}")
            stops = workers.any(interruption.requested is not None) and done < num_steps
            if stops or done % every.checkpoint_every == 0 or done == num_steps:
                save(done)
            record.step_done()
            if stops:
                if workers.is_first:
                    checkpoints.wait()
                workers.wait()  # the first that ends has its launcher end the others, who may still be writing
                why = interruption.requested or "a signal to another worker"
                raise Stopped(f"stopped by {why} after step {done:,} of {num_steps:,}, saved: start again to go on")

    return {
        "steps": num_steps,
        "hours": (samples_before + int(workers.total(num_samples))) / SAMPLE_RATE_HZ / 3600,
        "seconds": seconds_before + time.monotonic() - began,
        "num_devices": workers.size,
    }


def _go_on(stepper: Stepper, folder: Path, num_steps: int) -> tuple[int, int, float]:
    """Take up the newest checkpoint, if there is one: its step, samples seen, seconds."""
    checkpoint = load_newest_checkpoint(folder)
    start = 0 if checkpoint is None else checkpoint["step"]
    if stepper.workers.total(start) != start * stepper.workers.size:
        raise InputError(f"{folder}: workers found different checkpoints, expected a shared folder")
    if start > num_steps:
        raise InputError(f"{folder}: found a training of {start} steps, expected at most {num_steps}")
    if checkpoint is None:
        return 0, 0, 0.0
    with torch.no_grad():
        for name, parameter in stepper.spin.learnt().items():
            parameter.copy_(checkpoint["learnt"][name])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])
    return start, checkpoint["num_samples"], checkpoint["seconds"]


def _check_finite(unchecked: dict[int, tuple[Outcome, list[str]]]) -> None:
    """Look at the steps since the last look, all at once; the steps themselves wait for nothing.

    Raises:
        InputError: The loss of one or its gradient is not finite; the step and its batch's files are named.
    """
    if not unchecked:
        return
    finite = torch.stack([o.tally.loss + o.gradient_norm for o, _ in unchecked.values()]).isfinite().tolist()
    for (number, (outcome, fileids)), is_finite in zip(unchecked.items(), finite, strict=True):
        if not is_finite:
            loss, norm = outcome.tally.loss / outcome.tally.num_frames, outcome.gradient_norm
            raise InputError(
                f"step {number}: found a loss of {loss:.4g} with a gradient of norm {norm:.4g}, "
                f"expected finite numbers; {ADVICE}; the batch's files are {', '.join(fileids)}"
            )
    unchecked.clear()


def main() -> None:
    """Fine-tune a HuBERT, a WavLM or a SpidR by Spin, or go on with it."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--base", type=Path, required=True, help="encoder folder of what is fine-tuned")
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="MANIFEST", help="speech to learn from")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--output", type=Path, required=True, help="encoder folder")
    parser.add_argument("--time-budget", type=float, metavar="SECONDS", help="save and stop after this time")
    arguments = parser.parse_args()
    recipe = load_settings(SpinRecipe, arguments.settings)
    with together() as workers:
        _train_and_write(recipe, arguments, workers)


def _train_and_write(recipe: SpinRecipe, given: argparse.Namespace, workers: Workers) -> None:
    folder = given.output / "training"
    utterances = [utterance for path in given.train for utterance in read_manifest(path)]
    batches = Batches(utterances, recipe, given.seed, workers)
    if batches.num_short and workers.is_first:
        shortest = recipe.batches.min_samples
        print(f"{batches.num_short} of {len(utterances)} utterances are left out: shorter than {shortest} samples")
    device = choose_device(given.device)
    spin = Spin(load_base(given.base), recipe.model, given.seed).to(device)
    settings = recipe.model_dump(mode="json")
    with ExitStack() as stack:
        if workers.is_first:
            stack.enter_context(locked(folder))
            made_from = {
                "base": encoder_checksums(given.base),
                "manifests": [sha256(path) for path in given.train],
            }
            decisive = {**settings, "training": {"precision": recipe.training.precision}}
            set_aside_another(folder, {"recipe": decisive, "seed": given.seed, **made_from})
        workers.wait()  # until an earlier training is out of the way
        summary = train(spin, recipe, batches, folder, given.seed, workers, given.time_budget)
        if workers.is_first:
            write_json(folder / "summary.json", summary)
            inputs = {"base": given.base} | {str(path): path for path in given.train}
            write_spin(given.output, spin, provenance(settings, inputs, given.seed))


if __name__ == "__main__":
    run(main)
