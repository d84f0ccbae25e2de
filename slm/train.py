"""Train a language model on units: ``python -m slm.train --settings config/slm/opt-125m.yaml --tokens ...``.

On several GPUs: the same command behind ``torchrun --nproc-per-node 4 -m`` or ``srun``. Started again, a
training goes on from its newest checkpoint and ends where it would have ended without the interruption, on the
CPU bit for bit: the seed and a batch's number decide everything drawn at random, so a checkpoint holds no
generator's state and no place in the data but the step. SIGTERM, SIGUSR1, Ctrl-C or the end of a time budget
stop it after the step it is in, saved, with exit code 75.
"""

import argparse
import math
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from artifacts.checkpoints import ADVICE, CheckpointWriter, load_newest_checkpoint, require_finite
from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import write_json
from artifacts.interruption import Interruption, Stopped
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.record import Record
from artifacts.settings import load_settings
from artifacts.workers import ALONE, Workers, together
from corpora.speakers import read_genders, require_other_speakers
from slm.batches import TensorBatch, Way, prefetch
from slm.follow import Followed, pair_accuracy, read_followed
from slm.identity import identity
from slm.loss import require_chunks
from slm.model import build_model
from slm.packing import RULES, PackedCorpus
from slm.pretrained import save_model
from slm.settings import SlmRecipe
from slm.step import Stepper, choose_way, compile_blocks, learning_rate
from slm.store import FIRST_UNIT, open_stores, require_held_out
from slm.subsets import Subset, draw_subset, hours_of
from slm.validation import validate


def train(
    recipe: SlmRecipe,
    corpus: PackedCorpus,
    validation: PackedCorpus,
    folder: Path,
    seed: int,
    device: torch.device,
    workers: Workers = ALONE,
    time_budget_s: float | None = None,
    follow: Sequence[Followed] = (),
) -> tuple[PreTrainedModel, dict[str, Any]]:
    """Train, or go on with the training in `folder`.

    Args:
        folder: Holds `log.jsonl` and `checkpoints/`.
        workers: All processes of the training; the first writes.
        time_budget_s: Seconds after which to save and stop.
        follow: Evaluation sets whose accuracy is logged beside each validation; the training is the same without.

    Returns:
        The model with the weights of the lowest validation loss, and a summary: best step, its loss in
        nats per token, tokens predicted, epochs, wall seconds (of all runs), device, number of them.

    Raises:
        InputError: The recipe's model cannot be made, a loss or a weight is not finite, a tracker is not
            installed, or the batches of a step cannot be shared out evenly.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    every, num_steps = recipe.training, recipe.training.steps
    model = build_model(recipe.model, corpus.stores[0].vocab_size, seed).to(device)
    require_chunks(model, every.batch_size * recipe.model.context)
    stepper = Stepper(model, recipe, seed, workers)
    start, tokens_before, seconds_before, best = _go_on(stepper, folder)
    way = choose_way(model, recipe, device)
    if way == "blocks":
        compile_blocks(model)
    if workers.is_first:
        how = "compiled, attention by blocks" if way == "blocks" else "not compiled, attention by rows"
        print(f"network: {how}", file=sys.stderr)
    began = time.monotonic()
    num_predicted = 0  # this worker's, since `start`
    unchecked: dict[int, Tensor] = {}

    with ExitStack() as stack:
        interruption = stack.enter_context(Interruption(time_budget_s))
        record = Record(
            "train", folder, recipe, start=start, steps=num_steps, seen=tokens_before, speaks=workers.is_first
        )
        stack.enter_context(record)
        writer = CheckpointWriter(folder / "checkpoints", every.keep_checkpoints)
        checkpoints = stack.enter_context(writer) if workers.is_first else None

        def tokens_seen() -> int:
            return tokens_before + int(workers.total(num_predicted))

        for step, batches in _shares(corpus, stepper, range(start, num_steps), way, record):
            outcome = stepper.step(batches, step)
            done = step + 1
            num_predicted += sum(batch.num_predicted for batch in batches)
            unchecked[done] = torch.stack(outcome)
            logs, validates, saves = (
                done % interval == 0 or done == num_steps
                for interval in (every.log_every, every.validate_every, every.checkpoint_every)
            )
            stops = workers.any(interruption.requested is not None) and done < num_steps
            if logs or validates or saves or stops:
                check_finite(unchecked)

            if logs:
                line = {"split": "train", "step": done, "loss": outcome.loss.item()}
                line["gradient_norm"] = outcome.gradient_norm.item()
                line["learning_rate"] = learning_rate(step, num_steps, recipe.optimizer)
                line["tokens_seen"] = seen = tokens_seen()
                line["tokens_per_s"], line["waited_for_data"] = record.speed(seen)
                record.training(line, f"loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tokens a second")

            if validates:
                paused = time.monotonic()
                loss = validate(model, validation, every.batch_size, way, workers)
                record.evaluation({"split": "validation", "step": done, "loss": loss}, time.monotonic() - paused)
                if loss < best["loss"]:
                    weights = {name: weight.clone() for name, weight in model.state_dict().items()}
                    best = {"loss": loss, "step": done, "model": weights}
                for followed in follow if workers.is_first else ():
                    paused = time.monotonic()
                    accuracy = pair_accuracy(model, followed)
                    found = {"split": followed.name, "step": done, "accuracy": accuracy}
                    record.evaluation(found, time.monotonic() - paused)

            if saves or stops:
                require_finite(model.state_dict(), done)  # the losses were those before the update
                seen = tokens_seen()
                if checkpoints is not None:
                    state = {
                        "step": done,
                        "tokens_seen": seen,
                        "seconds": seconds_before + time.monotonic() - began,
                        "model": model.state_dict(),
                        "optimizer": stepper.optimizer.state_dict(),
                        "best": best,
                    }
                    checkpoints.save(done, state)
            record.step_done()
            if stops:
                if checkpoints is not None:
                    checkpoints.wait()
                workers.wait()  # the first that ends has its launcher end the others, who may still be writing
                why = interruption.requested or "a signal to another worker"
                raise Stopped(f"stopped by {why} after step {done:,} of {num_steps:,}, saved: start again to go on")

    model.load_state_dict(best["model"])
    contexts_seen = num_steps * every.batch_size * every.accumulation
    summary = {
        "steps": num_steps,
        "best_step": best["step"],
        "validation_loss": best["loss"],
        "tokens_seen": tokens_seen(),
        "epochs": contexts_seen / corpus.num_contexts,
        "wall_s": seconds_before + time.monotonic() - began,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "num_devices": workers.size,
    }
    return model, summary


def _go_on(stepper: Stepper, folder: Path) -> tuple[int, int, float, dict[str, Any]]:
    """Take up the newest checkpoint, if there is one: its step, tokens seen, seconds, and the best weights so far."""
    checkpoint = load_newest_checkpoint(folder / "checkpoints")
    start = 0 if checkpoint is None else checkpoint["step"]
    if stepper.workers.total(start) != start * stepper.workers.size:
        raise InputError(f"{folder / 'checkpoints'}: workers found different checkpoints, expected a shared folder")
    if checkpoint is None:
        return 0, 0, 0.0, {"loss": math.inf, "step": 0, "model": {}}
    stepper.model.load_state_dict(checkpoint["model"])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])
    return start, checkpoint["tokens_seen"], checkpoint["seconds"], checkpoint["best"]


def _shares(
    corpus: PackedCorpus, stepper: Stepper, steps: range, way: Way, record: Record
) -> Iterator[tuple[int, list[TensorBatch]]]:
    """Each step with this worker's share of its batches."""
    settings = stepper.recipe.training
    numbers = (step * settings.accumulation + index for step in steps for index in stepper.share)
    spans = ((number * settings.batch_size, settings.batch_size) for number in numbers)
    stream = prefetch(corpus, spans, way, stepper.model.device)
    for step in steps:
        asked = time.monotonic()
        batches = [next(stream) for _ in stepper.share]
        record.waited(time.monotonic() - asked)
        yield step, batches


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


