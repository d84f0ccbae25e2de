"""Log-likelihoods of utterances under language models: ``python -m slm.score --model DIR --units ...``.

An utterance of units u1..uN scores the sum, in nats, of log p(u1 | BOS), ..., log p(uN | ...) and
log p(EOS | BOS, u1..uN): N + 1 predicted tokens, N where EOS is left out. Whoever reads the table divides by their
number or not. Beside each table stands a record of how it was made, which `eval` adds to its scores' conditions.
"""

import argparse
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel

from artifacts.device import Precision, choose_device
from artifacts.errors import InputError, run
from artifacts.files import sha256, write_csv, write_json
from artifacts.progress import Progress
from artifacts.provenance import provenance
from slm.likelihoods import BATCH_TOKENS, context_of, log_likelihoods, windows
from slm.pretrained import load_model, read_configuration
from slm.store import FIRST_UNIT, encode
from units.records import read_num_units, read_untimed_units

COLUMNS = ("fileid", "log_likelihood", "num_tokens")

LongPolicy = Literal["error", "window"]
"""What becomes of an utterance longer than the context: it is refused, or scored in windows."""

Documents = dict[str, np.ndarray]
"""Tokens of utterances, by fileid."""


def read_documents(path: Path, num_units: int, context: int | None = None, *, eos: bool = True) -> Documents:
    """Every utterance of a file of units as tokens, by fileid, in the file's order.

    Args:
        context: Most tokens to predict of an utterance; None has no limit.
        eos: Whether EOS is predicted.

    Raises:
        InputError: No utterance at all, or one without units, with one that the model does not know, or longer than
            the context.
    """
    dtype = np.min_scalar_type(num_units + FIRST_UNIT - 1)
    documents = {}
    for sequence in read_untimed_units(path):
        document = encode(sequence.units, num_units, f"{path}: {sequence.fileid}")
        if not eos:
            document = document[:-1]
        if context is not None and len(document) - 1 > context:
            raise InputError(
                f"{path}: {sequence.fileid}: found {len(document) - 1} tokens to predict, "
                f"expected at most the model's context, {context}"
            )
        documents[sequence.fileid] = document.astype(dtype)
    if not documents:
        raise InputError(f"{path}: found no utterance, expected at least one")
    return documents


def score(
    model: PreTrainedModel,
    documents: Documents,
    what: str,
    *,
    stride: int | None = None,
    precision: Precision = "float32",
) -> list[dict[str, str | float | int]]:
    """The rows of a table of log-likelihoods, in the documents' order.

    Utterances of the same units are scored once: in different batches rounding could break their tie.

    Raises:
        InputError: A log-likelihood is not finite.
    """
    distinct = {tokens.tobytes(): tokens for tokens in documents.values()}
    keys, likelihoods = list(distinct), dict.fromkeys(distinct, 0.0)
    context, max_tokens = context_of(model.config), BATCH_TOKENS[model.device.type]
    num_windows = sum(len(list(windows(len(tokens) - 1, context, stride))) for tokens in distinct.values())
    with Progress(what, num_windows, "distinct utterances, or windows of them") as progress:
        scored = log_likelihoods(model, list(distinct.values()), max_tokens, stride=stride, precision=precision)
        for batch, nats in scored:
            for index, part in zip(batch, nats.tolist(), strict=True):
                likelihoods[keys[index]] += part
            progress.advance(len(batch))
    for fileid, tokens in documents.items():
        if not math.isfinite(likelihoods[tokens.tobytes()]):
            found = likelihoods[tokens.tobytes()]
            raise InputError(f"{fileid}: found a log-likelihood of {found}, expected a finite number")
    return [
        {"fileid": fileid, "log_likelihood": likelihoods[tokens.tobytes()], "num_tokens": len(tokens) - 1}
        for fileid, tokens in documents.items()
    ]


def require_vocabulary(folder: Path, config: PreTrainedConfig, num_units: int, source: Path) -> None:
    """Check that a model speaks the tokens of `num_units` units.

    Raises:
        InputError: Its vocabulary is another.
    """
    found, expected = config.get_text_config().vocab_size, num_units + FIRST_UNIT
    if found != expected:
        raise InputError(
            f"{folder}: found a vocabulary of {found}, expected {expected}: the {num_units} units of {source} "
            f"and {FIRST_UNIT} more"
        )


