"""Continuations are drawn from the model's distribution, each from a seed of its own."""

import json
import sys
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from scipy.stats import chisquare  # type: ignore[import-untyped]

import slm.generate
from artifacts.errors import InputError
from slm.generate import Continuation, Sampling, generate
from slm.model import build_model
from slm.pretrained import load_model, save_model
from slm.settings import ModelSettings
from units.records import UntimedUnits, read_untimed_units, write_units

NUM_UNITS, CONTEXT = 20, 64
SETTINGS = ModelSettings(hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, context=CONTEXT, init_std=0.3)
PROMPTS = {"a": [1, 2, 3], "b": [4], "c": [], "d": [*range(NUM_UNITS)]}


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("slm") / "model"
    save_model(build_model(SETTINGS, NUM_UNITS + 2, 0), folder)
    return folder


@pytest.fixture(scope="module")
def model(model_folder: Path) -> torch.nn.Module:
    return load_model(model_folder)


def continued(
    model: torch.nn.Module, prompts: dict[str, list[int]], sampling: Sampling, max_tokens: int = 10_000
) -> dict[str, Continuation]:
    return {each.fileid: each for batch in generate(model, prompts, sampling, max_tokens) for each in batch}


def distribution(model: torch.nn.Module, units: list[int]) -> torch.Tensor:
    """What may follow some units, by the rules: no PAD, not the last token again."""
    tokens = [1, *(unit + 2 for unit in units)]
    with torch.no_grad():
        logits = model(torch.tensor([tokens])).logits[0, -1].double()
    logits[0] = logits[tokens[-1]] = -torch.inf
    return logits.softmax(0)


def test_a_seed_gives_the_same_whatever_the_batch(model: torch.nn.Module) -> None:
    sampling = Sampling(max_new_units=30, num_samples=3, seed=1)
    together, alone = (continued(model, PROMPTS, sampling, max_tokens) for max_tokens in (10_000, 1))
    assert together == alone
    one_prompt = continued(model, {"b": PROMPTS["b"]}, Sampling(max_new_units=30, num_samples=2, seed=1))
    assert one_prompt == {name: together[name] for name in ("b-0", "b-1")}
    assert len({tuple(each.units) for each in together.values()}) == 12
    other = continued(model, PROMPTS, Sampling(max_new_units=30, num_samples=3, seed=2))
    assert all(other[name].units != together[name].units for name in together)


def test_the_most_likely_unit_is_taken_at_temperature_0_and_of_one(model: torch.nn.Module) -> None:
    greedy = continued(model, PROMPTS, Sampling(temperature=0, max_new_units=30))
    assert continued(model, PROMPTS, Sampling(top_k=1, max_new_units=30)) == greedy
    assert continued(model, PROMPTS, Sampling(top_p=1e-6, max_new_units=30)) == greedy
    for fileid, prompt in PROMPTS.items():  # by plain forward passes, one token at a time
        units, ended = list(prompt), False
        while not ended and len(units) < len(prompt) + 30:
            token = int(distribution(model, units).argmax())
            ended = token == 1
            units += [] if ended else [token - 2]
        assert greedy[f"{fileid}-0"] == Continuation(f"{fileid}-0", units, len(prompt), ended)


def test_continuations_are_documents(model: torch.nn.Module) -> None:
    found = continued(model, PROMPTS, Sampling(temperature=3.0, max_new_units=40, num_samples=20)).values()
    assert len(found) == 80
    assert {each.ended for each in found} == {True, False}
    for each in found:
        assert each.units[: each.num_prompt_units] == PROMPTS[each.fileid.split("-")[0]]
        assert each.units
        assert all(0 <= unit < NUM_UNITS for unit in each.units)
        assert all(unit != following for unit, following in pairwise(each.units))
        assert each.ended or len(each.units) == each.num_prompt_units + 40


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(num_samples=4000, max_new_units=1),
        Sampling(num_samples=4000, max_new_units=1, temperature=0.5),
        Sampling(num_samples=4000, max_new_units=1, top_k=5),
        Sampling(num_samples=4000, max_new_units=1, top_p=0.7),
    ],
)
def test_units_are_drawn_by_their_probability(model: torch.nn.Module, sampling: Sampling) -> None:
    prompt = [3, 9, 4]
    expected = distribution(model, prompt) ** (1 / sampling.temperature)
    expected /= expected.sum()
    order = expected.argsort(descending=True)
    if sampling.top_k:
        expected[order[sampling.top_k :]] = 0
    if sampling.top_p < 1:  # the fewest most likely ones that have at least that probability
        before = expected[order].cumsum(0) - expected[order]
        expected[order[before >= sampling.top_p]] = 0
    expected /= expected.sum()
    drawn = continued(model, {"a": prompt}, sampling).values()
    counts = Counter(1 if each.ended else each.units[3] + 2 for each in drawn)
    possible = [token for token in range(NUM_UNITS + 2) if expected[token] > 0]
    assert set(counts) <= set(possible)
    often = [token for token in possible if expected[token] * 4000 >= 5]
    found, wanted = ([float(of[token]) for token in often] for of in (counts, expected * 4000))
    rest = (4000 - sum(found), 4000 - sum(wanted))
    if rest[1] >= 5:
        found, wanted = [*found, rest[0]], [*wanted, rest[1]]
    else:
        wanted = [value * sum(found) / sum(wanted) for value in wanted]
    assert len(found) > 2
    assert chisquare(found, wanted).pvalue > 1e-3


