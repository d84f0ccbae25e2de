"""Fine-tune an encoder by Spin: ``python -m units.spin.train --base encoders/hubert --settings config/spin/...``.

On several GPUs: the same command behind ``torchrun --nproc-per-node 8 -m`` or ``srun``; a batch is
shared out by rows, and the targets of all are made together. Started again, a training goes on from
its newest checkpoint and ends where it would have ended without the interruption, on the CPU bit for
bit: the seed and a step's number decide everything drawn at random.
"""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from artifacts.checkpoints import require_finite
from artifacts.device import choose_device
from artifacts.errors import run
from artifacts.files import sha256, write_json
from artifacts.gradients import Gradients
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.seeds import seed_for
from artifacts.settings import load_settings
from artifacts.training import Training
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


def train(stepper: Stepper, batches: Batches, folder: Path, time_budget_s: float | None = None) -> dict[str, Any]:
    """Train, or go on with the training in `folder`.

    Args:
        stepper: The model as it is before the first step; it is changed.
        folder: Holds `log.jsonl` and `checkpoints/`.
        time_budget_s: Seconds after which to save and stop.

    Returns:
        A summary: steps, hours of audio seen (in one view), wall seconds (of all runs), number of devices.

    Raises:
        InputError: An audio file is not what the manifest says, a loss or a weight is not finite, or the training
            in `folder` is already past the recipe's last step.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    spin, recipe, workers = stepper.spin, stepper.recipe, stepper.workers
    every, num_steps = recipe.training, recipe.num_steps
    training = Training("fine-tune", folder, recipe, num_steps, "num_samples", workers, time_budget_s)
    _go_on(stepper, training)

    def state(done: int) -> dict[str, Any]:
        require_finite(spin.learnt(), done)
        return {"learnt": spin.learnt(), "optimizer": stepper.optimizer.state_dict()}

    with training:
        for step, views in training.steps(read_ahead(batches, range(training.start, num_steps)), state):
            outcome = stepper.step(views, step)
            loss = outcome.tally.loss / outcome.tally.num_frames
            training.learned(views.original.size, loss, outcome.gradient_norm, views.fileids)

            if training.due(every.log_every):
                training.check()
                samples_per_s, waited = training.record.speed(training.seen())
                if workers.is_first:
                    line = {"split": "train", "step": step + 1, **outcome.tally.figures()}
                    line["gradient_norm"] = outcome.gradient_norm.item()
                    line["learning_rate"] = learning_rate(step, recipe.optimizer)
                    line["audio_s_per_s"], line["waited_for_data"] = samples_per_s / SAMPLE_RATE_HZ, waited
                    note = f"loss {line['loss']:.3f}, agreement {line['agreement']:.2f}"
                    training.record.training(line, f"{note}, {line['audio_s_per_s']:.3g} s of audio a second")

    return training.summary(spin.head.weight.device) | {"hours": training.seen() / SAMPLE_RATE_HZ / 3600}


def _go_on(stepper: Stepper, training: Training) -> None:
    """Take up the newest checkpoint, if there is one."""
    checkpoint = training.resume()
    if checkpoint is None:
        return
    with torch.no_grad():
        for name, parameter in stepper.spin.learnt().items():
            parameter.copy_(checkpoint["learnt"][name])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])


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
    stepper = Stepper(spin, recipe, given.seed, workers)
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
        summary = train(stepper, batches, folder, given.time_budget)
        if workers.is_first:
            write_json(folder / "summary.json", summary)
            inputs = {"base": given.base} | {str(path): path for path in given.train}
            write_spin(given.output, spin, provenance(settings, inputs, given.seed))


if __name__ == "__main__":
    run(main)
