"""Tensors and arrays of strangers: lying headers, and little that stands for much."""

import bz2
import gzip
import json
import lzma
import shutil
import struct
import time
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from safetensors.numpy import save_file
from strangers import in_one_line, nothing_is_stolen

from artifacts.unpickling import load_untrusted
from spidr.encoder import load_encoder
from units import kmeans_import
from units.features import FeatureReader
from units.kmeans_import import read_centroids
from units.quantizers import load_quantizer

__all__ = ["nothing_is_stolen"]  # a fixture


def lying(header: dict[str, Any] | bytes, content: bytes = bytes(16), length: int | None = None) -> bytes:
    """A safetensors file with a header of one's own."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + content


def tensor(dtype: str, shape: list[int], *offsets: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


LIES = {
    "a header of exabytes": lying({}, length=2**62),
    "a header longer than the file": lying({}, length=99_000_000),
    "a header without end": lying(b'{"a":' + b"[" * 100_000),
    "more data than there is": lying({"t": tensor("F32", [10, 4], 0, 160)}),
    "a tensor of exabytes": lying({"t": tensor("F32", [2**40, 2**40], 0, 16)}),
    "a negative size": lying({"t": tensor("F32", [-1, 4], 0, 16)}),
    "tensors over each other": lying({"t": tensor("F32", [4], 0, 16), "u": tensor("F32", [4], 0, 16)}),
    "an unknown type": lying({"t": tensor("XX", [4], 0, 16)}),
    "types that numpy has not": lying({"t": tensor("BF16", [2, 4], 0, 16)}),
    "a pickle": b"\x80\x04cposix\nsystem\n\x8c\x0ctouch stolen\x85R.",
    "nothing": b"",
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lying_header_is_one_line_in_every_room(tmp_path: Path, lie: str) -> None:
    def features() -> Path:
        config = {"frame_rate_hz": 50, "dim": 4, "num_frames": 2}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "index.csv").write_text("fileid,shard,start,num_frames\na,shard,0,2\n")
        (tmp_path / "shard").write_bytes(LIES[lie].replace(b'"t"', b'"features"'))
        return tmp_path

    def quantizer() -> Path:
        config = {"kind": "kmeans", "num_units": 2, "encoder": "e", "layer": 1, "frame_rate_hz": 50}
        (tmp_path / "config.json").write_text(json.dumps(config))
        (tmp_path / "quantizer.safetensors").write_bytes(LIES[lie].replace(b'"t"', b'"centroids"'))
        return tmp_path

    def encoder() -> Path:
        shutil.copytree(REPOSITORY / "config" / "spidr", tmp_path / "recipes", dirs_exist_ok=True)
        recipe = yaml.safe_load((tmp_path / "recipes" / "tiny.yaml").read_text())
        (tmp_path / "config.json").write_text(
            json.dumps({"family": "spidr", "num_layers": 4, "model": recipe["model"]})
        )
        (tmp_path / "model.safetensors").write_bytes(LIES[lie])
        return tmp_path

    in_one_line("shard: (not a whole|found BF16)", lambda: FeatureReader(features()).frames("a"))
    in_one_line("quantizer.safetensors: not a whole", lambda: load_quantizer(quantizer()))
    in_one_line("model.safetensors: (not a whole|does not fit)", lambda: load_encoder(encoder(), torch.device("cpu")))


def test_centroids_are_floats(tmp_path: Path) -> None:
    config = {"kind": "kmeans", "num_units": 2, "encoder": "e", "layer": 1, "frame_rate_hz": 50}
    (tmp_path / "config.json").write_text(json.dumps(config))
    save_file({"centroids": np.zeros((2, 4), dtype=np.int64)}, tmp_path / "quantizer.safetensors")
    in_one_line("centroids: found int64, expected floats", lambda: load_quantizer(tmp_path))


def test_a_compressed_file_is_not_let_grow_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kmeans_import, "LARGEST_BYTES", 10**6)
    much = bytes(10**8)
    for number, compress in enumerate((zlib.compress, gzip.compress, bz2.compress, lzma.compress)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(compress(much))
        in_one_line("found more than 1,000,000 bytes once decompressed", lambda path=path: read_centroids(path))  # type: ignore[misc]


def test_a_checkpoint_is_not_compressed(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/data/0", bytes(10**8))
    began = time.monotonic()
    in_one_line(r"bomb.pt: found a damaged .*data.pkl is compressed", lambda: load_untrusted(path))
    assert time.monotonic() - began < 0.1


def test_an_array_that_says_it_is_petabytes_is_one_line(tmp_path: Path) -> None:
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (99999999999999, 9), }".ljust(117) + b"\n"
    path = tmp_path / "centroids.npy"
    path.write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(80))
    in_one_line("centroids.npy: cannot be read", lambda: read_centroids(path))
