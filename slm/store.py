"""The token store: a corpus of units as 16-bit tokens in one file, memory-mapped.

The rule of the tokens (SlamKit's): unit u is token u + 2, 0 pads, 1 begins and ends an utterance. V
units make a vocabulary of V + 2. An utterance is one document: BOS, its units without repetitions, EOS.
"""

import argparse
from array import array
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from artifacts.errors import InputError, run
from artifacts.files import atomic_folder, read_json_object, write_json
from artifacts.provenance import provenance
from units.records import UnitSequence, read_untimed_units, read_vocabulary

PAD = 0
BOS = EOS = 1
FIRST_UNIT = 2

MAX_UNITS = 2**16 - FIRST_UNIT
"""Most units whose tokens fit 16 bits."""


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


def write_store(units: Path, num_units: int, frame_rate_hz: float, corpus: str, output: Path) -> None:
    """Write a file of units as a token store, streaming.

    Args:
        frame_rate_hz: Frames a second of the durations; they make the store's hours of speech, which are unknown
            (None) where an utterance has no durations.

    Raises:
        InputError: More than `MAX_UNITS` units, no utterance at all, or a bad one, which is named.
    """
    if not 1 <= num_units <= MAX_UNITS:
        raise InputError(f"num_units: found {num_units}, expected 1 to {MAX_UNITS}: tokens are 16 bits wide")
    offsets, num_frames, timed = array("q", [0]), 0, True
    with atomic_folder(output) as folder:
        with (folder / "tokens.bin").open("wb") as file:
            for sequence in read_untimed_units(units):
                tokens = encode(sequence.units, num_units, f"{units}: {sequence.fileid}")
                file.write(tokens.astype("<u2").tobytes())
                offsets.append(offsets[-1] + len(tokens))
                if isinstance(sequence, UnitSequence):
                    num_frames += sequence.num_frames
                else:
                    timed = False
        if len(offsets) == 1:
            raise InputError(f"{units}: found no utterance, expected at least one")
        np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
        config = {
            "corpus": corpus,
            "num_units": num_units,
            "vocab_size": num_units + FIRST_UNIT,
            "frame_rate_hz": frame_rate_hz,
            "num_documents": len(offsets) - 1,
            "num_tokens": offsets[-1],
            "hours": num_frames / frame_rate_hz / 3600 if timed else None,
            "provenance": provenance({"frame_rate_hz": frame_rate_hz}, {"units": units}),
        }
        write_json(folder / "config.json", config)


class TokenStore:
    """The documents of a corpus, read where they lie.

    Raises:
        InputError: The folder is not a whole token store.
    """

    def __init__(self, folder: Path) -> None:
        where = folder / "config.json"
        config = read_json_object(where)
        try:
            self.corpus: str = config["corpus"]
            self.vocab_size: int = config["vocab_size"]
            self.frame_rate_hz: float = config["frame_rate_hz"]
            self.hours: float | None = config["hours"]
            self.num_tokens: int = config["num_tokens"]
            self.offsets: np.ndarray = np.load(folder / "offsets.npy")  # (documents + 1,)
            self.tokens: np.ndarray = np.memmap(folder / "tokens.bin", dtype="<u2", mode="r")  # (tokens,)
        except KeyError as error:
            raise InputError(f"{where}: found no key {error}, expected that of a token store") from None
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: not a token store ({error})") from None
        if not len(self.tokens) == self.offsets[-1] == self.num_tokens:
            raise InputError(
                f"{folder}: found {len(self.tokens)} tokens in tokens.bin and {self.offsets[-1]} in offsets.npy, "
                f"expected {self.num_tokens} as in config.json"
            )
        self.folder = folder

    @property
    def num_documents(self) -> int:
        """Number of utterances."""
        return len(self.offsets) - 1

    def document(self, index: int) -> np.ndarray:
        """Tokens of one utterance, BOS and EOS included; uint16 (tokens,)."""
        return self.tokens[self.offsets[index] : self.offsets[index + 1]]


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