def main() -> None:
    """Train a language model on token stores, or go on with a training."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--settings", required=True, help="recipe: a YAML file, or JSON")
    parser.add_argument(
        "--tokens", type=Path, nargs="+", required=True, metavar="STORE", help="token stores to learn from"
    )
    parser.add_argument("--validation-tokens", type=Path, required=True, metavar="STORE", help="selects the checkpoint")
    parser.add_argument("--speakers", type=Path, nargs="+", default=[], metavar="CSV", help="who speaks in the stores")
    parser.add_argument("--validation-speakers", type=Path, metavar="CSV", help="who speaks in validation: others")
    parser.add_argument(
        "--follow",
        action="append",
        default=[],
        metavar="NAME=UNITS.jsonl=ITEMS.csv",
        help="evaluation set whose pairs are scored beside each validation (repeatable)",
    )
    parser.add_argument("--slm", required=True, help="name of the language model")
    parser.add_argument("--corpus", help="what the stores are together, as scores say it; default: their names, by +")
    parser.add_argument("--hours", type=float, help="train on so many hours of the stores, all of them by default")
    parser.add_argument("--subset-seed", type=int, default=0, help="draws which hours; fewer lie within more")
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
    with together() as workers:
        _train_and_write(recipe, given, workers)


def _train_and_write(recipe: SlmRecipe, given: argparse.Namespace, workers: Workers) -> None:
    context, documents = recipe.model.context, recipe.training.documents
    *stores, held_out = open_stores([*given.tokens, given.validation_tokens])
    require_held_out(stores, held_out)
    subset = None if given.hours is None else Subset(given.hours, given.subset_seed)
    chosen = None if subset is None else draw_subset(stores, subset)
    corpus = PackedCorpus(stores, context, given.seed, chosen, together=documents == "together")
    validation = PackedCorpus([held_out], context, given.seed)
    num_units = held_out.vocab_size - FIRST_UNIT
    follow = [read_followed(text, num_units, context) for text in given.follow]
    device = choose_device(given.device)
    with ExitStack() as stack:
        if workers.is_first:
            stack.enter_context(locked(given.output))
            decides = identity(recipe, given.seed, stores, held_out, subset)
            set_aside_another(given.output, decides)
        workers.wait()  # until an earlier training is out of the way
        model, summary = train(
            recipe, corpus, validation, given.output, given.seed, device, workers, given.time_budget, follow
        )
        if not workers.is_first:
            return
        save_model(model, given.output / "model")
        inputs = {str(store.folder): store.folder / "tokens.bin" for store in (*stores, held_out)}
        about = {
            "slm": given.slm,
            "corpus": given.corpus or "+".join(store.corpus for store in stores),
            "hours": hours_of(stores, chosen),
            "vocab_size": held_out.vocab_size,
            "num_parameters": model.num_parameters(),
            "seed": given.seed,
            "init": decides["init"],
            "packing": RULES[documents],
            "provenance": provenance(recipe.model_dump(mode="json"), inputs, given.seed),
        }
        write_json(given.output / "summary.json", about | summary)


if __name__ == "__main__":
    run(main)
