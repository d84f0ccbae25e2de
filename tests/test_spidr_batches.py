"""Batches: which utterances, which crops, in which order."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from artifacts.errors import InputError
from corpora.manifest import Utterance
from spidr.batches import Batches, prefetch
from spidr.settings import BatchSettings, Recipe


def utterances(*lengths: int) -> list[Utterance]:
    return [Utterance(f"u{i}", Path(f"u{i}.wav"), length, "s") for i, length in enumerate(lengths)]


def batches(speech: list[Utterance], seed: int = 0, **settings: int) -> Batches:
    return Batches(speech, Recipe(batches=BatchSettings.model_validate(settings)), seed)


def many() -> list[Utterance]:
    return utterances(*np.random.default_rng(0).integers(1000, 60_000, size=300).tolist())


SMALL = {"max_samples": 40_000, "max_batch_samples": 200_000, "num_buckets": 20}


def epoch(made: Batches, number: int = 0) -> list[list[str]]:
    first = number * made.batches_per_epoch
    return [[u.fileid for u in made.members(step)] for step in range(first, first + made.batches_per_epoch)]


def test_an_epoch_has_every_utterance_that_is_long_enough_once() -> None:
    made = batches(many(), **SMALL)
    for number in (0, 1):
        fileids = [fileid for batch in epoch(made, number) for fileid in batch]
        assert sorted(fileids) == sorted(u.fileid for u in many() if u.num_samples >= 2000)
    assert made.num_short == sum(u.num_samples < 2000 for u in many())


def test_batches_keep_to_the_budget_and_are_nearly_full() -> None:
    made = batches(many(), **SMALL)
    sizes = [sum(min(u.num_samples, 40_000) for u in made.members(step)) for step in range(made.batches_per_epoch)]
    assert max(sizes) <= 200_000
    assert np.median(sizes) > 0.75 * 200_000


def test_utterances_are_shuffled_within_their_bucket_only() -> None:
    made = batches(many(), **SMALL)
    lengths = {u.fileid: min(u.num_samples, 40_000) for u in many()}
    width = (40_000 - 2000) / 20
    for batch in epoch(made):
        numbers = [min(int((lengths[fileid] - 2000) / width), 19) for fileid in batch]
        assert numbers == sorted(numbers)
    assert sorted(map(sorted, epoch(made, 0))) != sorted(map(sorted, epoch(made, 1)))


def test_the_batch_of_a_step_follows_from_the_seed_and_the_step() -> None:
    made, again, other = batches(many(), **SMALL), batches(many(), **SMALL), batches(many(), seed=1, **SMALL)
    last = 5 * made.batches_per_epoch - 1
    assert made.members(last) == again.members(last)  # without going through the steps before
    assert epoch(made) == epoch(again)
    assert epoch(made) != epoch(other)


@pytest.fixture
def speech(tmp_path: Path) -> list[Utterance]:
    rng = np.random.default_rng(0)
    made = []
    for index, length in enumerate((5000, 5100, 5200, 9000, 12_000, 30_000)):
        path = tmp_path / f"u{index}.wav"
        soundfile.write(path, rng.uniform(-1, 1, length), 16_000, subtype="FLOAT")
        made.append(Utterance(path.stem, path, length, "s"))
    return made


def test_rows_are_crops_of_the_shortest_row_s_length(speech: list[Utterance]) -> None:
    made = batches(speech, max_samples=10_000, max_batch_samples=20_000, num_buckets=4)
    starts = set()
    for step in range(4 * made.batches_per_epoch):
        batch, members = made[step], made.members(step)
        assert batch.fileids == [u.fileid for u in members]
        assert batch.waveforms.shape == (len(members), min(10_000, *(u.num_samples for u in members)))
        assert len(batch.masked) == len(members)
        for row, utterance in zip(batch.waveforms.numpy(), members, strict=True):
            whole, _ = soundfile.read(utterance.path, dtype="float32")
            (start,) = (i for i in np.flatnonzero(whole == row[0]) if np.array_equal(whole[i : i + len(row)], row))
            if utterance.num_samples == 30_000:
                starts.add(start)
    assert len(starts) > 1  # crops are random


def test_reading_ahead_gives_the_same_batches_in_order(speech: list[Utterance]) -> None:
    made = batches(speech, max_samples=10_000, max_batch_samples=20_000, num_buckets=4)
    steps = range(3, 20)
    for step, batch in zip(steps, prefetch(made, steps, torch.device("cpu")), strict=True):
        assert (batch.number, batch.fileids) == (step, made[step].fileids)
        assert torch.equal(batch.waveforms, made[step].waveforms)
        assert torch.equal(batch.masked, made[step].masked)


def test_a_missing_file_is_named_by_the_reader(speech: list[Utterance]) -> None:
    speech[2].path.unlink()
    made = batches(speech, max_samples=10_000, max_batch_samples=20_000, num_buckets=4)
    with pytest.raises(InputError, match=r"u2\.wav: no such file"):
        list(prefetch(made, range(made.batches_per_epoch), torch.device("cpu")))


def test_bad_audio_is_left_out_and_named_where_that_is_asked_for(speech: list[Utterance]) -> None:
    speech[1].path.write_bytes(b"RIFF no")
    soundfile.write(speech[2].path, np.zeros((5200, 2)), 16_000)
    soundfile.write(speech[3].path, np.zeros(8000), 16_000)
    recipe = Recipe.model_validate(
        {
            "batches": {"max_samples": 10_000, "max_batch_samples": 40_000, "num_buckets": 4},
            "training": {"bad_audio": "skip"},
        }
    )
    made = Batches(speech, recipe, 0)
    first_epoch = list(prefetch(made, range(made.batches_per_epoch), torch.device("cpu")))
    assert sorted(fileid for batch in first_epoch for fileid in batch.fileids) == ["u0", "u4", "u5"]
    left_out = {fileid: reason for batch in first_epoch for fileid, reason in batch.left_out.items()}
    assert sorted(left_out) == ["u1", "u2", "u3"]
    assert "u1.wav: not readable as audio" in left_out["u1"]
    assert "u2.wav: found 2 channels, expected mono" in left_out["u2"]
    assert "u3.wav: found 8,000 samples, the manifest says 9,000" in left_out["u3"]
    for batch in first_epoch:
        assert len(batch.waveforms) == len(batch.masked) == len(batch.fileids)


ONE_ROW = {
    "batches": {"max_samples": 10_000, "max_batch_samples": 10_000, "num_buckets": 4},
    "training": {"bad_audio": "skip"},
}


def test_a_batch_of_bad_audio_alone_has_the_rows_of_the_next(speech: list[Utterance]) -> None:
    recipe = Recipe.model_validate(ONE_ROW)
    whole = Batches(speech, recipe, 0)
    assert whole.batches_per_epoch == len(speech) == 6
    order = [whole.members(number)[0] for number in range(6)]
    for utterance in order[2:4]:
        utterance.path.unlink()
    made = Batches(speech, recipe, 0)
    read = [made[number] for number in range(6)]
    assert [batch.number for batch in read] == [0, 1, 2, 3, 4, 5]
    assert [batch.fileids for batch in read] == [[order[index].fileid] for index in (0, 1, 4, 4, 4, 5)]
    assert [sorted(batch.left_out) for batch in read[2:5]] == [
        sorted(utterance.fileid for utterance in order[2:4]),
        [order[3].fileid],
        [],
    ]
    for stand_in in read[2:4]:
        assert torch.equal(stand_in.waveforms, read[4].waveforms)
        assert len(stand_in.masked) == 1


def test_a_disk_that_is_gone_ends_a_training_that_leaves_bad_audio_out(speech: list[Utterance]) -> None:
    for utterance in speech:
        utterance.path.unlink()
    with pytest.raises(InputError, match=r"u\d\.wav: no such file.*; 10 batches from number 7 on hold bad audio alone"):
        Batches(speech, Recipe.model_validate(ONE_ROW), 0)[7]


def test_layer_drop_is_drawn_for_each_batch_as_often_as_asked() -> None:
    model = {"layer_drop": 0.3}
    made = Batches(utterances(3000), Recipe.model_validate({"model": model}), 0)
    draws = [made._draw_kept_layers(number) for number in range(500)]
    kept = torch.stack([draw for draw in draws if draw is not None]).double()
    assert kept.shape == (500, 12)
    assert kept.mean().item() == pytest.approx(0.7, abs=0.02)
    none = Batches(utterances(3000), Recipe.model_validate({"model": {"layer_drop": 0}}), 0)
    assert none._draw_kept_layers(0) is None


def test_a_corpus_of_short_utterances_is_refused() -> None:
    with pytest.raises(InputError, match="found no utterance among 2 of at least 2000 samples"):
        batches(utterances(1000, 1999))
