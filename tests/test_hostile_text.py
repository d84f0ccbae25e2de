"""YAML and JSON of strangers: no code, nothing without end, no key twice."""

import time
from pathlib import Path

import pytest
import yaml
from strangers import in_one_line, nothing_is_stolen

from artifacts.files import read_json, read_jsonl
from artifacts.settings import load_settings, read_yaml
from units.settings import MfccEncoder
from workflow.reading import read_experiment

__all__ = ["nothing_is_stolen"]  # a fixture


@pytest.mark.parametrize(
    "text",
    [
        "!!python/object/apply:os.system ['touch stolen']",
        "experiment: !!python/name:os.system",
        "? !!python/object/new:os.system ['touch stolen']",
        "{experiment: a, seed: !!python/object/apply:subprocess.getoutput ['touch stolen']}",
    ],
)
def test_a_tag_of_python_is_no_yaml(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    in_one_line("mine.yaml, line 1: not YAML .could not determine a constructor", lambda: read_experiment(path))


BOMB = "a: &a [x, x]\n" + "".join(
    f"{b}: &{b} [*{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}, *{a}]\n"
    for a, b in zip("abcdefghi", "bcdefghij", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (BOMB + "experiment: *j", "found aliases that stand for [0-9,]+ parts, expected at most 100,000"),
        (BOMB.replace("[x, x]", "{x: y}").replace("[", "{<<: [").replace("]", "]}"), "found aliases that stand for"),
        ("experiment: &a [*a]", "found aliases that stand for inf parts"),
        ("experiment: " + "[" * 100_000, r"not YAML \(nested too deeply\)"),
    ],
    ids=["laughs", "merges", "itself", "depth"],
)
def test_ten_lines_of_yaml_never_become_a_billion(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    began = time.monotonic()
    in_one_line(f"mine.yaml: {message}", lambda: read_experiment(path))
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 0\ndevice: cpu\nseed: 5\n", "mine.yaml, line 3: seed: found a second time, expected each key once"),
        ("corpora:\n  dev: {}\n  train: {path: a, path: b}\n", "mine.yaml, line 3: path: found a second time"),
        ("a:\n- x: 1\n- &b\n  y: 1\n  'y': 2\nc: *b\n", "mine.yaml, line 5: y: found a second time"),
        ('{"seed": 0, "seed": 5}', "mine.yaml, line 1: seed: found a second time"),
    ],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    in_one_line(message, lambda: read_yaml(path))


def test_aliases_as_people_use_them_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("layers: &layers [1, 2]\na: {layers: *layers}\nb: {<<: {x: 1, layers: 3}, layers: *layers}\n")
    assert read_yaml(path) == yaml.safe_load(path.read_text())
    path.write_text("")
    assert read_yaml(path) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [("[" * 200_000, "nested too deeply"), ('{"a":' * 200_000, "nested too deeply"), ("9" * 5000, "too many digits")],
)
def test_json_without_end_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "score.json"
    path.write_text(text)
    in_one_line(f"score.json: not JSON .*{message}", lambda: read_json(path))
    in_one_line(f"score.json, line 1: not JSON .*{message}", lambda: list(read_jsonl(path)))
    if text.startswith("{"):
        in_one_line(f"--settings: not JSON .*{message}", lambda: load_settings(MfccEncoder, text))
