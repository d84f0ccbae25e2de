"""The registry's entries are the models that the libraries make of their sizes."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from artifacts.errors import InputError
from spidr.learner import SpidR
from spidr.settings import ModelSettings
from units.encoders import describe
from units.layouts import LAYOUTS
from units.registry import HUB_TYPES, REGISTRY, SPIDR_TYPES, table_text
from units.settings import HubEncoder
from workflow.reading import read_experiment

LARGE = {"num_hidden_layers": 24, "hidden_size": 1024, "num_attention_heads": 16, "intermediate_size": 4096}
XLARGE = {"num_hidden_layers": 48, "hidden_size": 1280, "num_attention_heads": 16, "intermediate_size": 5120}
FULL_SIZES = {"base": {}, "large": LARGE, "xlarge": XLARGE}


@pytest.mark.parametrize("name", [name for name, r in REGISTRY.items() if r.is_on_hub and r.model_type != "whisper"])
def test_an_entry_is_the_model_that_transformers_makes_of_its_size(name: str) -> None:
    released = REGISTRY[name]
    size = name.split("-")[1]
    large: dict[str, Any] = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}
    large["conv_bias"] = released.model_type != "wavlm"
    is_pre_norm = size != "base" and released.model_type != "data2vec-audio"
    config = transformers.AutoConfig.for_model(
        released.model_type, **(FULL_SIZES[size] | (large if is_pre_norm else {}))
    )
    with torch.device("meta"):
        model = transformers.AutoModel.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) == released.num_parameters
    assert (config.num_hidden_layers, config.hidden_size) == (released.num_layers, released.dim)
    assert 16000 / math.prod(config.conv_stride) == released.frame_rate_hz
    assert released.tap == "block"
    assert released.standardize == (is_pre_norm or released.model_type == "data2vec-audio")


def test_the_entry_of_whisper_is_the_encoder_that_transformers_makes_of_its_size() -> None:
    released = REGISTRY["whisper-small-en"]
    config = transformers.WhisperConfig(
        d_model=768, encoder_layers=12, encoder_ffn_dim=3072, encoder_attention_heads=12
    )
    with torch.device("meta"):
        encoder = transformers.WhisperModel(config).encoder
    assert sum(parameter.numel() for parameter in encoder.parameters()) == released.num_parameters
    assert (released.num_layers, released.dim, released.frame_rate_hz) == (12, 768, config.max_source_positions / 30)


@pytest.mark.parametrize("name", [name for name, released in REGISTRY.items() if released.model_type in SPIDR_TYPES])
def test_an_entry_of_this_family_is_the_model_of_table_5(name: str) -> None:
    released = REGISTRY[name]
    settings = ModelSettings(qkv_bias=name == "dinosr-original")
    with torch.device("meta"):
        learner = SpidR(settings)
    assert sum(parameter.numel() for parameter in learner.student.parameters()) == released.num_parameters
    assert (settings.num_layers, settings.hidden_size) == (released.num_layers, released.dim)
    assert released.tap == "ffn"


def test_the_table_has_a_line_for_each_entry() -> None:
    lines = table_text().split("\n")
    for name, released in REGISTRY.items():
        (line,) = (line for line in lines if line.split()[0:1] == [name])
        assert line.endswith(released.source)
    assert len({released.source for released in REGISTRY.values()}) == len(REGISTRY)
    known = {*HUB_TYPES, *SPIDR_TYPES, *LAYOUTS, "data2vec2", "conformer"}
    assert {released.model_type for released in REGISTRY.values()} == known


@pytest.mark.parametrize(("given", "recorded"), [(None, True), (False, False)])
@pytest.mark.parametrize("source", ["hubert-large", "facebook/hubert-large-ll60k"])
def test_the_registry_tells_what_an_entry_leaves_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, given: bool | None, recorded: bool
) -> None:
    mirror = tmp_path / "facebook" / "hubert-large-ll60k"  # found as a folder, where a hub would be asked
    mirror.mkdir(parents=True)
    (mirror / "config.json").write_text(transformers.HubertConfig().to_json_string())
    monkeypatch.chdir(tmp_path)
    described = describe(HubEncoder(family="hub", source=source, standardize=given, layers=[1]))
    assert described["source"] == "facebook/hubert-large-ll60k"
    assert described["standardize"] is recorded


def test_layers_of_a_known_encoder_are_checked_as_the_experiment_is_read(tmp_path: Path) -> None:
    experiment = tmp_path / "e.yaml"
    experiment.write_text(
        "experiment: e\ncorpora: {c: {layout: folder, path: c, annotations: a.csv}}\n"
        "encoders: {h: {family: hub, source: wavlm-base, layers: [12, 13]}}\n"
        "evaluation: {abx: {corpora: [c]}}\n"
    )
    with pytest.raises(InputError, match=r"encoders\.h\.layers: found 13, expected 0 to 12"):
        read_experiment(experiment)
