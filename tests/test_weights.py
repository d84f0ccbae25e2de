"""Other weights are another encoder, wherever they lie."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
import yaml
from conftest import snakemake
from safetensors.torch import load_file, save_file

from artifacts.errors import InputError
from corpora.manifest import Utterance, write_manifest
from units.encoders import describe
from units.extract import extract
from units.features import FeatureReader
from units.settings import HubEncoder
from units.weights import encoder_checksums

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = SIZES | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A small HuBERT of one's own."""
    torch.manual_seed(0)
    model = transformers.HubertModel(transformers.HubertConfig(**SMALL))
    model.save_pretrained(tmp_path / "fine-tuned")
    return tmp_path / "fine-tuned"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    path = tmp_path / "a.wav"
    soundfile.write(path, 0.1 * np.random.default_rng(0).normal(size=8000), 16_000)
    write_manifest(tmp_path / "manifest.csv", [Utterance("a", path, 8000, "s")])
    return tmp_path / "manifest.csv"


def write_description(source: Path, folder: Path) -> Path:
    folder.mkdir(exist_ok=True)
    described = describe(HubEncoder(family="hub", source=str(source), standardize=False, layers=[1]))
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def grow(source: Path) -> None:
    """Other weights, of the same size and as old, as a copy from elsewhere might be."""
    path = source / "model.safetensors"
    before = path.stat()
    save_file({name: 1.5 * tensor for name, tensor in load_file(path).items()}, path, {"format": "pt"})
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size


def test_another_model_in_a_source_is_refused_until_it_is_described(
    source: Path, manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    encoder, output = write_description(source, tmp_path / "encoder"), tmp_path / "features"
    extract(encoder, [1], manifest, output)
    before = FeatureReader(output / "L01").frames("a")
    grow(source)
    with pytest.raises(
        InputError, match=r"config\.json: checksums: found \w{12}\.\.\. of .*fine-tuned/model\.safetens"
    ):
        extract(encoder, [1], manifest, output)
    write_description(source, encoder)
    extract(encoder, [1], manifest, output)
    assert not np.array_equal(FeatureReader(output / "L01").frames("a"), before)
    assert "all features are there" not in capsys.readouterr().out
    extract(encoder, [1], manifest, output)
    assert "all features are there" in capsys.readouterr().out


def remove(source: Path) -> None:
    (source / "model.safetensors").unlink()


def set_up_otherwise(source: Path) -> None:
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"layer_norm_eps": 0.5}))


def cut_in_pieces(source: Path) -> None:
    transformers.HubertModel.from_pretrained(source).save_pretrained(source, max_shard_size="20KB")


@pytest.mark.parametrize("change", [grow, remove, set_up_otherwise, cut_in_pieces])
def test_all_that_a_source_is_read_from_counts(source: Path, tmp_path: Path, change: Callable[[Path], None]) -> None:
    encoder = write_description(source, tmp_path / "encoder")
    whole = encoder_checksums(encoder)
    assert encoder_checksums(encoder) == whole
    change(source)
    with pytest.raises(InputError, match="the source has changed"):
        encoder_checksums(encoder)
    assert encoder_checksums(write_description(source, encoder)) != whole


def test_weights_in_the_form_of_older_releases_count(source: Path, tmp_path: Path) -> None:
    tensors = load_file(source / "model.safetensors")
    remove(source)
    torch.save(tensors, source / "pytorch_model.bin")
    torch.save({}, source / "training_args.bin")
    encoder = write_description(source, tmp_path / "encoder")
    described: dict[str, Any] = json.loads((encoder / "config.json").read_text())
    assert described["checksums"].keys() == {"config.json", "pytorch_model.bin"}
    torch.save({}, source / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"fine-tuned/pytorch_model\.bin"):
        encoder_checksums(encoder)


def test_weights_in_the_folder_count_but_for_those_of_its_training(tmp_path: Path) -> None:
    folder = tmp_path / "training" / "encoder"
    (folder / "model").mkdir(parents=True)
    (folder / "training").mkdir()
    (folder / "config.json").write_text('{"family": "hub", "source": "model"}')
    for place in ("model", "training"):
        save_file({"a": torch.zeros(2)}, folder / place / "model.safetensors")
    found = encoder_checksums(folder)
    assert found.keys() == {"config.json", "model/model.safetensors"}
    save_file({"a": torch.ones(2)}, folder / "model" / "model.safetensors")
    assert encoder_checksums(folder) != found


def test_the_workflow_describes_an_encoder_anew_where_its_source_has_changed(source: Path, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    experiment = {
        "experiment": "e",
        "corpora": {"c": {"layout": "folder", "path": "audio", "annotations": "a.csv"}},
        "encoders": {"mine": {"family": "hub", "source": str(source), "standardize": False, "layers": [1]}},
        "evaluation": {"abx": {"corpora": ["c"]}},
    }
    (tmp_path / "e.yaml").write_text(yaml.safe_dump(experiment))
    described = "results/e/encoders/mine/config.json"
    for expected in ("1 of 1 steps", "Nothing to be done"):
        done = snakemake(tmp_path, described, experiment=tmp_path / "e.yaml")
        assert expected in done.stdout + done.stderr, done.stdout + done.stderr
    before = (tmp_path / described).read_text()
    set_up_otherwise(source)
    assert snakemake(tmp_path, described, experiment=tmp_path / "e.yaml").returncode == 0
    assert (tmp_path / described).read_text() != before
