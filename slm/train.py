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
from itertools import batched
from pathlib import Path
from typing import Any

from artifacts.checkpoints import require_finite
from artifacts.device import choose_device
from artifacts.errors import run
from artifacts.files import write_json
from artifacts.lock import locked, set_aside_another
from artifacts.provenance import provenance
from artifacts.settings import load_settings
from artifacts.training import Training
from artifacts.workers import Workers, together
from corpora.speakers import read_genders, require_other_speakers
from slm.batches import TensorBatch, Way, prefetch
from slm.follow import Followed, pair_accuracy, read_followed
from slm.identity import identity
from slm.model import build_model
from slm.packing import RULES, PackedCorpus
from slm.pretrained import save_model
from slm.settings import SlmRecipe
from slm.step import Stepper, choose_way, compile_blocks, learning_rate
from slm.store import FIRST_UNIT, open_stores, require_held_out
from slm.subsets import Subset, draw_subset, hours_of
from slm.validation import validate


def train(
    stepper: Stepper,
    corpus: PackedCorpus,
    validation: PackedCorpus,
    folder: Path,
    time_budget_s: float | None = None,
    follow: Sequence[Followed] = (),
) -> dict[str, Any]:
    """Train, or go on with the training in `folder`.

    Args:
        stepper: The model as it is before the first step; in the end it has the weights of the lowest validation loss.
        folder: Holds `log.jsonl` and `checkpoints/`.
        time_budget_s: Seconds after which to save and stop.
        follow: Evaluation sets whose accuracy is logged beside each validation; the training is the same without.

    Returns:
        A summary: best step, its loss in nats per token, tokens predicted, epochs, wall seconds (of all
        runs), device, number of them.

    Raises:
        InputError: A loss or a weight is not finite, or a tracker is not installed.
        Stopped: A signal or the time budget stopped the training; it is saved.
    """
    model, recipe, workers = stepper.model, stepper.recipe, stepper.workers
    every, num_steps = recipe.training, recipe.training.steps
    training = Training("train", folder, recipe, num_steps, "tokens_seen", workers, time_budget_s)
    best = _go_on(stepper, training)
    way = choose_way(model, recipe)
    if way == "blocks":
        compile_blocks(model)
    if workers.is_first:
        how = "compiled, attention by blocks" if way == "blocks" else "not compiled, attention by rows"
        print(f"network: {how}", file=sys.stderr)

    def state(done: int) -> dict[str, Any]:
        require_finite(model.state_dict(), done)  # the losses were those before the update
        return {"model": model.state_dict(), "optimizer": stepper.optimizer.state_dict(), "best": best}

    with training:
        record = training.record
        for step, batches in training.steps(_shares(corpus, stepper, training.start, way), state):
            outcome = stepper.step(batches, step)
            training.learned(sum(batch.num_predicted for batch in batches), outcome.loss, outcome.gradient_norm)
            done = step + 1

            if training.due(every.log_every):
                training.check()
                line = {"split": "train", "step": done, "loss": outcome.loss.item()}
                line["gradient_norm"] = outcome.gradient_norm.item()
                line["learning_rate"] = learning_rate(step, num_steps, recipe.optimizer)
                line["tokens_seen"] = seen = training.seen()
                line["tokens_per_s"], line["waited_for_data"] = record.speed(seen)
                record.training(line, f"loss {line['loss']:.3f}, {line['tokens_per_s']:,.0f} tokens a second")

            if training.due(every.validate_every):
                training.check()
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

    model.load_state_dict(best["model"])
    return training.summary(model.device) | {
        "best_step": best["step"],
        "validation_loss": best["loss"],
        "tokens_seen": training.seen(),
        "epochs": num_steps * every.batch_size * every.accumulation / corpus.num_contexts,
    }


def _go_on(stepper: Stepper, training: Training) -> dict[str, Any]:
    """Take up the newest checkpoint, if there is one: the best weights so far."""
    checkpoint = training.resume()
    if checkpoint is None:
        return {"loss": math.inf, "step": 0, "model": {}}
    stepper.model.load_state_dict(checkpoint["model"])
    stepper.optimizer.load_state_dict(checkpoint["optimizer"])
    best: dict[str, Any] = checkpoint["best"]
    return best


def _shares(corpus: PackedCorpus, stepper: Stepper, start: int, way: Way) -> Iterator[tuple[TensorBatch, ...]]:
    """This worker's share of the batches of each step from `start` on."""
    settings = stepper.recipe.training
    numbers = (step * settings.accumulation + index for step in range(start, settings.steps) for index in stepper.share)
    spans = ((number * settings.batch_size, settings.batch_size) for number in numbers)
    return batched(prefetch(corpus, spans, way, stepper.model.device), len(stepper.share))


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
    model = build_model(recipe.model, held_out.vocab_size, given.seed).to(choose_device(given.device))
    stepper = Stepper(model, recipe, given.seed, workers)
    with ExitStack() as stack:
        if workers.is_first:
            stack.enter_context(locked(given.output))
            decides = identity(recipe, given.seed, stores, held_out, subset)
            set_aside_another(given.output, decides)
        workers.wait()  # until an earlier training is out of the way
        summary = train(stepper, corpus, validation, given.output, given.time_budget, follow)
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
