"""What was run and how sure one can be: read from the files of an experiment, told in sentences."""

import json
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_json
from corpora.manifest import Utterance, write_manifest
from eval.account import account, certainty
from eval.comparisons import PairOfSystems
from eval.evidence import Files, score_files
from eval.materials import (
    Encoder,
    LanguageModel,
    Materials,
    Speech,
    corpus_uses,
    read_encoder,
    read_language_model,
    read_speech,
)
from eval.paired import Comparison, out_of_reach
from eval.results import Result
from eval.wording import NO_BREAK, count_text, listed, time_text

EXPERIMENT: dict[str, Any] = {
    "encoders": {
        "spidr": {"family": "spidr", "recipe": "r.yaml", "train": ["train"], "validation": "valid"},
        "floor": {"family": "spidr", "recipe": "r.yaml", "train": ["more"], "validation": "more", "untrained": True},
    },
    "quantizers": {"kmeans50": {"kind": "kmeans", "fit": "valid"}, "codebook": {"kind": "codebook"}},
    "slms": {"opt": {"train": ["train"], "validation": "valid"}},
    "systems": "all",
    "evaluation": {
        "abx": {"corpora": ["dev"]},
        "quality": {"corpora": ["dev"]},
        "tsc": {"set": "stories"},
        "map": None,
    },
}


def test_the_experiment_says_what_a_corpus_is_for() -> None:
    assert corpus_uses(EXPERIMENT) == {
        "train": ["trains encoders", "trains language models"],
        "valid": ["validation", "fits K-means"],
        "dev": ["ABX", "PNMI"],
        "stories": ["tSC"],
    }
    assert corpus_uses({}) == {}
    assert "trains language models" not in corpus_uses(EXPERIMENT | {"systems": []})["train"]


def test_a_corpus_is_measured_from_its_manifest(tmp_path: Path) -> None:
    path = tmp_path / "dev" / "manifest.csv"
    path.parent.mkdir()
    lengths = {"a": 16000, "b": 24000, "c": 8000}
    write_manifest(path, [Utterance(name, tmp_path / name, n, name.replace("c", "a")) for name, n in lengths.items()])
    assert read_speech(path, EXPERIMENT) == Speech("dev", 3, 3.0, frozenset("ab"), ("ABX", "PNMI"))


def write_encoder(folder: Path, inputs: dict[str, Any] | None, **training: Any) -> Path:
    made = {} if inputs is None else {"provenance": {"inputs": inputs}}
    write_json(folder / "config.json", {"family": "spidr", "model": {"num_layers": 4}} | made)
    if training:
        write_json(folder / "training" / "summary.json", training)
    return folder


def test_an_encoder_trained_here_says_for_how_long(tmp_path: Path) -> None:
    training = {"steps": 4000, "hours": 2, "seconds": 190.5, "device": "cpu"}
    encoder = read_encoder("spidr", write_encoder(tmp_path, {"train": {}}, **training))
    assert (encoder.learned, encoder.untrained, encoder.steps) == (True, False, 4000)
    assert (encoder.heard_s, encoder.seconds, encoder.device) == (7200, 190.5, "cpu")
    assert encoder.manner == "trained without labels"


def test_a_network_that_has_seen_no_manifest_is_untrained_and_the_same_network(tmp_path: Path) -> None:
    floor = read_encoder("floor", write_encoder(tmp_path / "floor", {}))
    assert (floor.learned, floor.untrained, floor.manner) == (False, True, "with random weights")
    trained = read_encoder("spidr", write_encoder(tmp_path / "spidr", {"train": {}}))
    assert floor.model == trained.model


def test_an_encoder_from_elsewhere_has_learned(tmp_path: Path) -> None:
    encoder = read_encoder("spidr", write_encoder(tmp_path, None))
    assert (encoder.learned, encoder.steps, encoder.manner) == (True, None, "trained elsewhere")
    write_json(tmp_path / "config.json", {"family": "mfcc"})
    assert read_encoder("mfcc", tmp_path).manner == "nothing learned"
    write_json(tmp_path / "config.json", {"family": "phones"})
    assert read_encoder("phones", tmp_path).manner == "the annotation itself"


