"""The token store: the documents of a corpus as 16-bit or 32-bit tokens in one file, memory-mapped.

The rule of the tokens (SlamKit's): unit u is token u + 2, 0 pads, 1 begins and ends an utterance. V
units make a vocabulary of V + 2. An utterance is one document: BOS, its units without repetitions, EOS
(of a text, its tokens as they are).

A folder ``config.json``, ``tokens.bin``, ``offsets.npy`` (first token of each document, and the end of the
last), ``fileids.txt`` (one a line) and, where every document's duration is known, ``seconds.npy``.
"""

import argparse
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tokenize import TokenError
from typing import Any
from zipfile import BadZipFile

import numpy as np

from artifacts.errors import MADE_ANEW, InputError, run
from artifacts.files import atomic_folder, read_json_object, sha256, write_json
from artifacts.provenance import provenance
from units.records import UnitSequence, read_untimed_units, read_vocabulary

PAD = 0
BOS = EOS = 1
FIRST_UNIT = 2

DTYPES = {"uint16": "<u2", "uint32": "<u4"}
"""How tokens lie on disk, by the name that config.json has for it."""
MAX_UNITS = 2**32 - FIRST_UNIT
"""Most units whose tokens fit 32 bits."""

Write = Callable[[str, Sequence[int], float | None], None]
"""Adds a document to a store: its fileid, its units, its duration in seconds where it is known."""


def encode(units: Sequence[int], num_units: int, where: str) -> np.ndarray:
    """One utterance as a document: BOS, u + 2 for every unit u, EOS; int64 (units + 2,).

    Args:
        where: The utterance's file and fileid, for messages.

    Raises:
        InputError: No unit at all, or one outside 0 to `num_units` - 1.
    """
    if len(units) == 0:
        raise InputError(f"{where}: found no units, expected at least one")
    tokens = np.full(len(units) + 2, BOS, dtype=np.int64)
    tokens[1:-1] = np.asarray(units) + FIRST_UNIT
    outside = [unit for unit in (min(units), max(units)) if not 0 <= unit < num_units]
    if outside:
        raise InputError(f"{where}: found unit {outside[0]}, expected 0 to {num_units - 1}")
    return tokens


@contextmanager
def store_writer(
    output: Path, num_units: int, frame_rate_hz: float | None, corpus: str, source: Path, settings: dict[str, Any]
) -> Iterator[Write]:
    """Yield a function that adds a document; the store appears when the block ends well.

    Args:
        frame_rate_hz: Frames a second of the units; None for text, which has no frames.
        source: The file that the documents are from.
        settings: What decides the tokens beside it, for the provenance.

    Raises:
        InputError: More than `MAX_UNITS` units, no document at all, or a bad one, which is named.
    """
    if not 1 <= num_units <= MAX_UNITS:
        raise InputError(f"num_units: found {num_units}, expected 1 to {MAX_UNITS:,}: tokens are 32 bits wide")
    vocab_size = num_units + FIRST_UNIT
    dtype = "uint16" if vocab_size <= 2**16 else "uint32"
    offsets, durations_s, timed = array("q", [0]), array("d"), True
    with atomic_folder(output) as folder:
        with (folder / "tokens.bin").open("wb") as file, (folder / "fileids.txt").open("w", encoding="utf-8") as names:

            def write(fileid: str, units: Sequence[int], duration_s: float | None) -> None:
                nonlocal timed
                tokens = encode(units, num_units, f"{source}: {fileid}")
                file.write(tokens.astype(DTYPES[dtype]).tobytes())
                names.write(" ".join(fileid.splitlines()) + "\n")
                offsets.append(offsets[-1] + len(tokens))
                timed = timed and duration_s is not None
                durations_s.append(duration_s or 0.0)

            yield write
        if len(offsets) == 1:
            raise InputError(f"{source}: found no utterance, expected at least one")
        np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
        if timed:
            np.save(folder / "seconds.npy", np.array(durations_s, dtype=np.float64))
        config = {
            "corpus": corpus,
            "num_units": num_units,
            "vocab_size": vocab_size,
            "dtype": dtype,
            "frame_rate_hz": frame_rate_hz,
            "num_documents": len(offsets) - 1,
            "num_tokens": offsets[-1],
            "hours": float(np.sum(durations_s)) / 3600 if timed else None,
            "provenance": provenance(settings, {"source": source}),
        }
        write_json(folder / "config.json", config)


def write_store(units: Path, num_units: int, frame_rate_hz: float, corpus: str, output: Path) -> None:
    """Write a file of units as a token store, streaming.

    Args:
        frame_rate_hz: Frames a second of the durations; they make the store's hours of speech, which are unknown
            (None) where an utterance has no durations.

    Raises:
        InputError: As `store_writer`; a malformed line.
    """
    with store_writer(output, num_units, frame_rate_hz, corpus, units, {"frame_rate_hz": frame_rate_hz}) as write:
        for sequence in read_untimed_units(units):
            duration_s = sequence.num_frames / frame_rate_hz if isinstance(sequence, UnitSequence) else None
            write(sequence.fileid, sequence.units, duration_s)