def write_record(table: Path, model: Path, units: Path, rule: Mapping[str, Any]) -> None:
    """Write ``<set>.json`` beside the table ``<set>.csv``: the rule of its log-likelihoods, and where they are from.

    Args:
        rule: Everything that would change a log-likelihood.
    """
    weights = {file.name: file for file in sorted(model.glob("*.safetensors"))}
    record = {"model": str(model), "units": str(units), **rule, "table_sha256": sha256(table)}
    write_json(
        table.with_suffix(".json"),
        record | {"provenance": provenance(rule, {"model": model, **weights, "units": units})},
    )


def main() -> None:
    """Score the utterances of files of units with language models of one vocabulary."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--model", type=Path, nargs="+", required=True, help="folders of language models")
    parser.add_argument("--units", type=Path, nargs="+", required=True, help="JSONL of units")
    parser.add_argument(
        "--vocabulary", type=Path, help="config.json with num_units, which the models must speak (default: not checked)"
    )
    parser.add_argument(
        "--output", type=Path, nargs="+", required=True, help="folder for each model, of <units>.csv and <units>.json"
    )
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--precision", choices=get_args(Precision), default="float32", help="default float32")
    parser.add_argument("--no-eos", dest="eos", action="store_false", help="leave the prediction of EOS out")
    parser.add_argument(
        "--long",
        choices=get_args(LongPolicy),
        default="error",
        help="an utterance longer than the context is an error (default), or scored in sliding windows",
    )
    parser.add_argument("--stride", type=int, metavar="TOKENS", help="of the windows (default half of the context)")
    given = parser.parse_args()
    if len(given.output) != len(given.model):
        raise InputError(
            f"--output: found {len(given.output)} folders, expected {len(given.model)}: one for each model"
        )
    if len({folder.resolve() for folder in given.output}) < len(given.output):
        raise InputError("--output: found one folder twice, expected one for each model: they have tables of one name")
    if len({units.stem for units in given.units}) < len(given.units):
        raise InputError("--units: two files have one name, expected a name for each table")
    if given.stride is not None and given.long == "error":
        raise InputError("--stride: expected with --long window alone")
    configs = [read_configuration(folder) for folder in given.model]
    if given.vocabulary is not None:
        num_units, source = read_num_units(given.vocabulary), given.vocabulary
    else:
        num_units, source = configs[0].get_text_config().vocab_size - FIRST_UNIT, given.model[0]
    for folder, config in zip(given.model, configs, strict=True):
        require_vocabulary(folder, config, num_units, source)
    contexts = [context_of(config) for config in configs]
    strides = [stride_of(context, given.long, given.stride) for context in contexts]
    longest = min((context for context in contexts if context is not None and given.long == "error"), default=None)
    sets = {units: read_documents(units, num_units, longest, eos=given.eos) for units in given.units}
    device = choose_device(given.device)
    for folder, output, context, stride in zip(given.model, given.output, contexts, strides, strict=True):
        model = load_model(folder).to(device)
        rule = {
            "eos": given.eos,
            "precision": given.precision,
            "long": given.long,
            "context": context,
            "stride": stride,
        }
        tables = {}
        for units, documents in sets.items():
            try:
                rows = score(model, documents, f"score {units.stem}", stride=stride, precision=given.precision)
            except InputError as error:
                raise InputError(f"{folder}: {units}: {error}") from None
            tables[units] = rows
        for units, rows in tables.items():
            table = output / f"{units.stem}.csv"
            write_csv(table, COLUMNS, rows)
            write_record(table, folder, units, rule)


def stride_of(context: int | None, long: LongPolicy, stride: int | None) -> int | None:
    """Stride of a model's windows: half its context where none is given; None where it has none.

    Raises:
        InputError: The stride is not from 1 to the context.
    """
    if context is None or long == "error":
        return None
    if stride is not None and not 1 <= stride <= context:
        raise InputError(f"--stride: found {stride}, expected 1 to the model's context, {context}")
    return stride or max(context // 2, 1)


if __name__ == "__main__":
    run(main)
