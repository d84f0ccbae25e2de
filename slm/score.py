"""Log-likelihoods of utterances under a language model: ``python -m slm.score --model DIR --units ...``.

An utterance of units u1..uN scores the sum, in nats, of log p(u1 | BOS), ..., log p(uN | ...) and
log p(EOS | BOS, u1..uN): N + 1 predicted tokens. Whoever reads the table divides by their number or not.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import choose_device
from artifacts.errors import InputError, run
from artifacts.files import write_csv
from artifacts.progress import Progress
from slm.model import load_model
from slm.store import FIRST_UNIT, PAD, encode
from units.records import read_untimed_units

COLUMNS = ("fileid", "log_likelihood", "num_tokens")

BATCH_TOKENS = {"cpu": 1024, "cuda": 32_768}
"""Most tokens of a batch, padding counted: what is fastest where. It moves a likelihood by rounding only."""


def read_documents(path: Path, num_units: int, context: int) -> dict[str, np.ndarray]:
    """Every utterance of a file of units as tokens, by fileid, in the file's order.

    Raises:
        InputError: An utterance without units, with one that the model does not know, or longer than
            the context.
    """
    documents = {}
    for sequence in read_untimed_units(path):
        document = encode(sequence.units, num_units, f"{path}: {sequence.fileid}")
        if len(document) - 1 > context:
            raise InputError(
                f"{path}: {sequence.fileid}: found {len(document) - 1} tokens to predict, "
                f"expected at most the model's context, {context}"
            )
        documents[sequence.fileid] = document.astype(np.uint16)
    return documents


def batches(lengths: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    """Indices of sequences in batches: longest first, so that little is padded, within a budget of tokens.

    A sequence longer than the budget is a batch by itself.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda index: -lengths[index]):
        if batch and (len(batch) + 1) * lengths[batch[0]] > max_tokens:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def log_likelihoods(
    model: PreTrainedModel, documents: Sequence[np.ndarray], max_tokens: int
) -> Iterator[tuple[list[int], Tensor]]:
    """Score documents, longest first.

    Right padding needs no mask: attention is causal, and what follows a document's end is not scored.

    Args:
        documents: BOS, tokens, EOS each, at most one token longer than the model's context.
        max_tokens: Most tokens of a batch.

    Yields:
        Indices of a batch, and the log-likelihoods in nats of their tokens after the first, float64
        (batch,).
    """
    for batch in batches([len(document) - 1 for document in documents], max_tokens):
        longest = len(documents[batch[0]])
        tokens = np.full((len(batch), longest), PAD, dtype=np.int64)
        for row, index in enumerate(batch):
            tokens[row, : len(documents[index])] = documents[index]
        padded = torch.from_numpy(tokens).to(model.device)
        inputs, targets = padded[:, :-1], padded[:, 1:]
        logits = model(inputs, use_cache=False).logits  # (batch, time, vocabulary)
        chosen = logits.gather(2, targets[:, :, None]).squeeze(2)
        nats = (chosen - logits.logsumexp(2)) * (targets != PAD)  # (batch, time)
        yield batch, nats.double().sum(1)


def score(model: PreTrainedModel, documents: dict[str, np.ndarray], what: str) -> list[dict[str, str | float | int]]:
    """The rows of a table of log-likelihoods, in the documents' order.

    Utterances of the same units are scored once: in different batches rounding could break their tie.
    """
    distinct = {document.tobytes(): document for document in documents.values()}
    keys = list(distinct)
    likelihoods: dict[bytes, float] = {}
    with Progress(what, len(distinct), "distinct utterances") as progress:
        for batch, nats in log_likelihoods(model, list(distinct.values()), BATCH_TOKENS[model.device.type]):
            likelihoods.update(zip((keys[index] for index in batch), nats.tolist(), strict=True))
            progress.advance(len(batch))
    return [
        {"fileid": fileid, "log_likelihood": likelihoods[document.tobytes()], "num_tokens": len(document) - 1}
        for fileid, document in documents.items()
    ]


def main() -> None:
    """Score the utterances of files of units with a language model."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, required=True, help="folder of the language model")
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="JSONL of units")
    parser.add_argument("--output", type=Path, nargs="+", required=True, help="CSV, one for each file of units")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    given = parser.parse_args()
    if len(given.output) != len(given.units):
        raise InputError(
            f"--output: found {len(given.output)} files, expected {len(given.units)}: one for each of --units"
        )
    device = choose_device(given.device)
    model = load_model(given.model).to(device)
    num_units, context = model.config.vocab_size - FIRST_UNIT, model.config.max_position_embeddings
    for units, output in zip(given.units, given.output, strict=True):
        documents = read_documents(units, num_units, context)
        write_csv(output, COLUMNS, score(model, documents, f"score {units.stem}"))


if __name__ == "__main__":
    run(main)
