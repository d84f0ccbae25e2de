"""How often a language model in training prefers the correct stimulus of the pairs of an evaluation set.

It shows where learning stands, and it is not the metric: every pair weighs the same, whatever its voice or word, and
there is no interval. `eval` has those.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from transformers.modeling_utils import PreTrainedModel

from artifacts.errors import InputError
from artifacts.files import read_csv
from slm.likelihoods import BATCH_TOKENS, log_likelihoods
from slm.score import read_documents

KEYS = ("task", "type", "subtype", "group", "id", "voice")
"""Columns of an evaluation set that, as far as it has them, tell its pairs apart."""

TAKEN = ("train", "validation")
"""Splits that a training's log has anyway."""


class Followed(NamedTuple):
    """An evaluation set that is followed."""

    name: str
    """The log's `split`."""
    documents: list[np.ndarray]
    """Tokens of every distinct utterance."""
    pairs: np.ndarray
    """Which documents the correct and the incorrect stimulus of each pair are, (pairs, 2)."""


def read_followed(text: str, num_units: int, context: int) -> Followed:
    """Read the set of ``--follow NAME=UNITS.jsonl=ITEMS.csv``.

    Raises:
        InputError: The text has another form, an utterance of a pair has no units or too many, or a row of
            the items is not one of a pair.
    """
    parts = text.split("=")
    if len(parts) != 3 or not all(parts) or parts[0] in TAKEN:
        raise InputError(f"--follow: found {text}, expected NAME=UNITS.jsonl=ITEMS.csv, NAME not {' or '.join(TAKEN)}")
    name, units, items = parts[0], Path(parts[1]), Path(parts[2])
    spoken = read_documents(units, num_units, context)
    distinct = {tokens.tobytes(): tokens for tokens in spoken.values()}
    index = {key: number for number, key in enumerate(distinct)}
    pairs: dict[tuple[str, ...], list[int | None]] = {}
    for line, row in read_csv(items, ("fileid", "correct")):
        if row["fileid"] not in spoken:
            raise InputError(f"{items}, line {line}: found {row['fileid']}, which {units} has not")
        if row["correct"] not in ("0", "1"):
            raise InputError(f"{items}, line {line}: correct: found {row['correct']!r}, expected 0 or 1")
        pair = pairs.setdefault(tuple(row[key] for key in KEYS if key in row), [None, None])
        side = 1 - int(row["correct"])
        if pair[side] is not None:
            raise InputError(f"{items}, line {line}: found a second stimulus of one kind, expected pairs by {KEYS}")
        pair[side] = index[spoken[row["fileid"]].tobytes()]
    for key, pair in pairs.items():
        if None in pair:
            raise InputError(f"{items}: {' '.join(key)}: found one stimulus, expected a correct and an incorrect one")
    if not pairs:
        raise InputError(f"{items}: found no pair, expected at least one")
    return Followed(name, list(distinct.values()), np.array(list(pairs.values())))


def pair_accuracy(model: PreTrainedModel, followed: Followed) -> float:
    """Share of pairs whose correct stimulus has the higher mean log-likelihood of a token; a tie is half a pair."""
    model.eval()
    sums = np.zeros(len(followed.documents))
    with torch.compiler.set_stance("force_eager"):  # lengths differ from batch to batch
        for batch, nats in log_likelihoods(model, followed.documents, BATCH_TOKENS[model.device.type]):
            np.add.at(sums, batch, nats.cpu().numpy())
    means = sums / [len(tokens) - 1 for tokens in followed.documents]
    correct, incorrect = means[followed.pairs].T
    return accuracy(correct, incorrect)


def accuracy(correct: Sequence[float] | np.ndarray, incorrect: Sequence[float] | np.ndarray) -> float:
    """Share of pairs in which the first is higher; a tie is half a pair."""
    difference = np.asarray(correct) - np.asarray(incorrect)
    return float(np.mean((np.sign(difference) + 1) / 2))
