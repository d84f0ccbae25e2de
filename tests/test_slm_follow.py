"""A training says how it does on pairs while it goes on, and is the same without."""

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_slm_training import NUM_UNITS, arguments, assert_same_training, log_of, stores, trained

import slm.train
from artifacts.errors import InputError
from slm.follow import accuracy, pair_accuracy, read_followed
from slm.pretrained import load_model
from units.records import UnitSequence, write_units

__all__ = ["stores", "trained"]  # fixtures


@pytest.fixture
def pairs(tmp_path: Path) -> tuple[Path, Path]:
    """Pairs, in two voices, of a phrase of the language and one with a unit out of its place."""
    draw, sequences, rows = np.random.default_rng(5), [], []
    for number in range(20):
        for voice in ("a", "b"):
            start, length = int(draw.integers(NUM_UNITS)), int(draw.integers(6, 30))
            good = (start + np.arange(length)) % NUM_UNITS
            bad = good.copy()
            bad[length // 2] = (bad[length // 2] + 5) % NUM_UNITS
            for correct, units in ((1, good), (0, bad)):
                fileid = f"{number}-{voice}-{correct}"
                sequences.append(UnitSequence(fileid, units.tolist(), [1] * length))
                rows.append({"fileid": fileid, "id": number, "voice": voice, "correct": correct})
    return write(tmp_path, sequences, rows)


def write(folder: Path, sequences: list[UnitSequence], rows: list[dict[str, object]]) -> tuple[Path, Path]:
    write_units(folder / "units.jsonl", sequences)
    with (folder / "items.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    return folder / "units.jsonl", folder / "items.csv"


def test_the_accuracy_is_in_the_log_and_changes_nothing(
    trained: Path, stores: Path, pairs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "seed0"
    given = [*arguments(stores, folder), "--follow", f"words={pairs[0]}={pairs[1]}"]
    monkeypatch.setattr(sys, "argv", ["slm.train", *given])
    slm.train.main()
    assert_same_training(folder, trained)
    found = log_of(folder, "words")
    assert [line["step"] for line in found] == [line["step"] for line in log_of(folder, "validation")]
    assert found[-1]["accuracy"] > 0.9


def test_the_accuracy_is_that_of_pairs_read_one_token_at_a_time(trained: Path, pairs: tuple[Path, Path]) -> None:
    model = load_model(trained / "model")
    means = {}
    for line in csv.DictReader(pairs[1].open()):
        fileid = line["fileid"]
        sequence = next(text for text in pairs[0].read_text().splitlines() if f'"{fileid}"' in text)
        tokens = [1, *(unit + 2 for unit in json.loads(sequence)["units"]), 1]
        with torch.no_grad():
            predicted = model(torch.tensor([tokens[:-1]])).logits[0].log_softmax(-1)
        means[fileid] = np.mean([predicted[place, token].item() for place, token in enumerate(tokens[1:])])
    wins = [means[name] > means[name[:-1] + "0"] for name in means if name.endswith("1")]
    followed = read_followed(f"words={pairs[0]}={pairs[1]}", NUM_UNITS, 64)
    assert followed.pairs.shape == (40, 2)
    assert pair_accuracy(model, followed) == pytest.approx(np.mean(wins))


def test_a_tie_is_half_a_pair() -> None:
    assert accuracy([-1.0, -2.0, -3.0, -1.0], [-2.0, -2.0, -1.0, -3.0]) == 2.5 / 4


def test_stimuli_of_the_same_units_are_a_tie(trained: Path, tmp_path: Path) -> None:
    sequences = [UnitSequence(name, [1, 2, 3], [1] * 3) for name in "ab"]
    rows = [{"fileid": name, "id": 0, "correct": correct} for name, correct in (("a", 1), ("b", 0))]
    units, items = write(tmp_path, sequences, rows)
    model = load_model(trained / "model")
    assert pair_accuracy(model, read_followed(f"ties={units}={items}", NUM_UNITS, 64)) == 0.5


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"fileid": "c"}, r"items.csv, line 3: found c, which .*units.jsonl has not"),
        ({"correct": "yes"}, r"items.csv, line 3: correct: found 'yes', expected 0 or 1"),
        ({"correct": 1}, r"items.csv, line 3: found a second stimulus of one kind"),
        ({"id": 1}, r"items.csv: 0: found one stimulus, expected a correct and an incorrect one"),
    ],
)
def test_items_that_are_no_pairs_are_one_line(tmp_path: Path, change: dict[str, object], message: str) -> None:
    sequences = [UnitSequence(name, [1, 2, 3], [1] * 3) for name in "ab"]
    rows = [{"fileid": name, "id": 0, "correct": correct} for name, correct in (("a", 1), ("b", 0))]
    rows[1] |= change
    units, items = write(tmp_path, sequences, rows)
    with pytest.raises(InputError, match=message):
        read_followed(f"words={units}={items}", NUM_UNITS, 64)


@pytest.mark.parametrize("text", ["words", "words=units.jsonl", "train=units.jsonl=items.csv", "=a=b"])
def test_what_is_followed_has_a_name_units_and_items(text: str) -> None:
    with pytest.raises(InputError, match=r"--follow: found .*, expected NAME=UNITS.jsonl=ITEMS.csv"):
        read_followed(text, NUM_UNITS, 64)
