"""Continue prompts of units: ``python -m slm.generate --model DIR --prompts units.jsonl --output continuations.jsonl``.

What a language model learned, to look at or to make audible. A unit is drawn from the model's distribution at a
temperature, cut to the `top_k` most likely tokens and to the smallest set of at least probability `top_p` (Holtzman et
al., 2020), as transformers does; EOS ends an utterance. What no document has is never drawn: PAD, a unit twice in a
row, EOS before any unit.

Every sample has a generator of its own, seeded by the seed, its prompt's fileid and its number: what is drawn depends
on no other prompt, and on the batch by rounding alone. It draws by the Gumbel-max trick: the largest of log p + g,
with g from a standard Gumbel distribution, is distributed as p.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers.generation.configuration_utils import GenerationConfig
from transformers.generation.logits_process import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import write_jsonl
from artifacts.progress import Progress
from artifacts.seeds import seed_for
from slm.likelihoods import BATCH_TOKENS, batches, context_of
from slm.pretrained import load_model
from slm.store import BOS, EOS, FIRST_UNIT, PAD, encode
from units.records import TextUnits, read_untimed_units


@dataclass(frozen=True, slots=True)
class Sampling:
    """How continuations are drawn."""

    temperature: float = 1.0
    """Divides the logits; 0 takes the most likely token always."""
    top_k: int = 0
    """How many of the most likely tokens may be drawn; 0 for all."""
    top_p: float = 1.0
    """Least probability of the set of most likely tokens that may be drawn; 1 for all."""
    max_new_units: int = 200
    """Most units of a continuation."""
    num_samples: int = 1
    """Continuations of a prompt."""
    seed: int = 0
    """With the prompt's fileid and the sample's number, decides what is drawn."""

    def check(self) -> None:
        """Refuse a number out of its range.

        Raises:
            InputError: It is named.
        """
        for name, found, valid, expected in (
            ("temperature", self.temperature, 0 <= self.temperature < float("inf"), "0 or more"),
            ("top-k", self.top_k, self.top_k >= 0, "0 or more"),
            ("top-p", self.top_p, 0 < self.top_p <= 1, "more than 0, at most 1"),
            ("max-new-units", self.max_new_units, self.max_new_units >= 1, "1 or more"),
            ("samples", self.num_samples, self.num_samples >= 1, "1 or more"),
        ):
            if not valid:
                raise InputError(f"--{name}: found {found}, expected {expected}")
        if self.temperature == 0 and self.num_samples > 1:
            raise InputError(f"--samples: found {self.num_samples}, expected 1: at temperature 0 all are the same")


class AsInDocuments(LogitsProcessor):  # type: ignore[misc]
    """No probability for PAD and for the last token again: no unit twice in a row, no EOS right after BOS."""

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits (rows, vocabulary) of what follows the tokens (rows, time)."""
        allowed = scores.scatter(1, input_ids[:, -1:], -torch.inf)
        allowed[:, PAD] = -torch.inf
        return allowed


class Drawn(LogitsProcessor):  # type: ignore[misc]
    """Adds Gumbel noise to each row from the row's own generator, so that the largest logit is drawn at random."""

    def __init__(self, seeds: Sequence[int]) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """The logits (rows, vocabulary) and noise."""
        waits = [torch.empty(scores.shape[1]).exponential_(generator=draw) for draw in self.generators]
        return scores - torch.stack(waits).log().to(scores.device)


@dataclass(frozen=True, slots=True)
class Continuation:
    """One utterance, begun by a prompt and continued by the model."""

    fileid: str
    units: list[int]
    """The prompt's and the new ones."""
    num_prompt_units: int
    ended: bool
    """By EOS; else it was cut at the most new units."""


def read_prompts(path: Path, num_units: int, most_units: int | None) -> dict[str, list[int]]:
    """The beginnings of the utterances of a file of units, by fileid.

    Args:
        most_units: Units of a prompt, of an utterance that has as many; None for the whole utterance.

    Raises:
        InputError: No utterance, or one without units, with a unit that the model does not know, or of text.
    """
    prompts = {}
    for sequence in read_untimed_units(path):
        if isinstance(sequence, TextUnits):
            raise InputError(f"{path}: {sequence.fileid}: found a text, expected the units of speech")
        encode(sequence.units, num_units, f"{path}: {sequence.fileid}")
        prompts[sequence.fileid] = sequence.units[:most_units]
    if not prompts:
        raise InputError(f"{path}: found no utterance, expected at least one")
    return prompts


def processors(sampling: Sampling, seeds: Sequence[int]) -> LogitsProcessorList:
    """What is done to the logits before the largest is taken."""
    made: list[Any] = [AsInDocuments()]
    if sampling.temperature > 0:
        made.append(TemperatureLogitsWarper(float(sampling.temperature)))
        if sampling.top_k:
            made.append(TopKLogitsWarper(sampling.top_k))
        if sampling.top_p < 1:
            made.append(TopPLogitsWarper(sampling.top_p))
        made.append(Drawn(seeds))
    return LogitsProcessorList(made)