@pytest.mark.parametrize(
    ("config", "training", "message"),
    [
        ({}, None, "config.json: family: found None, expected str"),
        ({"family": "spidr"}, {"steps": "many"}, "summary.json: steps: found 'many', expected int"),
    ],
)
def test_a_malformed_encoder_is_named(tmp_path: Path, config: Any, training: Any, message: str) -> None:
    write_json(tmp_path / "config.json", config)
    if training:
        write_json(tmp_path / "training" / "summary.json", training)
    with pytest.raises(InputError, match=message):
        read_encoder("spidr", tmp_path)


def test_a_language_model_is_named_by_its_path(tmp_path: Path) -> None:
    summary = {"slm": "opt", "corpus": "train", "seed": 3, "steps": 600, "seconds": 40.0, "device": "cpu"}
    path = tmp_path / "slm" / "spidr-L01-kmeans50" / "opt" / "seed3" / "summary.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(summary | {"num_parameters": 1_900_000, "epochs": 2.5}))
    assert read_language_model(path) == LanguageModel(
        "spidr-L01-kmeans50", "opt", "train", 3, 600, 40.0, "cpu", 1_900_000
    )
    path.write_text(json.dumps(summary))
    with pytest.raises(InputError, match="num_parameters: found None, expected int"):
        read_language_model(path)
    with pytest.raises(InputError, match="found no system in its path"):
        read_language_model(Path("summary.json"))


