"""Subsets by hours lie within one another, last what they say, and are what is trained on."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import slm.train
from artifacts.errors import InputError
from slm.packing import PackedCorpus
from slm.store import TokenStore, write_store
from slm.subsets import Subset, draw_subset, hours_of
from units.records import UnitSequence, UntimedUnits, write_units

LASTING = st.lists(st.lists(st.integers(1, 4000), min_size=1, max_size=20), min_size=1, max_size=3)


def stores_of(folder: Path, frames: list[list[int]]) -> list[TokenStore]:
    """Stores whose documents last so many frames of a second each, by the name of their place."""
    stores = []
    for number, lengths in enumerate(frames):
        path = folder / f"{number}.jsonl"
        write_units(path, [UnitSequence(f"{number}-{i}", [1], [length]) for i, length in enumerate(lengths)])
        write_store(path, 10, 1.0, str(number), folder / str(number))
        stores.append(TokenStore(folder / str(number)))
    return stores


@settings(max_examples=30, deadline=None)
@given(frames=LASTING, shares=st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), seed=st.integers(0, 5))
def test_a_subset_lasts_its_hours_and_lies_in_every_larger_one(
    tmp_path_factory: pytest.TempPathFactory, frames: list[list[int]], shares: tuple[float, float], seed: int
) -> None:
    stores = stores_of(tmp_path_factory.mktemp("stores"), frames)
    total = sum(map(sum, frames))
    drawn = []
    for share in sorted(shares):
        documents = draw_subset(stores, Subset(share * total / 3600, seed))
        chosen = {(store, int(i)) for store, of_store in enumerate(documents) for i in of_store}
        lasting = sorted(frames[store][i] for store, i in chosen)
        assert sum(lasting) >= share * total * (1 - 1e-12)
        assert sum(lasting) - lasting[-1] < share * total  # without its longest document it is too short
        hours = hours_of(stores, documents)
        assert hours == pytest.approx(sum(lasting) / 3600)
        assert all((np.diff(of_store) > 0).all() for of_store in documents)
        drawn.append(chosen)
    assert drawn[0] <= drawn[1]


def test_subsets_of_other_seeds_are_others(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, [[10] * 100])
    (one,), (again,), (other,) = (draw_subset(stores, Subset(200 / 3600, seed)) for seed in (0, 0, 1))
    assert len(one) == 20
    assert one.tolist() == again.tolist() != other.tolist()


def test_a_subset_of_more_than_there_is_or_of_unknown_length_is_an_error(tmp_path: Path) -> None:
    stores = stores_of(tmp_path, [[1800], [5400]])
    assert [of_store.tolist() for of_store in draw_subset(stores, Subset(2, 0))] == [[0], [0]]
    with pytest.raises(
        InputError, match=r"hours: found 2.1, expected more than 0 and at most 2, which .*/0, .*/1 last"
    ):
        draw_subset(stores, Subset(2.1, 0))
    write_units(tmp_path / "units.jsonl", [UntimedUnits("a", [3])])
    write_store(tmp_path / "units.jsonl", 10, 50.0, "untimed", tmp_path / "untimed")
    with pytest.raises(InputError, match="untimed: found documents of unknown duration, expected durations to count"):
        draw_subset([*stores, TokenStore(tmp_path / "untimed")], Subset(1, 0))


def test_an_epoch_of_a_subset_has_its_documents_alone(tmp_path: Path) -> None:
    write_units(tmp_path / "units.jsonl", [UnitSequence(f"utt{i}", [i, 9], [1, 1]) for i in range(9)])
    write_store(tmp_path / "units.jsonl", 10, 50.0, "train", tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    corpus = PackedCorpus([store], 8, 0, [np.array([2, 5])])
    assert corpus.num_predicted == 6
    inputs = corpus.batch(0, corpus.num_contexts).inputs
    assert sorted(inputs[inputs > 1].tolist()) == [4, 7, 11, 11]


RECIPE = {
    "model": {"hidden_size": 8, "num_layers": 1, "num_heads": 1, "ffn_size": 8, "context": 16},
    "optimizer": {"warmup_steps": 0},
    "training": {"steps": 2, "batch_size": 1, "accumulation": 1, "precision": "float32"},
}


def test_a_training_states_the_hours_it_was_on_and_other_hours_are_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stores_of(tmp_path, [[360] * 20, [360] * 3])

    def train(*more: str) -> float:
        given = ["--settings", json.dumps(RECIPE), "--slm", "opt", "--device", "cpu", "--tokens", str(tmp_path / "0")]
        given += ["--validation-tokens", str(tmp_path / "1"), "--output", str(tmp_path / "out"), *more]
        monkeypatch.setattr(sys, "argv", ["slm.train", *given])
        slm.train.main()
        return float(json.loads((tmp_path / "out/summary.json").read_text())["hours"])

    assert train("--hours", "0.45", "--subset-seed", "3") == pytest.approx(0.5)  # five documents of six minutes
    assert train() == pytest.approx(2)
    assert (tmp_path / "out/earlier-1/log.jsonl").is_file()
    with pytest.raises(InputError, match=r"hours: found 2\.5, expected more than 0 and at most 2, which"):
        train("--hours", "2.5")
