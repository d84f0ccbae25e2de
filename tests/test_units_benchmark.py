"""The benchmark of units: its two sides give the same units, and it would see if they did not."""

import json
from pathlib import Path

import joblib
import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans

from benchmarks.unit_sides import measure
from benchmarks.units import Difference, System, compare, make_speech, size_of
from spidr.encoder import load_encoder, write_encoder
from spidr.learner import build_learner
from spidr.settings import ModelSettings
from units.kmeans import convert
from units.records import UnitSequence, write_units

TINY = ModelSettings(
    extractor=[(16, 10, 5), *[(16, 3, 2)] * 4, *[(16, 2, 2)] * 2],
    hidden_size=32,
    num_layers=3,
    num_heads=2,
    ffn_size=64,
    num_codebooks=2,
    codebook_size=8,
)


def make_system(folder: Path, encoder: str, layer: int, centroids: np.ndarray) -> System:
    estimator = KMeans(len(centroids), init=centroids, n_init=1, max_iter=1).fit(centroids)
    estimator.cluster_centers_ = centroids
    file = folder / f"L{layer}-{len(centroids)}.joblib"
    joblib.dump(estimator, file)
    config = {"encoder": encoder, "layer": layer, "tap": "ffn", "frame_rate_hz": 50.0}
    convert(file, config, folder / f"L{layer}" / f"kmeans{len(centroids)}")
    return System(layer, folder / f"L{layer}" / f"kmeans{len(centroids)}", file)


def test_one_pass_and_a_pass_per_layer_give_the_same_units(tmp_path: Path) -> None:
    write_encoder(tmp_path / "spidr", build_learner(TINY, 0), {})
    manifest, utterances = make_speech(tmp_path, 15)
    waveform = torch.randn(1, 16000, generator=torch.Generator().manual_seed(0))
    features = load_encoder(tmp_path / "spidr", torch.device("cpu")).features(waveform, [1, 3])
    systems = [
        make_system(tmp_path, "spidr", layer, features[layer][0, :num_units].contiguous().numpy())
        for layer in (1, 3)
        for num_units in (5, 9)
    ]
    outputs = {side: [str(tmp_path / f"{side}{index}.jsonl") for index in range(4)] for side in ("ours", "theirs")}
    common = {"encoder": str(tmp_path / "spidr"), "manifest": str(manifest), "device": "cpu"}
    common |= {"threads": torch.get_num_threads(), "precision": "float32"}
    requests = {
        "ours": {"quantizers": [str(system.quantizer) for system in systems]},
        "theirs": {
            "layers": [system.layer for system in systems],
            "estimators": [str(system.estimator) for system in systems],
            "features": str(tmp_path / "features"),
        },
    }
    for side, request in requests.items():
        answer = measure({**common, **request, "side": side, "outputs": outputs[side]})
        assert answer["wall_s"] > 0
    difference = compare(systems, outputs["ours"], outputs["theirs"], tmp_path / "features")
    num_frames = sum((utterance.num_samples - 400) // 320 + 1 for utterance in utterances)
    assert difference.frames == 4 * num_frames
    assert difference.not_near == 0
    assert difference.differ < 0.001 * difference.frames
    assert size_of(tmp_path / "features") > 2 * num_frames * 32 * 4


def test_units_that_differ_are_counted_and_near_ties_told_apart(tmp_path: Path) -> None:
    """Frames at 0.1, 0.5 and 0.9 between centroids at 0 and 1: the second is nearer to neither."""
    system = make_system(tmp_path, "toy", 1, np.array([[0.0], [1.0]], dtype=np.float32))
    (tmp_path / "features" / "L01").mkdir(parents=True)
    torch.save(torch.tensor([[0.1], [0.5], [0.9]]), tmp_path / "features" / "L01" / "u.pt")
    (tmp_path / "theirs.jsonl").write_text(json.dumps({"name": "u", "units": [0, 0, 1]}) + "\n")
    for frames, expected in (
        ([0, 0, 1], Difference(3, 0, 0)),
        ([0, 1, 1], Difference(3, 1, 0)),
        ([1, 1, 1], Difference(3, 2, 1)),
    ):
        runs = np.split(frames, np.flatnonzero(np.diff(frames)) + 1)
        sequence = UnitSequence("u", [int(run[0]) for run in runs], [len(run) for run in runs])
        write_units(tmp_path / "ours.jsonl", [sequence])
        paths = [str(tmp_path / "ours.jsonl")], [str(tmp_path / "theirs.jsonl")]
        assert compare([system], *paths, tmp_path / "features") == expected
    (tmp_path / "theirs.jsonl").write_text(json.dumps({"name": "u", "units": [0, 0]}) + "\n")
    with pytest.raises(AssertionError):
        compare([system], *paths, tmp_path / "features")
