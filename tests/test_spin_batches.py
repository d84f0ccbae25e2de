"""Batches of Spin: crops, their perturbations, the share of each worker."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from artifacts.workers import Workers
from corpora.manifest import Utterance
from units.spin import batches as spin_batches
from units.spin.batches import Batches
from units.spin.settings import SpinRecipe

SMALL = {"min_samples": 1000, "max_samples": 5000, "max_batch_samples": 12_000, "num_buckets": 4}


@pytest.fixture
def utterances(tmp_path: Path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    found = []
    for index in range(11):
        path = tmp_path / f"u{index}.wav"
        soundfile.write(path, rng.normal(size=900 + 600 * index) * 0.1, 16_000, subtype="FLOAT")
        found.append(Utterance(path.stem, path, 900 + 600 * index, "s"))
    return found


def test_rows_are_crops_of_one_length_and_their_perturbation_is_their_own(
    utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spin_batches, "praat", lambda: None)
    monkeypatch.setattr(spin_batches, "perturb", lambda waveform, _, rng: waveform + np.float32(rng.random()))
    drawn: list[dict[str, float]] = []
    for num_buckets in (1, 4):  # other batches, the same perturbations
        batches = Batches(utterances, SpinRecipe.model_validate({"batches": {**SMALL, "num_buckets": num_buckets}}), 5)
        assert batches.num_short == 1
        for epoch in (0, 1):
            shifts: dict[str, float] = {}
            for number in range(epoch * batches.batches_per_epoch, (epoch + 1) * batches.batches_per_epoch):
                views = batches[number]
                lengths = [u.num_samples for u in utterances if u.fileid in views.fileids]
                assert views.original.shape == (len(views.fileids), min(5000, *lengths))
                assert views.original.size <= 12_000
                for fileid, original, perturbed in zip(views.fileids, views.original, views.perturbed, strict=True):
                    whole = soundfile.read(next(u.path for u in utterances if u.fileid == fileid), dtype="float32")[0]
                    windows = np.lib.stride_tricks.sliding_window_view(whole, len(original))
                    assert (windows == original).all(1).any()
                    shifts[fileid] = float(np.median(perturbed - original))
            assert sorted(shifts) == sorted(u.fileid for u in utterances[1:])  # each once in an epoch
            assert len(set(shifts.values())) == 10
            drawn.append(shifts)
    for fileid, shift in drawn[0].items():
        assert drawn[2][fileid] == pytest.approx(shift, abs=1e-5)
        assert drawn[1][fileid] != pytest.approx(shift, abs=1e-5)  # another epoch


def test_workers_share_the_rows_of_a_batch(utterances: list[Utterance], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spin_batches, "praat", lambda: None)
    monkeypatch.setattr(spin_batches, "perturb", lambda waveform, _, rng: waveform + np.float32(rng.random()))
    recipe = SpinRecipe.model_validate({"batches": SMALL})
    alone = Batches(utterances, recipe, 0)
    for number in range(alone.batches_per_epoch):
        shares = [Batches(utterances, recipe, 0, Workers(rank, 3))[number] for rank in range(3)]
        for rank, share in enumerate(shares):
            assert share.fileids == alone[number].fileids[rank::3]
            np.testing.assert_array_equal(share.original, alone[number].original[rank::3])
            np.testing.assert_array_equal(share.perturbed, alone[number].perturbed[rank::3])