def test_times_counts_and_lists_read_as_one_says_them() -> None:
    times = [time_text(seconds).replace(NO_BREAK, " ") for seconds in (2.22, 40, 205, 2820, 23400, 3_456_000)]
    assert times == ["2.2 s", "40 s", "3.4 min", "47 min", "6.5 h", "960 h"]
    assert [count_text(n, "step") for n in (1, 4000)] == ["1 step", "4,000 steps"]
    assert [listed(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]
    assert listed(["a", "b"], "or") == "a or b"


def score(encoder: str, metric: str, n: int, **fields: Any) -> Result:
    model = {"spidr": "SpidR", "mfcc": "MFCC", "floor": "Untrained"}.get(encoder, "Phones")
    defaults = {"source": "ours", "model": model, "encoder": encoder, "layer": 1, "dataset": "dev"}
    return Result(**(defaults | {"metric": metric, "value": 0.6, "low": 0.5, "high": 0.7, "n": n} | fields))


SPEECH = [
    Speech("train", 500, 2820, frozenset(f"s{i}" for i in range(16)), ("trains encoders",)),
    Speech("dev", 150, 430, frozenset(["s20", "s21", "s22", "s23"]), ("ABX",)),
]
TRAINED = Encoder("spidr", "spidr", learned=True, steps=4000, heard_s=9e4, seconds=204, device="cpu")
FLOOR = Encoder("floor", "spidr", untrained=True)
TRAINING = LanguageModel("phones", "opt", "train", 0, 600, 40.0, "cpu", 1_900_000)
FEATURES = [score("spidr", "abx_continuous", 3022, condition="within", layer=layer) for layer in (1, 2)]


def test_the_account_of_a_whole_experiment() -> None:
    units = [score("spidr", "pnmi", 9, quantizer="kmeans50", num_units=50)]
    units += [score("spidr", "pnmi", 9, quantizer="codebook", num_units=64)]
    slm = {"slm": "opt", "corpus": "train", "seed": 0, "layer": None, "dataset": "stories"}
    results = [*FEATURES, *units, score("floor", "map_words", 949), score("phones", "tsc", 100, **slm)]
    text = account(results, Materials(SPEECH, [TRAINED, FLOOR], [TRAINING]))
    assert text.replace(NO_BREAK, " ") == (
        "SpidR was trained without labels on 47 min of speech by 16 speakers (train): "
        "4,000 steps in 3.4 min, on a CPU. "
        "Beside them: Untrained, with random weights. "
        "Their features became units by codebook predictions (64 units) and K-means (50 units). "
        "A language model (opt, 1.9 million parameters, 600 steps) was trained on the units of each of 1 system, "
        "the annotated phones among them. "
        "Features and units were measured on 7.2 min of speech by 4 speakers (dev), whom no training heard. "
        "The language models chose between 100 pairs of tSC."
    )


def test_speakers_that_training_heard_are_counted() -> None:
    known = Speech("dev", 1, 60, frozenset(["s0", "s1", "s99"]))
    assert "(dev), 2 of whom training heard." in account(FEATURES, Materials([SPEECH[0], known], [TRAINED]))


def test_what_was_not_run_is_not_mentioned() -> None:
    text = account([score("mfcc", "abx_continuous", 9, condition="within")], Materials([], [Encoder("mfcc", "mfcc")]))
    assert text == "The encoders: MFCC, nothing learned."
    assert account([], Materials()) == ""
    assert account([score("spidr", "tsc", 9, source="a paper")], Materials()) == ""


def drawn(folder: Path, *scores: tuple[Result, str, int]) -> Files:
    """Score files that say what their intervals draw, and how much of it there is."""
    for number, (result, resample, clusters) in enumerate(scores):
        conditions = {"resample": resample, "num_resampled": clusters}
        write_json(folder / f"{number}.json", {**result.model_dump(), "conditions": conditions})
    return score_files(folder)


def told(results: list[Result], files: Files, *pairs: PairOfSystems) -> str:
    return " ".join(certainty(results, Materials(SPEECH, [TRAINED], [TRAINING]), files, pairs))


def test_few_speakers_one_training_and_selected_layers_are_told(tmp_path: Path) -> None:
    results = [*FEATURES, score("spidr", "pnmi", 9, quantizer="kmeans50"), score("spidr", "map_words", 5000)]
    over = ("speakers", 4), ("speakers", 4), ("speakers", 4), ("words", 1200)
    text = told(results, drawn(tmp_path, *((r, *what) for r, what in zip(results, over, strict=True))))
    assert "from a bootstrap over 4 speakers (ABX, PNMI) and 1,200 words (MAP)." in text
    assert "Over 4 speakers, which is few" in text
    assert "Each encoder was trained once and each language model once" in text
    assert "the lowest ABX error on the very speech that is reported" in text


def test_many_speakers_are_not_few_and_one_layer_is_not_selected(tmp_path: Path) -> None:
    files = drawn(tmp_path, (FEATURES[0], "speakers", 8))
    text = " ".join(certainty(FEATURES[:1], Materials(SPEECH, [TRAINED], []), files, []))
    assert "from a bootstrap over 8 speakers (ABX)." in text
    assert "few" not in text
    assert "lowest ABX" not in text
    assert "language model" not in text


def test_what_is_drawn_is_what_the_scores_say(tmp_path: Path) -> None:
    text = told(FEATURES, drawn(tmp_path / "pairs", *((r, "pairs", 1560) for r in FEATURES)))
    assert "from a bootstrap over 1,560 pairs of phones (ABX)." in text
    other = score("spidr", "abx_continuous", 3022, condition="within", dataset="other")
    two = told([FEATURES[0], other], drawn(tmp_path / "two", (FEATURES[0], "speakers", 40), (other, "speakers", 33)))
    assert "from a bootstrap over 33 to 40 speakers (ABX)." in two
    assert "from a bootstrap. " in told(FEATURES, {})


def test_speakers_are_few_where_the_tests_of_two_systems_are_many(tmp_path: Path) -> None:
    """Eight reach p = 2/256 by themselves, not so that 12 tests of two systems could show anything."""
    files = drawn(tmp_path, (FEATURES[0], "speakers", 8))
    tests = [
        Comparison(f"metric{i}", "dev", None, None, 0.9, 0.1, (1, 1), p_value=0.5, n=8, resample="speakers")
        for i in range(12)
    ]
    pairs = [PairOfSystems("a", "b", "", [], out_of_reach(tests[:number])) for number in (6, 12)]
    assert "few" not in told(FEATURES[:1], files, pairs[0])
    assert "Over 8 speakers, which is few" in told(FEATURES[:1], files, pairs[1])


def test_the_width_of_an_interval_says_what_it_cannot_see() -> None:
    slm = {"slm": "opt", "corpus": "train", "seed": 0, "quantizer": "kmeans50"}
    text = " ".join(certainty([score("spidr", "tsc", 100, **slm)], Materials(), {}, []))
    assert "is on average 20 points for tSC wide" in text
    assert "100 pairs of tSC" in text
