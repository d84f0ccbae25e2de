"""A file of Spin becomes an encoder folder with the file's head, codebook and units."""

from pathlib import Path

import numpy as np
import pytest
import torch
from encoder_oracles import linear, speech
from released_files import CASES, converted, spin_tensors
from safetensors.torch import load_file

from units.encoders import load, with_codebook


def test_spins_head_and_codebook_are_kept(tmp_path: Path) -> None:
    converted(tmp_path, CASES["spin-hubert"])
    found = load_file(tmp_path / "encoder" / "spin.safetensors")
    theirs = spin_tensors()
    assert found.keys() == {"head.weight", "head.bias", "codebook.weight"}
    assert torch.equal(found["head.weight"], theirs["pred_head.layers.0.weight"])
    assert torch.equal(found["head.bias"], theirs["pred_head.layers.0.bias"])
    assert torch.equal(found["codebook.weight"], theirs["loss_module.codebook.weight"])


@pytest.mark.parametrize("name", ["spin-hubert", "spin-wavlm"])
def test_a_spin_file_has_the_units_of_its_codebook(tmp_path: Path, name: str) -> None:
    pytest.importorskip("units.spin.encoder")
    base = load(converted(tmp_path, CASES[name]), "cpu", [3])
    folder = tmp_path / "encoder"
    encoder = with_codebook(load(folder, "cpu", [3]), folder, [3])
    assert (encoder.codebook_layers, encoder.codebook_size) == ([3], 128)
    waveforms = speech(4000, batch=2)
    features, predictions = encoder.features_and_predictions(waveforms, [3], [3])
    np.testing.assert_array_equal(features[3], base.features(waveforms, [3])[3])
    theirs = spin_tensors()
    head = linear(theirs, "pred_head.layers.0", torch.from_numpy(features[3]))
    codes = theirs["loss_module.codebook.weight"]
    cosines = (head / head.norm(dim=-1, keepdim=True)) @ (codes / codes.norm(dim=1, keepdim=True)).T
    np.testing.assert_allclose(predictions[3], (cosines / 0.1).softmax(-1).numpy(), rtol=1e-4, atol=1e-6)
