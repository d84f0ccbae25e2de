"""Feature sets: the frames of one (encoder, layer) over one corpus, in shards with an index by fileid.

A folder ``features/<encoder>/L06/<corpus>/``, or ``predictions/...`` with soft-max codebook predictions:

- ``config.json``: encoder, layer, tap, frame_rate_hz, dim, dtype, num_frames, provenance; ``sampled_from`` frames
  where the set is a sample.
- ``index.csv``: ``fileid,shard,start,num_frames``, one row an utterance.
- ``shard-00000.safetensors``, ...: tensor ``features`` (frames, dim), float16 or float32.
"""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal

import numpy as np
from safetensors import SafetensorError, safe_open

from artifacts.errors import MADE_ANEW, InputError
from artifacts.files import atomic_folder, read_csv, read_json_object, write_csv, write_json
from artifacts.seeds import generator

COLUMNS = ("fileid", "shard", "start", "num_frames")
SHARD_BYTES = 2**28
"""Size from which a shard is full: a quarter of a GiB."""
MOST_MAPPED = 2
"""Shards a reader keeps mapped: what of them lies in memory counts as the process', though the system may take it."""
HEADER_BYTES = 128
"""Room for a shard's safetensors header: 8 bytes of length, and JSON, filled up with spaces as the format allows."""

Dtype = Literal["float16", "float32"]
SAFETENSORS_DTYPES = {"float16": "F16", "float32": "F32"}


@dataclass(frozen=True, slots=True)
class _Place:
    shard: str
    start: int
    num_frames: int


class FeatureReader:
    """Read a feature set utterance by utterance; only the frames asked for are read.

    Shards are mapped into memory, few at a time, which holds a copy of nothing but the frames that were asked for last.

    Args:
        folder: The feature set.

    Raises:
        InputError: The folder's configuration or index is missing or malformed; the message names
            file and line or key.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = read_json_object(folder / "config.json")
        self.frame_rate_hz = float(self._number("frame_rate_hz"))
        self.dim = int(self._number("dim"))
        self._places = self._read_index(folder / "index.csv")
        self._shards: dict[str, Any] = {}  # the one asked for last at the end
        self.total_frames = sum(place.num_frames for place in self._places.values())
        if self.total_frames != self._number("num_frames"):
            raise InputError(
                f"{folder / 'index.csv'}: found {self.total_frames} frames, "
                f"expected the {self.config['num_frames']} of config.json"
            )

    def _number(self, key: str) -> float:
        value = self.config.get(key)
        if not isinstance(value, int | float) or value < 0:
            raise InputError(f"{self.folder / 'config.json'}: {key}: found {value!r}, expected a number")
        return value

    @staticmethod
    def _read_index(path: Path) -> dict[str, _Place]:
        places: dict[str, _Place] = {}
        for line, row in read_csv(path, COLUMNS):
            for column in ("start", "num_frames"):
                if not row[column].isdecimal():
                    raise InputError(f"{path}, line {line}: {column}: found {row[column]!r}, expected a whole number")
            if row["fileid"] in places:
                raise InputError(f"{path}, line {line}: fileid {row['fileid']} again, expected each once")
            places[row["fileid"]] = _Place(row["shard"], int(row["start"]), int(row["num_frames"]))
        return places

    @property
    def fileids(self) -> list[str]:
        """The utterances, in the order of the index."""
        return list(self._places)

    def num_frames(self, fileid: str) -> int:
        """Number of frames of one utterance.

        Raises:
            InputError: The feature set has no such utterance.
        """
        return self._place(fileid).num_frames

    def frames(self, fileid: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Frames `start` to `stop` (by default all) of one utterance, float32 (frames, dim).

        Raises:
            InputError: No such utterance, or its shard is missing or truncated.
            ValueError: The frames do not lie inside the utterance.
        """
        place = self._place(fileid)
        stop = place.num_frames if stop is None else stop
        if not 0 <= start <= stop <= place.num_frames:
            raise ValueError(f"frames {start}:{stop} of {fileid}, which has {place.num_frames}")
        shard = self._shard(place.shard)
        held = shard.get_shape()[0]
        if held < place.start + place.num_frames:
            raise InputError(
                f"{self.folder / place.shard}: found {held} frames, expected those of {fileid} "
                f"up to {place.start + place.num_frames}: {self._made_anew()}"
            )
        if start == stop:  # safetensors refuses an empty slice at the end of a tensor
            return np.empty((0, self.dim), dtype=np.float32)
        frames: np.ndarray = shard[place.start + start : place.start + stop]
        return frames.astype(np.float32)

    def check(self) -> None:
        """See that every utterance's frames are there, without reading them.

        Raises:
            InputError: A shard is missing or truncated.
        """
        for fileid in self.fileids:
            self.frames(fileid, 0, 0)

    def _made_anew(self) -> str:
        """What to do about a damaged shard: the folder is made as a whole, in a pass with those beside it."""
        whole = self.folder.parent if (self.folder.parent / "pass.json").exists() else self.folder
        return MADE_ANEW.replace("it", str(whole), 1)

    def _place(self, fileid: str) -> _Place:
        try:
            return self._places[fileid]
        except KeyError:
            raise InputError(f"{self.folder / 'index.csv'}: found no utterance {fileid}, expected it there") from None

    def _shard(self, name: str) -> Any:
        """The lazily sliced tensor of one shard; the shards asked for last stay mapped."""
        tensor = self._shards.pop(name, None)
        if tensor is None:
            path = self.folder / name
            try:
                tensor = safe_open(path, framework="numpy").get_slice("features")  # type: ignore[no-untyped-call]
            except FileNotFoundError:
                raise InputError(
                    f"{path}: no such file, expected a shard of the index beside it: {self._made_anew()}"
                ) from None
            except (SafetensorError, OSError) as error:
                raise InputError(
                    f"{path}: not a whole safetensors file with a tensor `features` ({error}): {self._made_anew()}"
                ) from None
            if tensor.get_dtype() not in SAFETENSORS_DTYPES.values():
                raise InputError(f"{path}: found {tensor.get_dtype()}, expected one of {', '.join(SAFETENSORS_DTYPES)}")
            shape = tensor.get_shape()
            if len(shape) != 2 or shape[1] != self.dim:
                raise InputError(f"{path}: found shape {shape}, expected (frames, {self.dim})")
        self._shards[name] = tensor
        if len(self._shards) > MOST_MAPPED:
            del self._shards[next(iter(self._shards))]
        return tensor


