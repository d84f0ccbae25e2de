"""A log-likelihood is the sum of log p(token | what precedes it), however it is batched."""

import csv
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import slm.score
from artifacts.errors import InputError
from slm.model import build_model, load_model, save_model
from slm.score import batches, log_likelihoods, read_documents
from slm.settings import ModelSettings
from units.records import UnitSequence, write_units

NUM_UNITS, CONTEXT = 20, 40
SETTINGS = ModelSettings(hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, context=CONTEXT, init_std=0.2)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slm") / "model"
    save_model(build_model(SETTINGS, NUM_UNITS + 2, 0), folder)
    return folder


def write(path: Path, utterances: list[list[int]]) -> Path:
    write_units(path, [UnitSequence(f"utt{i}", units, [1] * len(units)) for i, units in enumerate(utterances)])
    return path


def random_utterances(number: int) -> list[list[int]]:
    draw = np.random.default_rng(number)
    lengths = draw.integers(1, CONTEXT, number)
    return [(np.cumsum(draw.integers(1, NUM_UNITS, length)) % NUM_UNITS).tolist() for length in lengths]


def likelihood_by_hand(model: torch.nn.Module, units: list[int]) -> float:
    """One utterance alone, one token at a time."""
    tokens = [1, *(unit + 2 for unit in units), 1]
    total = 0.0
    with torch.no_grad():
        for place in range(1, len(tokens)):
            logits = model(torch.tensor([tokens[:place]])).logits[0, -1].double()
            total += logits[tokens[place]].item() - torch.log(torch.exp(logits).sum()).item()
    return total


def run_main(monkeypatch: pytest.MonkeyPatch, model: Path, units: list[Path], output: list[Path]) -> None:
    arguments = ["--model", str(model), "--device", "cpu", "--units", *map(str, units), "--output", *map(str, output)]
    monkeypatch.setattr(sys, "argv", ["slm.score", *arguments])
    slm.score.main()


def test_tables_hold_the_likelihoods_in_the_order_of_the_units(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = {"a": random_utterances(12), "b": random_utterances(5)}
    units = [write(tmp_path / f"{name}.jsonl", some) for name, some in utterances.items()]
    tables = [tmp_path / "likelihoods" / f"{name}.csv" for name in utterances]
    run_main(monkeypatch, model_folder, units, tables)
    model = load_model(model_folder)
    for table, some in zip(tables, utterances.values(), strict=True):
        with table.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["fileid"] for row in rows] == [f"utt{i}" for i in range(len(some))]
        assert [int(row["num_tokens"]) for row in rows] == [len(units) + 1 for units in some]
        expected = [likelihood_by_hand(model, units) for units in some]
        assert [float(row["log_likelihood"]) for row in rows] == pytest.approx(expected, abs=1e-4, rel=1e-6)


def test_a_likelihood_does_not_depend_on_its_batch(model_folder: Path, tmp_path: Path) -> None:
    model = load_model(model_folder)
    documents = list(read_documents(write(tmp_path / "a.jsonl", random_utterances(40)), NUM_UNITS, CONTEXT).values())
    found = {}
    for max_tokens in (1, 100, 10_000):
        values = np.empty(len(documents))
        for batch, nats in log_likelihoods(model, documents, max_tokens):
            values[batch] = nats.numpy()
        found[max_tokens] = values
    assert np.abs(found[100] - found[1]).max() < 1e-4
    per_token = np.array([len(document) - 1 for document in documents])
    assert np.abs((found[10_000] - found[1]) / per_token).max() < 1e-5


def test_utterances_of_the_same_units_tie_exactly(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    different = random_utterances(12)
    monkeypatch.setitem(slm.score.BATCH_TOKENS, "cpu", 50)  # several batches
    documents = read_documents(write(tmp_path / "a.jsonl", different * 3), NUM_UNITS, CONTEXT)
    rows = slm.score.score(load_model(model_folder), documents, "score")
    assert [row["fileid"] for row in rows] == list(documents)
    values = [row["log_likelihood"] for row in rows]
    assert values[:12] == values[12:24] == values[24:]
    assert len(set(values)) == 12


@given(lengths=st.lists(st.integers(1, 30), max_size=50), max_tokens=st.integers(1, 100))
def test_batches_hold_each_sequence_once_within_the_budget(lengths: list[int], max_tokens: int) -> None:
    made = list(batches(lengths, max_tokens))
    assert sorted(index for batch in made for index in batch) == list(range(len(lengths)))
    for batch in made:
        padded = len(batch) * max(lengths[index] for index in batch)
        assert padded <= max_tokens or len(batch) == 1
    in_order = [lengths[index] for batch in made for index in batch]
    assert in_order == sorted(lengths, reverse=True)


@pytest.mark.parametrize(
    ("utterances", "message"),
    [
        ([[1], [3, NUM_UNITS]], "a.jsonl: utt1: found unit 20, expected 0 to 19"),
        ([[1], [0, 1] * (CONTEXT // 2)], "a.jsonl: utt1: found 41 tokens to predict, expected at most .* context, 40"),
        ([[1], []], "a.jsonl: utt1: found no units"),
    ],
)
def test_an_utterance_that_cannot_be_scored_is_named(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, utterances: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_main(monkeypatch, model_folder, [write(tmp_path / "a.jsonl", utterances)], [tmp_path / "a.csv"])
    assert not (tmp_path / "a.csv").exists()


def test_the_longest_utterance_fills_the_context(model_folder: Path, tmp_path: Path) -> None:
    units = [0, 1] * (CONTEXT // 2)
    documents = read_documents(write(tmp_path / "a.jsonl", [units[:-1]]), NUM_UNITS, CONTEXT)
    model = load_model(model_folder)
    [(_, nats)] = log_likelihoods(model, list(documents.values()), 100)
    assert nats.item() == pytest.approx(likelihood_by_hand(model, units[:-1]), rel=1e-5)


def test_every_file_of_units_needs_a_table(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = write(tmp_path / "a.jsonl", [[1]])
    with pytest.raises(InputError, match="--output: found 1 files, expected 2"):
        run_main(monkeypatch, model_folder, [units, units], [tmp_path / "a.csv"])


@pytest.mark.parametrize(
    "damage", ["absent", "no weights", "weights cut short", "a weight missing", "no configuration"]
)
def test_a_folder_that_is_no_whole_model_is_an_error(model_folder: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "model"
    if damage != "absent":
        shutil.copytree(model_folder, folder)
    weights, config = folder / "model.safetensors", folder / "config.json"
    if damage == "no weights":
        weights.unlink()
    elif damage == "weights cut short":
        weights.write_bytes(weights.read_bytes()[:1000])
    elif damage == "a weight missing":
        config.write_text(json.dumps(json.loads(config.read_text()) | {"num_hidden_layers": 3}))
    elif damage == "no configuration":
        config.unlink()
    with pytest.raises(InputError, match=str(folder)):
        load_model(folder)