@torch.inference_mode()
def generate(
    model: PreTrainedModel, prompts: dict[str, list[int]], sampling: Sampling, max_tokens: int
) -> Iterator[list[Continuation]]:
    """Continue prompts, in batches, those of the most units first.

    Args:
        prompts: Units by fileid; a prompt without units is begun by BOS alone.
        max_tokens: Most tokens of a batch, those to be generated counted; a sample that has more is a batch by itself.

    Yields:
        The continuations of a batch.

    Raises:
        InputError: A prompt and its continuation may be longer than the model's context.
    """
    context = context_of(model.config)
    wanted = [(fileid, sample) for fileid in prompts for sample in range(sampling.num_samples)]
    lengths = [len(prompts[fileid]) + sampling.max_new_units for fileid, _ in wanted]  # the last token is no input
    if context is not None and max(lengths) > context:
        fileid, _ = wanted[lengths.index(max(lengths))]
        raise InputError(
            f"{fileid}: found a prompt of {len(prompts[fileid])} units and {sampling.max_new_units} new ones, "
            f"expected at most the model's context, {context}, together"
        )
    settings = GenerationConfig(
        max_new_tokens=sampling.max_new_units, do_sample=False, pad_token_id=PAD, bos_token_id=BOS, eos_token_id=EOS
    )
    for batch in batches(lengths, max_tokens):
        rows = [wanted[index] for index in batch]
        longest = max(len(prompts[fileid]) for fileid, _ in rows) + 1
        inputs = torch.full((len(rows), longest), PAD)  # padded on the left, as what is generated stands on the right
        for row, (fileid, _) in enumerate(rows):
            tokens = [BOS, *(unit + FIRST_UNIT for unit in prompts[fileid])]
            inputs[row, longest - len(tokens) :] = torch.tensor(tokens)
        inputs = inputs.to(model.device)
        seeds = [seed_for(sampling.seed, "generation", fileid, sample) for fileid, sample in rows]
        generated = model.generate(
            inputs,
            attention_mask=inputs.ne(PAD).long(),
            generation_config=settings,
            logits_processor=processors(sampling, seeds),
        )
        yield [
            continuation(f"{fileid}-{sample}", prompts[fileid], tokens)
            for (fileid, sample), tokens in zip(rows, generated[:, longest:].tolist(), strict=True)
        ]


def continuation(fileid: str, prompt: list[int], tokens: list[int]) -> Continuation:
    """An utterance from its prompt and the tokens generated, which EOS and padding may follow."""
    ended = EOS in tokens
    new = tokens[: tokens.index(EOS)] if ended else tokens
    return Continuation(fileid, [*prompt, *(token - FIRST_UNIT for token in new)], len(prompt), ended)


def main() -> None:
    """Continue prompts of units with a language model; ``<fileid>-<sample>`` names a continuation."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--prompts", type=Path, required=True, help="JSONL of units")
    parser.add_argument(
        "--prompt-units", type=int, metavar="N", help="units of a prompt, the first of its utterance (default all)"
    )
    parser.add_argument("--output", type=Path, required=True, help="JSONL of units: prompts and their continuations")
    parser.add_argument("--temperature", type=float, default=1.0, help="default 1; 0 takes the most likely unit")
    parser.add_argument("--top-k", type=int, default=0, help="draw from the K most likely tokens (default 0, all)")
    parser.add_argument("--top-p", type=float, default=1.0, help="draw from the most likely tokens (default 1, all)")
    parser.add_argument("--max-new-units", type=int, default=200, help="most units of a continuation (default 200)")
    parser.add_argument("--samples", type=int, default=1, help="continuations of a prompt (default 1)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args()
    sampling = Sampling(given.temperature, given.top_k, given.top_p, given.max_new_units, given.samples, given.seed)
    sampling.check()
    if given.prompt_units is not None and given.prompt_units < 0:
        raise InputError(f"--prompt-units: found {given.prompt_units}, expected 0 or more")
    model = load_model(given.model).to(choose_device(given.device))
    prompts = read_prompts(given.prompts, model.config.get_text_config().vocab_size - FIRST_UNIT, given.prompt_units)
    made: dict[str, Continuation] = {}
    with Progress("generate", len(prompts) * sampling.num_samples, "continuations") as progress:
        for batch in generate(model, prompts, sampling, BATCH_TOKENS[model.device.type]):
            made.update((each.fileid, each) for each in batch)
            progress.advance(len(batch))
    in_order = (made[f"{fileid}-{sample}"] for fileid in prompts for sample in range(sampling.num_samples))
    write_jsonl(given.output, map(asdict, in_order))


if __name__ == "__main__":
    run(main)