class FeatureWriter:
    """Write a feature set, utterance by utterance; the folder appears when the block ends well.

    Frames go to their shard at once: nothing is held in memory, however many writers there are.

    Args:
        folder: Where it goes.
        config: What config.json holds beside dim, dtype and num_frames: encoder, layer, tap,
            frame_rate_hz, provenance.
        dtype: How frames are stored.
    """

    def __init__(self, folder: Path, config: Mapping[str, Any], dtype: Dtype = "float16") -> None:
        self.folder, self.config, self.dtype = folder, dict(config), np.dtype(dtype)

    def __enter__(self) -> "FeatureWriter":
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_folder(self.folder))
        self._index: list[dict[str, Any]] = []
        self._shard: BinaryIO | None = None
        self._shard_frames = self._num_frames = self._num_shards = 0
        self._dim: int | None = None
        return self

    def write(self, fileid: str, frames: np.ndarray) -> None:
        """Add frames (frames, dim), of any float type, of an utterance: the next one, or more of the one before.

        Raises:
            InputError: A value is not finite, or does not fit the stored type.
        """
        if self._dim is None:
            self._dim = frames.shape[1]
        if frames.shape[1] != self._dim:
            raise ValueError(f"{fileid} has {frames.shape[1]} dimensions, the utterances before it {self._dim}")
        with np.errstate(over="ignore"):
            stored = np.ascontiguousarray(frames, dtype=self.dtype.newbyteorder("<"))
        if not np.isfinite(stored).all():
            largest = np.abs(frames).max()
            raise InputError(
                f"{fileid}: found a feature of size {largest:g}, expected at most {np.finfo(self.dtype).max:g}: "
                f"the largest {self.dtype} holds"
            )
        if not self._index or self._index[-1]["fileid"] != fileid:
            self._begin(fileid)
        assert self._shard is not None
        self._shard.write(stored.data)
        self._index[-1]["num_frames"] += len(stored)
        self._shard_frames += len(stored)
        self._num_frames += len(stored)

    def _begin(self, fileid: str) -> None:
        """Give an utterance its place: all its frames lie in one shard, a new one where the last is full."""
        if self._shard_bytes() >= SHARD_BYTES:
            self._finish_shard()
        if self._shard is None:
            self._shard = self._stack.enter_context((self._temporary / self._shard_name()).open("wb"))
            self._shard.seek(HEADER_BYTES)  # the header says how many frames there are: it comes last
        place = (fileid, self._shard_name(), self._shard_frames, 0)
        self._index.append(dict(zip(COLUMNS, place, strict=True)))

    def _shard_name(self) -> str:
        return f"shard-{self._num_shards:05d}.safetensors"

    def _shard_bytes(self) -> int:
        return self._shard_frames * (self._dim or 0) * self.dtype.itemsize

    def _finish_shard(self) -> None:
        if self._shard is None:
            return
        shape = [self._shard_frames, self._dim]
        size = self._shard_bytes()
        described = {"dtype": SAFETENSORS_DTYPES[self.dtype.name], "shape": shape, "data_offsets": [0, size]}
        header = json.dumps({"features": described}).encode().ljust(HEADER_BYTES - 8)
        assert len(header) == HEADER_BYTES - 8
        self._shard.seek(0)
        self._shard.write(len(header).to_bytes(8, "little") + header)
        self._shard.close()
        self._shard, self._shard_frames = None, 0
        self._num_shards += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._stack.__exit__(kind, error, trace)
            return
        with self._stack:
            if self._dim is None:
                raise InputError(f"{self.folder}: found no utterance to write, expected at least one")
            self._finish_shard()
            write_csv(self._temporary / "index.csv", COLUMNS, self._index)
            made = {"dim": self._dim, "dtype": str(self.dtype), "num_frames": self._num_frames}
            write_json(self._temporary / "config.json", self.config | made)


def draw_frames(num_frames: Sequence[int], sample: int, seed: int) -> list[np.ndarray]:
    """Positions of the frames drawn in each utterance, rising: `sample` of all, uniformly without replacement.

    Args:
        num_frames: Frames of each utterance.

    Returns:
        An int64 array (drawn,) for each utterance, empty where none was.
    """
    wanted = generator(seed, "features", "sample").choice(sum(num_frames), sample, replace=False, shuffle=False)
    ends = np.cumsum(num_frames)
    positions = np.split(np.sort(wanted), np.searchsorted(np.sort(wanted), ends[:-1]))
    return [found - (end - count) for found, end, count in zip(positions, ends, num_frames, strict=True)]