def run_main(monkeypatch: pytest.MonkeyPatch, model: Path, prompts: Path, output: Path, *more: str) -> None:
    arguments = ["--model", model, "--prompts", prompts, "--output", output, "--device", "cpu", *more]
    monkeypatch.setattr(sys, "argv", ["slm.generate", *map(str, arguments)])
    slm.generate.main()


def write(path: Path, prompts: dict[str, list[int]]) -> Path:
    write_units(path, [UntimedUnits(fileid, units) for fileid, units in prompts.items()])
    return path


def test_the_file_is_one_of_units(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts = {"a": [1, 2, 3, 4], "b": [5], "c-0": [6, 7]}
    written = write(tmp_path / "prompts.jsonl", prompts)
    more = ("--prompt-units", "2", "--samples", "2", "--max-new-units", "9", "--seed", "4", "--top-k", "7")
    run_main(monkeypatch, model_folder, written, tmp_path / "new.jsonl", *more)
    sequences = list(read_untimed_units(tmp_path / "new.jsonl"))
    assert [sequence.fileid for sequence in sequences] == ["a-0", "a-1", "b-0", "b-1", "c-0-0", "c-0-1"]
    records = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
    assert [record["num_prompt_units"] for record in records] == [2, 2, 1, 1, 2, 2]
    assert [record["units"][: record["num_prompt_units"]] for record in records[::2]] == [[1, 2], [5], [6, 7]]
    before = (tmp_path / "new.jsonl").read_bytes()
    run_main(monkeypatch, model_folder, written, tmp_path / "new.jsonl", *more)
    assert (tmp_path / "new.jsonl").read_bytes() == before
    run_main(monkeypatch, model_folder, written, tmp_path / "new.jsonl", "--prompt-units", "0", "--max-new-units", "5")
    assert all(json.loads(line)["num_prompt_units"] == 0 for line in (tmp_path / "new.jsonl").open())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--temperature", "-1"], "--temperature: found -1.0, expected 0 or more"),
        (["--temperature", "nan"], "--temperature: found nan"),
        (["--top-k", "-1"], "--top-k: found -1"),
        (["--top-p", "0"], "--top-p: found 0.0, expected more than 0, at most 1"),
        (["--max-new-units", "0"], "--max-new-units: found 0, expected 1 or more"),
        (["--samples", "0"], "--samples: found 0"),
        (["--temperature", "0", "--samples", "2"], "--samples: found 2, expected 1: at temperature 0"),
        (["--prompt-units", "-1"], "--prompt-units: found -1, expected 0 or more"),
        (["--max-new-units", "63"], "b: found a prompt of 2 units and 63 new ones, expected at most .* context, 64"),
    ],
)
def test_an_argument_out_of_range_is_an_error(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    prompts = write(tmp_path / "prompts.jsonl", {"a": [1], "b": [1, 2]})
    with pytest.raises(InputError, match=message):
        run_main(monkeypatch, model_folder, prompts, tmp_path / "new.jsonl", *arguments)
    assert not (tmp_path / "new.jsonl").exists()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "prompts.jsonl: found no utterance, expected at least one"),
        ([{"fileid": "a", "units": []}], "prompts.jsonl: a: found no units"),
        ([{"fileid": "a", "units": [NUM_UNITS]}], "prompts.jsonl: a: found unit 20, expected 0 to 19"),
        ([{"fileid": "a", "units": [3, 3], "text": "ha ha"}], "prompts.jsonl: a: found a text, expected the units"),
    ],
)
def test_a_prompt_that_cannot_be_continued_is_named(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[dict[str, object]], message: str
) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=message):
        run_main(monkeypatch, model_folder, prompts, tmp_path / "new.jsonl")
