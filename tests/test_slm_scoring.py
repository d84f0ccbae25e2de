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
from transformers import BloomConfig, BloomForCausalLM, GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

import slm.likelihoods
import slm.score
from artifacts.errors import InputError
from artifacts.files import sha256, write_json
from eval.likelihoods import read_likelihoods, read_scoring
from slm.likelihoods import BATCH_TOKENS, batches, context_of, log_likelihoods, windows
from slm.model import build_model
from slm.pretrained import load_model, save_model
from slm.score import read_documents, score
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


def likelihood_by_hand(model: torch.nn.Module, units: list[int], *, eos: bool = True) -> float:
    """One utterance alone, one token at a time."""
    tokens = [1, *(unit + 2 for unit in units), *([1] if eos else [])]
    return sum(log_probability(model, tokens[:place], tokens[place]) for place in range(1, len(tokens)))


def log_probability(model: torch.nn.Module, before: list[int], token: int) -> float:
    """log p of a token after those before it: a soft-max written out."""
    with torch.no_grad():
        logits = model(torch.tensor([before])).logits[0, -1].double()
    return (logits[token] - torch.log(torch.exp(logits).sum())).item()


def run_main(
    monkeypatch: pytest.MonkeyPatch, models: list[Path], units: list[Path], output: list[Path], *more: str
) -> None:
    arguments = ["--device", "cpu", *more]
    for name, paths in (("--model", models), ("--units", units), ("--output", output)):
        arguments += [name, *map(str, paths)]
    monkeypatch.setattr(sys, "argv", ["slm.score", *arguments])
    slm.score.main()


