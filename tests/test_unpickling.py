"""Checkpoints of strangers are read, and nothing in them is executed."""

import argparse
import collections
import enum
import os
import pickle
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from artifacts.errors import InputError
from artifacts.unpickling import Inert, load_untrusted

TENSOR = torch.arange(1000.0).view(10, 100)


class Mode(enum.Enum):
    LAYER_NORM = "layer_norm"


class Parts(dict[str, int]):
    pass


class Call:
    """A pickle of it is a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.function, self.arguments


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "checkpoint.pt"


def refuse(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_untrusted(path)
    assert str(error.value).startswith(str(path))
    assert str(error.value).endswith("expected a checkpoint that torch.save wrote")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
def test_tensors_and_plain_values_are_read(path: Path, is_zip: bool) -> None:
    shared = torch.nn.Parameter(TENSOR[2:4].T)
    content = {"model": collections.OrderedDict(weight=shared), "values": [1, 2.5, "three", None, {4}, (True, 10**20)]}
    torch.save(content, path, _use_new_zipfile_serialization=is_zip)
    found = load_untrusted(path)
    assert torch.equal(found["model"]["weight"], shared)
    assert found["values"] == content["values"]


def test_objects_of_training_code_are_inert(path: Path) -> None:
    arguments = argparse.Namespace(arch="dinosr", mode=Mode.LAYER_NORM, rate=TENSOR.numpy()[0, 1])
    arguments.itself = arguments
    meters = collections.defaultdict(list, {"loss": [1.5]})
    torch.save({"args": arguments, "mode": Mode.LAYER_NORM, "meters": meters, "model": {"weight": TENSOR}}, path)
    found = load_untrusted(path)
    assert type(found["args"]) is type(found["mode"]) is Inert
    assert vars(found["args"]) == {}
    assert found["meters"] == {"loss": [1.5]}
    assert torch.equal(found["model"]["weight"], TENSOR)


def test_what_was_inert_is_not_allowed_elsewhere(path: Path) -> None:
    torch.save(argparse.Namespace(), path)
    assert isinstance(load_untrusted(path), Inert)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("is_zip", [True, False], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("function", [os.system, subprocess.getoutput, eval])
def test_nothing_is_executed(path: Path, function: Any, is_zip: bool) -> None:
    trace = path.with_name("trace")
    attack = Call(function, f"open({str(trace)!r}, 'w').close()" if function is eval else f"touch {trace}")
    torch.save({"model": {"weight": TENSOR}, "attack": attack}, path, _use_new_zipfile_serialization=is_zip)
    if is_zip and function is not os.system:
        assert type(load_untrusted(path)["attack"]) is Inert
    else:
        refuse(path, "found what cannot be read .*GLOBAL")
    assert not trace.exists()
    pickle.loads(pickle.dumps(attack))  # whoever reads it so is attacked
    assert trace.exists()


def test_files_that_are_damaged_or_no_checkpoints_are_refused_in_one_line(path: Path) -> None:
    torch.save({"model": {"weight": TENSOR}}, path)
    whole = path.read_bytes()
    damaged = bytearray(whole)
    damaged[whole.index(TENSOR.numpy().tobytes()) + 100] ^= 255
    for content, message in (
        (whole[: len(whole) // 2], "found a damaged or truncated archive"),
        (whole[:-1], "found a damaged or truncated archive"),
        (bytes(damaged), "found a damaged or truncated archive .*wrong checksum of .*data/0"),
        (b"", "found what cannot be read"),
        (b"no checkpoint at all\n", "found what cannot be read"),
        (b'{"model": {}}', "found what cannot be read"),
    ):
        path.write_bytes(content)
        refuse(path, message)
    refuse(path.with_name("absent"), "no such file")
    refuse(path.parent, r"cannot be read \(Is a directory\)")
    torch.save(Parts(a=1), path)
    refuse(path, "found what cannot be read .*but got .*Inert")