class TokenStore:
    """The documents of a corpus, read where they lie.

    Attributes:
        seconds: Duration of each document, float64 (documents,); None where one is unknown.
        frame_rate_hz: Frames a second of the units; None for text.

    Raises:
        InputError: The folder is not a whole token store.
    """

    def __init__(self, folder: Path) -> None:
        where = folder / "config.json"
        config = read_json_object(where)
        try:
            self.corpus: str = config["corpus"]
            self.vocab_size: int = config["vocab_size"]
            self.frame_rate_hz: float | None = config["frame_rate_hz"]
            self.hours: float | None = config["hours"]
            self.num_tokens: int = config["num_tokens"]
            dtype = config["dtype"]
        except KeyError as error:
            raise InputError(f"{where}: found no key {error}, expected that of a token store") from None
        if dtype not in DTYPES:
            raise InputError(f"{where}: dtype: found {dtype!r}, expected {' or '.join(DTYPES)}")
        self.seconds: np.ndarray | None = None
        try:
            self.offsets: np.ndarray = np.load(folder / "offsets.npy")  # (documents + 1,)
            self.tokens: np.ndarray = np.memmap(folder / "tokens.bin", dtype=DTYPES[dtype], mode="r")  # (tokens,)
            if self.hours is not None:
                self.seconds = np.load(folder / "seconds.npy")
        except (OSError, ValueError, EOFError, MemoryError, BadZipFile, TokenError) as error:  # whatever np.load finds
            raise InputError(f"{folder}: not a token store ({error}): {MADE_ANEW}") from None
        if self.offsets.ndim != 1 or len(self.offsets) < 2:
            raise InputError(
                f"{folder}: found offsets.npy of shape {self.offsets.shape}, expected (documents + 1,): {MADE_ANEW}"
            )
        if not len(self.tokens) == self.offsets[-1] == self.num_tokens:
            raise InputError(
                f"{folder}: found {len(self.tokens)} tokens in tokens.bin and {self.offsets[-1]} in offsets.npy, "
                f"expected {self.num_tokens} as in config.json: {MADE_ANEW}"
            )
        if self.seconds is not None and len(self.seconds) != self.num_documents:
            raise InputError(
                f"{folder}: found {len(self.seconds)} durations in seconds.npy, "
                f"expected {self.num_documents}: {MADE_ANEW}"
            )
        self.folder = folder

    @property
    def num_documents(self) -> int:
        """Number of utterances."""
        return len(self.offsets) - 1

    def document(self, index: int) -> np.ndarray:
        """Tokens of one utterance, BOS and EOS included; uint16 or uint32 (tokens,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]

    def fileids(self) -> Iterator[str]:
        """The name of each utterance, streamed.

        Raises:
            InputError: Their file is missing, or has another number of them.
        """
        where, count = self.folder / "fileids.txt", 0
        try:
            with where.open(encoding="utf-8") as file:
                for line in file:
                    count += 1
                    yield line.removesuffix("\n")
        except FileNotFoundError:
            raise InputError(f"{where}: no such file, expected the names of the store's utterances") from None
        if count != self.num_documents:
            raise InputError(f"{where}: found {count} names, expected {self.num_documents}")


def open_stores(folders: Sequence[Path]) -> list[TokenStore]:
    """Open token stores of one vocabulary.

    Raises:
        InputError: One is not a whole token store, or their vocabularies or frame rates differ.
    """
    stores = [TokenStore(folder) for folder in folders]
    first = stores[0]
    for store in stores:
        for what, found, expected in (
            ("a vocabulary of", store.vocab_size, first.vocab_size),
            ("frames a second of", store.frame_rate_hz, first.frame_rate_hz),
        ):
            if found != expected:
                raise InputError(f"{store.folder}: found {what} {found}, expected {expected} as in {first.folder}")
    return stores


def require_held_out(stores: Sequence[TokenStore], held_out: TokenStore) -> None:
    """Check that a validation set is not trained on: not as a whole, nor an utterance of it.

    Two utterances are one where both name and tokens are the same: numbered files of two folders may share names.

    Raises:
        InputError: It is, with the store and the first utterance.
    """
    validation = {fileid: index for index, fileid in enumerate(held_out.fileids())}
    for store in stores:
        if store.num_tokens == held_out.num_tokens and (
            sha256(store.folder / "tokens.bin") == sha256(held_out.folder / "tokens.bin")
        ):
            raise InputError(
                f"{held_out.folder}: found the same tokens as {store.folder}, expected a validation set that is "
                "not trained on"
            )
        for index, fileid in enumerate(store.fileids()):
            twin = validation.get(fileid)
            if twin is not None and np.array_equal(store.document(index), held_out.document(twin)):
                raise InputError(
                    f"{held_out.folder}: found utterance {fileid}, which {store.folder} has too, expected a validation "
                    "set that is not trained on"
                )


def main() -> None:
    """Write a file of units as a token store."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--units", type=Path, required=True, help="JSONL of units")
    parser.add_argument("--vocabulary", type=Path, required=True, help="config.json with num_units and frame_rate_hz")
    parser.add_argument("--corpus", required=True, help="name of the corpus")
    parser.add_argument("--output", type=Path, required=True, help="token store folder")
    given = parser.parse_args()
    write_store(given.units, *read_vocabulary(given.vocabulary), given.corpus, given.output)


if __name__ == "__main__":
    run(main)