def read_table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_tables_hold_the_likelihoods_in_the_order_of_the_units(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    utterances = {"a": random_utterances(12), "b": random_utterances(5)}
    units = [write(tmp_path / f"{name}.jsonl", some) for name, some in utterances.items()]
    run_main(monkeypatch, [model_folder], units, [tmp_path / "likelihoods"])
    model = load_model(model_folder)
    for name, some in utterances.items():
        rows = read_table(tmp_path / "likelihoods" / f"{name}.csv")
        assert [row["fileid"] for row in rows] == [f"utt{i}" for i in range(len(some))]
        assert [int(row["num_tokens"]) for row in rows] == [len(units) + 1 for units in some]
        expected = [likelihood_by_hand(model, units) for units in some]
        assert [float(row["log_likelihood"]) for row in rows] == pytest.approx(expected, abs=1e-4, rel=1e-6)


def test_eos_can_be_left_out(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    utterances = [*random_utterances(8), [0, 1] * (CONTEXT // 2)]  # without EOS, a unit more fits the context
    run_main(monkeypatch, [model_folder], [write(tmp_path / "a.jsonl", utterances)], [tmp_path], "--no-eos")
    model, rows = load_model(model_folder), read_table(tmp_path / "a.csv")
    assert [int(row["num_tokens"]) for row in rows] == [len(units) for units in utterances]
    expected = [likelihood_by_hand(model, units, eos=False) for units in utterances]
    assert [float(row["log_likelihood"]) for row in rows] == pytest.approx(expected, abs=1e-4, rel=1e-6)
    assert read_scoring(tmp_path / "a.csv") == {
        "eos": False,
        "precision": "float32",
        "long": "error",
        "context": CONTEXT,
        "stride": None,
    }


def test_models_of_one_vocabulary_share_the_reading_of_units(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    save_model(build_model(SETTINGS, NUM_UNITS + 2, 1), other)
    units = write(tmp_path / "a.jsonl", random_utterances(6))
    reads = []
    monkeypatch.setattr(slm.score, "read_documents", lambda *a, **k: reads.append(a[0]) or read_documents(*a, **k))
    run_main(monkeypatch, [model_folder, other], [units], [tmp_path / "one", tmp_path / "two"])
    assert reads == [units]
    for folder, model in (("one", model_folder), ("two", other)):
        run_main(monkeypatch, [model], [units], [tmp_path / "alone"])
        assert (tmp_path / "alone" / "a.csv").read_bytes() == (tmp_path / folder / "a.csv").read_bytes()
        record = json.loads((tmp_path / folder / "a.json").read_text())
        assert (record["model"], record["units"]) == (str(model), str(units))
        weights = record["provenance"]["inputs"]["model.safetensors"]
        assert weights["sha256"] == sha256(model / "model.safetensors")
    assert read_table(tmp_path / "one" / "a.csv") != read_table(tmp_path / "two" / "a.csv")


def test_a_model_of_another_vocabulary_is_an_error(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vocabulary = tmp_path / "config.json"
    write_json(vocabulary, {"num_units": NUM_UNITS + 1, "frame_rate_hz": 50.0})
    units = write(tmp_path / "a.jsonl", [[1]])
    with pytest.raises(
        InputError, match=r"model: found a vocabulary of 22, expected 23: the 21 units of .*config.json"
    ):
        run_main(monkeypatch, [model_folder], [units], [tmp_path], "--vocabulary", str(vocabulary))
    other = tmp_path / "other"
    save_model(build_model(SETTINGS, NUM_UNITS + 5, 1), other)
    with pytest.raises(InputError, match=r"other: found a vocabulary of 25, expected 22: the 20 units of .*model"):
        run_main(monkeypatch, [model_folder, other], [units], [tmp_path / "one", tmp_path / "two"])
    assert not list(tmp_path.rglob("a.csv"))
    write_json(vocabulary, {"num_units": NUM_UNITS, "frame_rate_hz": 50.0})
    run_main(monkeypatch, [model_folder], [units], [tmp_path], "--vocabulary", str(vocabulary))
    assert len(read_table(tmp_path / "a.csv")) == 1


@given(num_inputs=st.integers(1, 60), context=st.integers(1, 20), part=st.floats(0, 1))
def test_windows_score_each_token_once_with_enough_before_it(num_inputs: int, context: int, part: float) -> None:
    stride = 1 + int(part * (context - 1))
    seen = []
    for window in windows(num_inputs, context, stride):
        assert 0 <= window.start <= window.start + window.length <= num_inputs
        assert window.length == min(context, num_inputs)
        end = window.start + window.length
        for place in range(end - window.num_scored, end):
            seen.append(place)
            assert window.start == 0 or place - window.start >= context - stride
    assert seen == list(range(num_inputs))


@pytest.mark.parametrize(("stride", "argument"), [(7, ["--stride", "7"]), (CONTEXT, ["--stride", "40"]), (20, [])])
def test_a_long_utterance_is_scored_in_windows(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stride: int, argument: list[str]
) -> None:
    draw = np.random.default_rng(0)
    utterances = [(np.cumsum(draw.integers(1, NUM_UNITS, n)) % NUM_UNITS).tolist() for n in (5, 39, 40, 41, 97, 120)]
    units = write(tmp_path / "a.jsonl", utterances)
    run_main(monkeypatch, [model_folder], [units], [tmp_path], "--long", "window", *argument)
    model = load_model(model_folder)
    for row, utterance in zip(read_table(tmp_path / "a.csv"), utterances, strict=True):
        tokens = [1, *(unit + 2 for unit in utterance), 1]
        expected, end = 0.0, min(CONTEXT, len(tokens) - 1)
        for place in range(1, len(tokens)):
            if place > end:  # the window moves on: a stride, or to the end
                end = min(end + stride, len(tokens) - 1)
            expected += log_probability(model, tokens[max(0, end - CONTEXT) : place], tokens[place])
        assert float(row["log_likelihood"]) == pytest.approx(expected, abs=1e-4, rel=1e-6)
        assert int(row["num_tokens"]) == len(utterance) + 1
    scoring = read_scoring(tmp_path / "a.csv")
    assert scoring is not None
    assert (scoring["long"], scoring["stride"]) == ("window", stride)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stride", "3"], "--stride: expected with --long window alone"),
        (["--long", "window", "--stride", "41"], "--stride: found 41, expected 1 to the model's context, 40"),
        (["--long", "window", "--stride", "0"], "--stride: found 0, expected 1 to"),
    ],
)
def test_a_stride_without_meaning_is_an_error(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_main(monkeypatch, [model_folder], [write(tmp_path / "a.jsonl", [[1]])], [tmp_path], *arguments)


def tiny(kind: str) -> torch.nn.Module:
    torch.manual_seed(0)
    vocabulary = {"vocab_size": NUM_UNITS + 2, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
    if kind == "gpt2":
        gpt2 = GPT2Config(n_embd=32, n_layer=2, n_head=2, n_positions=CONTEXT, initializer_range=0.2, **vocabulary)
        return GPT2LMHeadModel(gpt2)
    if kind == "llama":
        sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2}
        context = {"max_position_embeddings": CONTEXT, "initializer_range": 0.2}
        return LlamaForCausalLM(LlamaConfig(**sizes, **context, **vocabulary))
    return BloomForCausalLM(BloomConfig(hidden_size=32, n_layer=2, n_head=2, initializer_range=0.2, **vocabulary))


@pytest.mark.parametrize(("kind", "context"), [("gpt2", CONTEXT), ("llama", CONTEXT), ("bloom", None)])
def test_any_causal_model_is_scored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, context: int | None
) -> None:
    tiny(kind).save_pretrained(tmp_path / kind)  # type: ignore[operator]
    utterances = [*random_utterances(9), *([[0, 1, 2] * CONTEXT] if context is None else [])]
    run_main(monkeypatch, [tmp_path / kind], [write(tmp_path / "a.jsonl", utterances)], [tmp_path])
    model = load_model(tmp_path / kind)
    assert context_of(model.config) == context
    expected = [likelihood_by_hand(model, units) for units in utterances]
    found = [float(row["log_likelihood"]) for row in read_table(tmp_path / "a.csv")]
    assert found == pytest.approx(expected, abs=1e-4, rel=1e-6)


def test_bfloat16_is_near_and_recorded(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = write(tmp_path / "a.jsonl", random_utterances(20))
    for precision in ("float32", "bfloat16"):
        run_main(monkeypatch, [model_folder], [units], [tmp_path / precision], "--precision", precision)
    scoring = read_scoring(tmp_path / "bfloat16" / "a.csv")
    assert scoring is not None
    assert scoring["precision"] == "bfloat16"
    one, two = (read_likelihoods(tmp_path / name / "a.csv", "tokens") for name in ("float32", "bfloat16"))
    difference = max(abs(one[fileid] - two[fileid]) for fileid in one)
    assert 0 < difference < 0.05


def test_many_tokens_are_shared_out_among_batches_of_few_logits(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    documents = list(read_documents(write(tmp_path / "a.jsonl", random_utterances(10)), NUM_UNITS).values())
    monkeypatch.setattr(slm.likelihoods, "BATCH_LOGITS", 22 * 50)  # 50 tokens of the 22 of the vocabulary
    for batch, _ in log_likelihoods(load_model(model_folder), documents, 10_000):
        assert len(batch) * max(len(documents[index]) - 1 for index in batch) <= 50


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
    monkeypatch.setitem(BATCH_TOKENS, "cpu", 50)  # several batches
    documents = read_documents(write(tmp_path / "a.jsonl", different * 3), NUM_UNITS, CONTEXT)
    rows = score(load_model(model_folder), documents, "score")
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
        ([], "a.jsonl: found no utterance, expected at least one"),
    ],
)
def test_an_utterance_that_cannot_be_scored_is_named(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, utterances: list[list[int]], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        run_main(monkeypatch, [model_folder], [write(tmp_path / "a.jsonl", utterances)], [tmp_path])
    assert not (tmp_path / "a.csv").exists()


def test_a_log_likelihood_that_is_not_finite_is_named_and_nothing_is_written(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(model_folder)
    with torch.no_grad():
        model.get_input_embeddings().weight[2 + 7] *= 1e38  # unit 7: finite, and its logits are not
    save_model(model, tmp_path / "model")
    units = [write(tmp_path / "a.jsonl", [[1, 2]]), write(tmp_path / "b.jsonl", [[3], [4, 7], [7]])]
    with pytest.raises(InputError) as caught:
        run_main(monkeypatch, [tmp_path / "model"], units, [tmp_path / "likelihoods"])
    where = f"{tmp_path / 'model'}: {units[1]}: utt1"
    assert str(caught.value) == f"{where}: found a log-likelihood of nan, expected a finite number"
    assert not (tmp_path / "likelihoods").exists()


def test_the_longest_utterance_fills_the_context(model_folder: Path, tmp_path: Path) -> None:
    units = [0, 1] * (CONTEXT // 2)
    documents = read_documents(write(tmp_path / "a.jsonl", [units[:-1]]), NUM_UNITS, CONTEXT)
    model = load_model(model_folder)
    [(_, nats)] = log_likelihoods(model, list(documents.values()), 100)
    assert nats.item() == pytest.approx(likelihood_by_hand(model, units[:-1]), rel=1e-5)


def test_every_model_needs_a_folder_and_every_table_a_name(
    model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    units = write(tmp_path / "a.jsonl", [[1]])
    with pytest.raises(InputError, match="--output: found 1 folders, expected 2: one for each model"):
        run_main(monkeypatch, [model_folder, model_folder], [units], [tmp_path])
    with pytest.raises(InputError, match="--output: found one folder twice"):
        run_main(
            monkeypatch, [model_folder, model_folder], [units], [tmp_path / "out", tmp_path / "out" / ".." / "out"]
        )
    with pytest.raises(InputError, match="--units: two files have one name"):
        run_main(monkeypatch, [model_folder], [units, tmp_path / "b" / "a.jsonl"], [tmp_path])


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


def test_a_configuration_of_no_known_model_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    units = write(tmp_path / "a.jsonl", [[1]])
    with pytest.raises(InputError, match=r"absent/config.json: no such file"):
        run_main(monkeypatch, [tmp_path / "absent"], [units], [tmp_path])
    for config in ({"model_type": "nobody's"}, {"model_type": "opt", "hidden_size": "wide"}):
        write_json(tmp_path / "config.json", config)
        with pytest.raises(InputError, match=f"{tmp_path}: not a language model"):
            run_main(monkeypatch, [tmp_path], [units], [tmp_path])
