"""Text as units, for the topline: ``python -m slm.text describe|store|units``.

A unit is a token of a text tokenizer (OPT's byte-pair encoding in the paper, section 4.2), by its number; from there
on text is trained on and scored as speech is, between our own BOS and EOS. Special tokens of the tokenizer's are not
added, and the vocabulary is all of its tokens, used or not.
"""

import argparse
from collections.abc import Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

from transformers.models.auto.tokenization_auto import AutoTokenizer
from transformers.tokenization_utils_base import PreTrainedTokenizerBase
from transformers.utils import logging

from artifacts.errors import InputError, run
from artifacts.files import atomic_folder, write_json
from artifacts.provenance import provenance
from corpora.texts import Text, read_texts
from slm.store import store_writer
from units.records import TextUnits, write_units

FAMILY = "text"
"""Of the encoder that is no encoder: the text itself."""

BATCH = 1024
"""Texts tokenized at a time, in parallel."""

logging.disable_progress_bar()


class Tokenizer:
    """A tokenizer of text, from a local folder or by its name on the hub. No code of it is executed.

    Attributes:
        num_units: Tokens it knows: one more than the largest number of one.

    Raises:
        InputError: There is none.
    """

    def __init__(self, source: str) -> None:
        try:
            found: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
                source, use_fast=True, trust_remote_code=False, local_files_only=Path(source).is_dir()
            )
        except Exception as error:  # whatever its files make transformers and tokenizers raise
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"{source}: found no tokenizer, expected a local folder or a name on the hub ({reason})"
            ) from None
        self.source, self.tokenizer = source, found
        self.num_units = 1 + max(found.get_vocab().values(), default=0)

    def units(self, texts: Sequence[str]) -> list[list[int]]:
        """The tokens of each text, from 0 to `num_units` - 1; one may follow itself.

        What is written like a special token (`</s>`) is text like any other.
        """
        encoded = self.tokenizer(
            list(texts),
            add_special_tokens=False,
            split_special_tokens=True,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )
        tokens: list[list[int]] = encoded["input_ids"]
        return tokens

    def save(self, folder: Path) -> None:
        """Write a folder that this class reads, wherever the tokenizer came from."""
        self.tokenizer.save_pretrained(folder)


def describe(source: str, output: Path) -> None:
    """Write the encoder folder of a tokenizer: config.json with its number of units, and itself in `tokenizer/`.

    Raises:
        InputError: There is no such tokenizer.
    """
    tokenizer = Tokenizer(source)
    with atomic_folder(output) as folder:
        tokenizer.save(folder / "tokenizer")
        config: dict[str, Any] = {"family": FAMILY, "tokenizer": source, "num_units": tokenizer.num_units}
        write_json(folder / "config.json", config | {"provenance": provenance({"tokenizer": source}, {})})


def write_text_store(texts: Path, tokenizer: Tokenizer, corpus: str, output: Path) -> None:
    """Write a table of texts as a token store, streaming; its hours are those of the texts' durations.

    Raises:
        InputError: A malformed table, a text without tokens, or no text at all.
    """
    settings = {"tokenizer": tokenizer.source}
    with store_writer(output, tokenizer.num_units, None, corpus, texts, settings) as write:
        for text, units in _tokenized(texts, tokenizer):
            write(text.fileid, units, text.duration_s)


def text_units(texts: Path, tokenizer: Tokenizer) -> Iterator[TextUnits]:
    """The units of each text of a table, streamed.

    Raises:
        InputError: A malformed table.
    """
    for text, units in _tokenized(texts, tokenizer):
        yield TextUnits(text.fileid, units, text.text)


def _tokenized(texts: Path, tokenizer: Tokenizer) -> Iterator[tuple[Text, list[int]]]:
    for together in batched(read_texts(texts), BATCH):
        yield from zip(together, tokenizer.units([text.text for text in together]), strict=True)


def main() -> None:
    """Text as units of a tokenizer."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    describing = verbs.add_parser("describe", help="write the encoder folder of a tokenizer")
    storing = verbs.add_parser("store", help="write a table of texts as a token store, to train on")
    tokenizing = verbs.add_parser("units", help="write a table of texts as a JSONL of units, to score")
    for verb in (describing, storing, tokenizing):
        verb.add_argument("--tokenizer", required=True, help="local folder, or name on the hub (facebook/opt-125m)")
    for verb in (storing, tokenizing):
        verb.add_argument("--texts", type=Path, required=True, help="CSV or JSONL with fileid and text")
    storing.add_argument("--corpus", required=True, help="name of the corpus")
    describing.add_argument("--output", type=Path, required=True, help="encoder folder, replaced as a whole")
    storing.add_argument("--output", type=Path, required=True, help="token store folder")
    tokenizing.add_argument("--output", type=Path, required=True, help="JSONL of units")
    given = parser.parse_args()
    match given.verb:
        case "describe":
            describe(given.tokenizer, given.output)
        case "store":
            write_text_store(given.texts, Tokenizer(given.tokenizer), given.corpus, given.output)
        case "units":
            write_units(given.output, text_units(given.texts, Tokenizer(given.tokenizer)))


if __name__ == "__main__":
    run(main)
