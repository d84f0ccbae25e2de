"""K-means made elsewhere: the centroids in a file of scikit-learn's, or in a ``.npy``, of which nothing is executed.

A pickle is a program, and joblib's files are pickles with the bytes of arrays in between. Here every class
and function that a pickle names stands for a `Record`, which calls nothing and keeps what it was given; arrays
are put together from what their records hold. fairseq's ``.bin`` files are such, of a MiniBatchKMeans.
"""

import bz2
import gzip
import io
import lzma
import math
import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from artifacts.errors import InputError

CLASSES = ("KMeans", "MiniBatchKMeans")
"""Of ``sklearn.cluster``, in any of its versions: those whose unit is the nearest centroid."""
LARGEST_BYTES = 2**30
"""Of a file once it is decompressed: 30,000 centroids of dimension 4,096. A megabyte can stand for a thousand."""


def _read(opened: Callable[[io.BytesIO], Any]) -> Callable[[bytes], bytes]:
    def decompress(content: bytes) -> bytes:
        with opened(io.BytesIO(content)) as file:
            read: bytes = file.read(LARGEST_BYTES + 1)
            return read

    return decompress


DECOMPRESS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x78": lambda content: zlib.decompressobj().decompress(content, LARGEST_BYTES + 1),
    b"\x1f\x8b": _read(gzip.open),
    b"BZ": _read(bz2.open),
    b"\xfd7zXZ": _read(lzma.open),
    b"\x5d\x00": _read(lzma.open),
}
"""What joblib's ``compress`` makes, by the first bytes; a pickle begins with none of them."""
EXPECTED = f"expected a joblib or pickle file of scikit-learn's {' or '.join(CLASSES)}"
SCALARS = "fiub"
"""Kinds of numpy's types that are read: float, integer, unsigned, bool."""


class Record:
    """What an object of any class, or the outcome of any call, becomes: its name and what it was given."""

    path: str
    """Module and name of the class or function."""

    def __new__(cls, *args: Any, **_: Any) -> "Record":
        """Keep the arguments."""
        record = super().__new__(cls)
        record.args, record.state = args, None
        return record

    args: tuple[Any, ...]
    state: Any

    def __setstate__(self, state: Any) -> None:
        """Keep the content."""
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        """Let an entry of a dictionary of some kind go."""

    def append(self, value: Any) -> None:
        """Let an entry of a list of some kind go."""

    def is_a(self, *names: str) -> bool:
        """Whether this is of a class or function with one of the names, whatever the module."""
        return self.path.rpartition(".")[2] in names


class _Reader(pickle._Unpickler):
    """The unpickler in Python, since joblib's arrays stand between the instructions, where C reads ahead."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file)
        self._bytes = file

    def find_class(self, module: str, name: str) -> type[Record]:
        return type("Record", (Record,), {"path": f"{module}.{name}"})

    def load_build(self) -> None:
        super().load_build()  # type: ignore[misc]
        made = self.stack[-1]  # type: ignore[attr-defined]
        if isinstance(made, Record) and made.path.endswith(".numpy_pickle.NumpyArrayWrapper"):
            self.stack[-1] = self._array(made.state)  # type: ignore[attr-defined]

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}  # type: ignore[assignment]

    def _array(self, described: dict[str, Any]) -> np.ndarray:
        """The array that joblib wrote after its description, by way of a byte that says how many to skip."""
        dtype, shape = _dtype(described["dtype"]), described["shape"]
        if described.get("numpy_array_alignment_bytes") is not None:
            self._bytes.read(self._bytes.read(1)[0])
        return _shaped(self._bytes.read(math.prod(shape) * dtype.itemsize), dtype, shape, described["order"] == "F")


def _array(found: Any) -> np.ndarray:
    """The array that numpy's own records describe, or that joblib's reader already made."""
    if isinstance(found, np.ndarray):
        return found
    if isinstance(found, Record) and found.is_a("_reconstruct"):
        _, shape, dtype, is_fortran, data = found.state
        return _shaped(_bytes(data), _dtype(dtype), shape, is_fortran)
    if isinstance(found, Record) and found.is_a("_frombuffer"):  # protocol 5
        data, dtype, shape, order = found.args
        return _shaped(data, _dtype(dtype), shape, order == "F")
    raise ValueError(f"found {_name(found)} where an array is expected")


def _dtype(found: Any) -> np.dtype[Any]:
    """The type that numpy's record describes: its code, and, as second entry of its state, its order of bytes."""
    if not (isinstance(found, Record) and found.is_a("dtype")):
        raise ValueError(f"found {_name(found)} where a type of numpy is expected")
    code = str(found.args[0])
    if code[:1] not in SCALARS or not code[1:].isdecimal():
        raise ValueError(f"found an array of {code}, expected numbers")
    return np.dtype(code).newbyteorder("=" if found.state is None or found.state[1] == "|" else found.state[1])


def _bytes(found: Any) -> bytes:
    """Bytes; before protocol 3, text that stands for them."""
    if isinstance(found, Record) and found.path == "_codecs.encode":
        return str(found.args[0]).encode("latin1")
    if not isinstance(found, bytes):
        raise ValueError(f"found {_name(found)} where bytes are expected")
    return found


def _shaped(data: bytes, dtype: np.dtype[Any], shape: tuple[int, ...], is_fortran: bool) -> np.ndarray:
    return np.frombuffer(data, dtype).reshape(shape, order="F" if is_fortran else "C")


def _name(found: Any) -> str:
    return found.path if isinstance(found, Record) else f"a {type(found).__name__}"


def read_centroids(path: Path) -> np.ndarray:
    """The centroids in a file, float32 (units, dim): those of scikit-learn's K-means, or the array of a ``.npy``.

    Centroids of float64 are rounded.

    Raises:
        InputError: There is no such file, it is damaged, of another class, or its centroids are no finite
            (units, dim).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file, {EXPECTED}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}), {EXPECTED}") from None
    try:
        if path.suffix == ".npy":
            centroids = np.load(io.BytesIO(content), allow_pickle=False)
        else:
            centroids = _of_estimator(content)
    except Exception as error:  # bytes of any kind raise errors of any kind
        reason = " ".join(str(error).split())[:150]
        expected = "expected an array that numpy.save wrote" if path.suffix == ".npy" else EXPECTED
        raise InputError(f"{path}: cannot be read ({type(error).__name__}: {reason}), {expected}") from None
    if centroids.ndim != 2 or len(centroids) < 2 or not centroids.shape[1] or centroids.dtype.kind != "f":
        raise InputError(
            f"{path}: found {centroids.dtype} of shape {centroids.shape}, expected two or more centroids: float "
            "(units, dim)"
        )
    with np.errstate(over="ignore"):
        centroids = np.ascontiguousarray(centroids, dtype=np.float32)
    if not np.isfinite(centroids).all():
        raise InputError(f"{path}: found a centroid that is not finite, expected none")
    return centroids


def _of_estimator(content: bytes) -> np.ndarray:
    """The ``cluster_centers_`` of a pickled estimator."""
    for start, decompress in DECOMPRESS.items():
        if content.startswith(start):
            content = decompress(content)
            if len(content) > LARGEST_BYTES:
                raise ValueError(f"found more than {LARGEST_BYTES:,} bytes once decompressed")
            break
    found = _Reader(io.BytesIO(content)).load()
    if not (isinstance(found, Record) and found.path.startswith("sklearn.") and found.is_a(*CLASSES)):
        raise ValueError(f"found {_name(found)}")
    if "cluster_centers_" not in found.state:
        raise ValueError("found no cluster_centers_: it is not fitted")
    return _array(found.state["cluster_centers_"])
