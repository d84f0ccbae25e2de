"""Text as units: tokens of a tokenizer as they are, and the topline's place in an experiment."""

import json
import re
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import TINY, snakemake
from tokenizers import ByteLevelBPETokenizer

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from corpora.texts import Text, write_texts
from slm.store import TokenStore
from slm.text import Tokenizer, describe, text_units, write_text_store
from units.records import TextUnits, read_num_units, read_untimed_units, read_vocabulary, write_units
from workflow.experiment import Experiment
from workflow.targets import Targets

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>"]


@pytest.fixture(scope="module")
def opt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small tokenizer in the files that facebook/opt-125m has; like that one it would begin each text with </s>."""
    folder = tmp_path_factory.mktemp("opt")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(
        ["the rooster chases the donkey, ha ha ha"] * 20, vocab_size=300, special_tokens=SPECIAL
    )
    trained.save_model(str(folder))
    special = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "GPT2Tokenizer", "add_bos_token": True} | special)
    )
    (folder / "config.json").write_text(json.dumps({"model_type": "opt"}))
    return folder


def merged(text: str, opt: Path) -> list[int]:
    """Byte-pair encoding by hand: the pair that was merged first is merged first, word by word."""
    vocabulary = json.loads((opt / "vocab.json").read_text())
    merges = [tuple(line.split()) for line in (opt / "merges.txt").read_text().splitlines()[1:]]
    tokens = []
    for word in re.findall(r" ?[a-z]+|[^a-z]+", text):
        pieces = list(word.replace(" ", "Ġ"))
        while pairs := [pair for pair in pairwise(pieces) if pair in merges]:
            best = min(pairs, key=merges.index)
            at = list(pairwise(pieces)).index(best)
            pieces[at : at + 2] = ["".join(best)]
        tokens += [vocabulary[piece] for piece in pieces]
    return tokens


def test_a_text_is_its_byte_pairs_and_nothing_beside_them(opt: Path) -> None:
    tokenizer = Tokenizer(str(opt))
    texts = ["the rooster chases", "ha ha ha", "cat"]
    assert tokenizer.units(texts) == [merged(text, opt) for text in texts]
    assert tokenizer.num_units == len(json.loads((opt / "vocab.json").read_text()))
    (laughing,) = tokenizer.units(["ha ha ha"])
    assert laughing[1] == laughing[2]  # a token may follow itself


def test_what_looks_like_a_special_token_is_text(opt: Path) -> None:
    (units,) = Tokenizer(str(opt)).units(["a</s>"])
    assert not set(units) & set(range(len(SPECIAL)))
    assert len(units) == 5


def test_a_tokenizer_taken_along_is_the_same(opt: Path, tmp_path: Path) -> None:
    describe(str(opt), tmp_path / "text")
    config = json.loads((tmp_path / "text/config.json").read_text())
    again = Tokenizer(str(tmp_path / "text/tokenizer"))
    assert config["family"] == "text"
    assert read_num_units(tmp_path / "text/config.json") == again.num_units
    with pytest.raises(InputError, match="frame_rate_hz: found None, expected a positive number"):
        read_vocabulary(tmp_path / "text/config.json")
    texts = ["the donkey, ha ha</s> Ünlike the rooster", "ha"]
    assert again.units(texts) == Tokenizer(str(opt)).units(texts)


def test_a_store_of_texts_has_their_hours(opt: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.csv", [Text("a", "ha ha ha", 7.5), Text("b", "the donkey", 28.5)])
    write_text_store(tmp_path / "texts.csv", Tokenizer(str(opt)), "books", tmp_path / "store")
    store = TokenStore(tmp_path / "store")
    assert store.document(0).tolist() == [1, *(token + 2 for token in merged("ha ha ha", opt)), 1]
    assert (store.vocab_size, store.hours) == (Tokenizer(str(opt)).num_units + 2, pytest.approx(0.01))
    assert (list(store.fileids()), store.corpus) == (["a", "b"], "books")
    write_texts(tmp_path / "texts.csv", [Text("a", "ha ha ha", 7.5), Text("b", "the donkey")])
    write_text_store(tmp_path / "texts.csv", Tokenizer(str(opt)), "books", tmp_path / "untimed")
    assert TokenStore(tmp_path / "untimed").hours is None


def test_units_of_texts_are_read_back(opt: Path, tmp_path: Path) -> None:
    write_texts(tmp_path / "texts.csv", [Text("a", "ha ha ha"), Text("b", "the donkey")])
    write_units(tmp_path / "units.jsonl", text_units(tmp_path / "texts.csv", Tokenizer(str(opt))))
    assert list(read_untimed_units(tmp_path / "units.jsonl")) == [
        TextUnits("a", merged("ha ha ha", opt), "ha ha ha"),
        TextUnits("b", merged("the donkey", opt), "the donkey"),
    ]


@pytest.mark.parametrize("source", ["broken", "absent"])
def test_what_is_no_tokenizer_is_one_line(tmp_path: Path, source: str) -> None:
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken/tokenizer.json").write_text("{")
    with pytest.raises(InputError, match=f"{source}: found no tokenizer, expected a local folder or a name") as error:
        describe(str(tmp_path / source), tmp_path / "out")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_code_that_comes_with_a_tokenizer_is_not_executed(opt: Path, tmp_path: Path) -> None:
    for file in opt.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((opt / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", "mine.Mine"]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'executed')!r}, 'w')\nclass Mine: pass\n")
    with suppress(InputError):  # transformers may take one of its own tokenizers instead
        Tokenizer(str(tmp_path))
    assert not (tmp_path / "executed").exists()


def experiment(**changes: Any) -> dict[str, Any]:
    """The tiny experiment with text among its systems; dots part the levels of the keys changed."""
    found: dict[str, Any] = yaml.safe_load(TINY.read_text())
    found["encoders"]["text"] = {"family": "text", "tokenizer": "facebook/opt-125m", "name": "Text"}
    found["systems"].append("text")
    for corpus in ("train", "valid", "stories"):
        found["corpora"][corpus]["texts"] = "words"
    for key, value in changes.items():
        *parents, last = key.split("__")
        node = found
        for parent in parents:
            node = node[parent]
        node[last] = value
    for named in (*found["encoders"].values(), *found["slms"].values()):
        if "recipe" in named:
            named["recipe"] = str(TINY.parent / named["recipe"])
    return found


def test_text_gets_language_models_and_no_metric_of_frames() -> None:
    prosody = {"layout": "prosaudit", "path": "there"}
    evaluation = experiment()["evaluation"] | {"prosaudit": {"set": "prosody"}}
    systems = ["spidr-L04-kmeans50", "text"]
    targets = Targets(
        parse_settings(
            Experiment, experiment(corpora__prosody=prosody, evaluation=evaluation, systems=systems), "experiment"
        )
    )
    assert [
        path.removeprefix("results/tiny/scores/text/opt-tiny/seed0/") for path in targets.system_scores("text")
    ] == [*("swuggy_all.lexical.json", "swuggy_in_vocab.lexical.json", "sblimp.syntactic.json", "tsc.stories.json")]
    assert targets.sets_of("text") == ["lexical", "syntactic", "stories"]
    assert any("spidr-L04-kmeans50/opt-tiny/seed0/prosaudit" in path for path in targets.scores())
    assert not [path for path in targets.health() if "/text/" in path]


BOOKS = {"layout": "libriheavy", "path": "there", "part": "small"}
HELD_OUT = {"layout": "libriheavy", "path": "there", "part": "dev"}
OF_BOOKS = {"recipe": "slm/tiny.yaml", "train": ["books"], "validation": "held-out", "systems": ["text"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"corpora__stories": {"layout": "twist", "source": "synthetic", "path": "tSC", "annotations": "a.csv"}},
            r"evaluation.tsc.set \(for the text topline\): found 'stories', expected one of the corpora with texts",
        ),
        (
            {"corpora__books": BOOKS, "corpora__held-out": HELD_OUT, "slms__books": OF_BOOKS | {"systems": None}},
            r"slms.books.train \(for the phone topline\): found 'books'|slms.books.systems: found .* expected \[text\]",
        ),
        (
            {"corpora__train": {"layout": "folder", "path": "train", "texts": "words"}},
            "corpora.train.texts: found 'words', expected annotations to take them from",
        ),
        (
            {"encoders__text": {"family": "phones"}},
            "encoders.text: found family phones, expected phones to be of family",
        ),
        (
            {"encoders__mfcc": {"family": "text", "tokenizer": "x"}},
            "encoders.mfcc: found family text, expected phones to",
        ),
        ({"slms__opt-tiny__hours": 0}, "slms.opt-tiny.hours: found 0, expected greater than 0"),
    ],
)
def test_an_experiment_that_cannot_have_its_text_is_one_line(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(Experiment, experiment(**changes), "experiment")


def test_an_experiment_of_text_alone_needs_no_audio() -> None:
    found = experiment(corpora__books=BOOKS, **{"corpora__held-out": HELD_OUT}, slms={"books": OF_BOOKS})
    found |= {"encoders": {"text": found["encoders"]["text"]}, "quantizers": {}, "systems": ["text"], "tables": []}
    found |= {"figures": [], "evaluation": {"swuggy": {"set": "lexical"}}}
    targets = Targets(parse_settings(Experiment, found, "experiment"))
    assert targets.used_corpora() == ["lexical"]
    assert len(targets.scores()) == 2


def test_the_text_topline_is_planned_from_texts_to_scores(tmp_path: Path) -> None:
    quarter = {"recipe": "slm/tiny.yaml", "train": ["train"], "validation": "valid", "hours": 0.02}
    quarter["corpus"] = "a quarter"
    path = tmp_path / "text.yaml"
    found = experiment(
        **{"corpora__books": BOOKS, "corpora__held-out": HELD_OUT, "slms__books": OF_BOOKS, "slms__quarter": quarter}
    )
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    done = snakemake(tmp_path, "-n", "-p", "all", experiment=path)
    assert done.returncode == 0, done.stdout + done.stderr
    planned = done.stdout
    for output in (
        *("corpora/books/texts.csv, results/tiny/corpora/books/speakers.csv", "corpora/train/texts.csv"),
        *("corpora/lexical/texts.csv", "encoders/text/config.json, results/tiny/encoders/text/tokenizer"),
        *("tokens/text/books", "tokens/text/held-out", "tokens/text/train", "units/text/stories.jsonl"),
        *("slm/text/books/seed0/model", "slm/text/quarter/seed0/model", "slm/phones/quarter/seed0/model"),
        *("likelihoods/text/books/seed0/lexical.csv", "scores/text/quarter/seed0/swuggy_all.lexical.json"),
    ):
        assert f"    output: results/tiny/{output}" in planned, output
    for absent in ("units/text/dev.jsonl", "units/text/health.json", "scores/text/pnmi", "slm/phones/books"):
        assert absent not in planned, absent
    commands = re.findall(r"^Shell command: (python -m .*)$", planned, re.M)
    for metric, system, normalization in (
        ("swuggy", "text", "none"),
        ("swuggy", "phones", "tokens"),
        ("tsc", "text", "tokens"),
    ):
        scored = [line for line in commands if line.startswith(f"python -m eval.{metric} ") and f"/{system}/" in line]
        assert scored
        assert all(f"--normalization {normalization} " in line for line in scored)
    trained = [line for line in commands if "slm.train" in line and "--slm quarter" in line]
    assert len(trained) == 3
    assert all("--corpus 'a quarter' --hours 0.02 --subset-seed 0 " in line for line in trained)
