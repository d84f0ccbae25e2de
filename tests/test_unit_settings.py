"""The encoders and quantizers of an experiment file are checked key by key."""

from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.settings import Settings, parse_settings
from units.settings import Encoder, Quantizer

RECIPE = {"family": "spidr", "recipe": "r.yaml", "train": ["train"], "validation": "valid", "layers": [1]}


class File(Settings):
    encoders: dict[str, Encoder] = {}
    quantizers: dict[str, Quantizer] = {}


def parse(encoder: dict[str, Any]) -> Any:
    return parse_settings(File, {"encoders": {"e": encoder}}, "e.yaml").encoders["e"]


def test_each_family_has_its_keys() -> None:
    assert parse(RECIPE).recipe == "r.yaml"
    assert parse({"family": "dinosr", "path": "p", "layers": [0, 5]}).layers == [0, 5]
    assert parse({"family": "hub", "source": "s", "standardize": False, "layers": [6]}).standardize is False
    assert parse({"family": "hub", "source": "hubert-base", "layers": [6]}).standardize is None
    assert parse({"family": "custom", "loader": "a.b:c", "options": {"n": 2}, "layers": [0]}).options == {"n": 2}
    assert parse({"family": "mfcc"}).layers == (1,)
    assert parse({"family": "phones"}).quantizers == ()


def test_settings_survive_the_command_line() -> None:
    for encoder in (RECIPE, {"family": "mfcc"}, {"family": "phones", "name": "Phones"}):
        assert parse(parse(encoder).model_dump(mode="json")) == parse(encoder)


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (RECIPE | {"layers": [3, 2]}, "layers: found"),
        (RECIPE | {"layers": [2, 2]}, "expected each layer once, rising"),
        (RECIPE | {"layers": [-1]}, "greater than or equal to 0"),
        (RECIPE | {"layers": []}, "layers: found"),
        (RECIPE | {"path": "p"}, "found both recipe and path, expected one of them"),
        (RECIPE | {"recipe": None}, "found neither recipe nor path"),
        (RECIPE | {"train": []}, "found recipe without train or validation"),
        ({"family": "spidr", "path": "p", "layers": [1], "untrained": True}, "found path with train"),
        ({"family": "hub", "source": "s", "layers": [1]}, "standardize: missing, expected true or false: the registry"),
        ({"family": "hub", "source": "spidr-base", "layers": [1]}, "found 'spidr-base', expected a model of the hub"),
        ({"family": "custom", "loader": "module", "layers": [1]}, "loader: found"),
        ({"family": "mfcc", "layers": [2]}, "expected 1"),
        ({"family": "phones", "quantizers": ["k"]}, "quantizers"),
        ({"family": "whisper"}, "family"),
    ],
)
def test_a_wrong_key_is_named(encoder: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse(encoder)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"fit": "c"}, r"quantizers\.k\.num_units: missing"),
        ({"path": "p"}, r"quantizers\.k\.num_units: missing"),
        ({"num_units": 50}, "found neither fit nor path, expected one of them"),
        ({"num_units": 50, "fit": "c", "path": "p"}, "found both fit and path, expected one of them"),
        ({"num_units": 50, "path": "p", "restarts": 5, "init": "kmeans++"}, "found path with init, restarts, expected"),
        ({"num_units": 50, "fit": "c", "init": "k-means++"}, r"quantizers\.k\.init: found .k-means\+\+., expected"),
    ],
)
def test_a_kmeans_is_fitted_on_a_corpus_or_made_elsewhere(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(File, {"quantizers": {"k": {"kind": "kmeans", **keys}}}, "e.yaml")


def test_settings_of_a_kmeans_survive_the_command_line() -> None:
    for keys in ({"fit": "c", "iterations": 7}, {"path": "p"}):
        quantizer = parse_settings(File, {"quantizers": {"k": {"kind": "kmeans", "num_units": 50, **keys}}}, "e.yaml")
        assert parse_settings(File, quantizer.model_dump(mode="json"), "e.yaml") == quantizer
