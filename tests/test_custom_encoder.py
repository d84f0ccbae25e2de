"""An encoder of one's own is named by import path, described once and loaded in later jobs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from artifacts.errors import InputError
from units.encoders import describe, load
from units.settings import CustomEncoder

CODE = """
import numpy as np

class Ramp:
    frame_rate_hz = 100
    num_layers = 2
    tap = "block"
    batch_samples = 0

    def __init__(self, slope):
        self.slope = slope

    def dim(self, layer):
        return 1

    def num_frames(self, num_samples):
        return num_samples // 160

    def features(self, waveforms, layers):
        ramp = np.arange(self.num_frames(waveforms.shape[1]), dtype=np.float32)
        return {layer: np.tile(layer * self.slope * ramp[:, None], (len(waveforms), 1, 1)) for layer in layers}

def load(slope, device):
    return Ramp(slope)

def load_lame(device):
    ramp = Ramp(1)
    ramp.features = None
    return ramp

def load_vague(device):
    ramp = Ramp(1)
    ramp.num_layers = None
    return ramp
"""


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ramps_of_a_test.py").write_text(CODE)
    monkeypatch.syspath_prepend(tmp_path)


def describe_custom(loader: str = "ramps_of_a_test:load", **options: Any) -> dict[str, Any]:
    return describe(CustomEncoder(family="custom", loader=loader, options=options, layers=[0, 2]))


def test_a_described_encoder_loads(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(describe_custom(slope=3)))
    encoder = load(tmp_path, "cpu", [2])
    features = encoder.features(np.zeros((2, 480), dtype=np.float32), [2])[2]
    np.testing.assert_array_equal(features, [[[0], [6], [12]]] * 2)
    with pytest.raises(InputError, match="found layer 3, expected 0 to 2"):
        load(tmp_path, "cpu", [3])


@pytest.mark.parametrize(
    ("loader", "options", "message"),
    [
        ("ramps_of_a_test:load", {}, r"options: ramps_of_a_test:load does not take device \(missing .*'slope'"),
        ("ramps_of_a_test:load", {"slope": 1, "size": 2}, "does not take device, slope, size .*'size'"),
        ("ramps_of_a_test:nothing", {}, "loader: found 'ramps_of_a_test:nothing', expected a callable .*nothing"),
        ("no_such_module:load", {}, r"expected a callable of .* PYTHONPATH \(No module named 'no_such_module'\)"),
        ("ramps_of_a_test:load_lame", {}, r"returned an encoder without features\(\)"),
        ("ramps_of_a_test:load_vague", {}, "returned an encoder whose num_layers is None, expected int"),
    ],
)
def test_what_is_no_encoder_is_refused(loader: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        describe_custom(loader, **options)
    assert "\n" not in str(caught.value)
