"""Files of data2vec 2.0 and the Conformer become folders; test_data2vec2 and test_conformer prove the models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from encoder_oracles import speech
from released_files import pickled_settings, save_with_settings
from safetensors.torch import load_file
from test_conformer import make_release as conformer_release
from test_data2vec2 import FORMS
from test_data2vec2 import make_release as data2vec2_release
from torch import Tensor

from artifacts.errors import InputError
from units import conformer, data2vec2
from units.conversion import convert
from units.encoders import load
from units.registry import REGISTRY


def test_a_file_of_data2vec_2_is_converted(tmp_path: Path) -> None:
    content = data2vec2_release(FORMS["two-lists"]) | {"cfg": pickled_settings()}
    save_with_settings(content, tmp_path / "ehmam.pt")
    released = REGISTRY["eh-mam"]._replace(num_layers=4, dim=24)
    convert(tmp_path / "ehmam.pt", released, tmp_path / "encoder")
    config, tensors = data2vec2.from_released(content, tmp_path / "ehmam.pt")
    check_converted(tmp_path / "encoder", config, tensors, "eh-mam")
    with pytest.raises(InputError, match="found 4 layers of width 24, expected 12 of 768: eh-mam has those"):
        convert(tmp_path / "ehmam.pt", REGISTRY["eh-mam"], tmp_path / "other")


def test_the_two_files_of_the_conformer_are_converted(tmp_path: Path) -> None:
    content, normalizer = conformer_release()
    torch.save(content, tmp_path / "asr.ckpt")
    torch.save(normalizer, tmp_path / "normalizer.ckpt")
    released = REGISTRY["conformer-asr"]._replace(num_layers=3, dim=16)
    convert(tmp_path / "asr.ckpt", released, tmp_path / "encoder", tmp_path / "normalizer.ckpt")
    config, tensors = conformer.from_released(content, tmp_path / "asr.ckpt", normalizer)
    check_converted(tmp_path / "encoder", config, tensors, "conformer-asr")
    with pytest.raises(InputError, match="found no tensor glob_mean"):
        convert(tmp_path / "asr.ckpt", released, tmp_path / "other", tmp_path / "asr.ckpt")


def check_converted(folder: Path, config: dict[str, Any], tensors: dict[str, Tensor], entry: str) -> None:
    written = load_file(folder / "model.safetensors")
    assert written.keys() == tensors.keys()
    assert all(torch.equal(written[name], tensor) for name, tensor in tensors.items())
    found = json.loads((folder / "config.json").read_text())
    assert found.pop("provenance")["settings"] == {"encoder": entry}
    assert found == json.loads(json.dumps(config))
    encoder = load(folder, "cpu", [1, 2])
    released = REGISTRY[entry]
    assert (encoder.tap, encoder.frame_rate_hz) == (released.tap, released.frame_rate_hz)
    assert found["standardize"] == released.standardize
    features = encoder.features(speech(4000), [1, 2])
    assert features[2].shape == (1, encoder.num_frames(4000), encoder.dim(2))
    assert not np.array_equal(features[1], features[2])
