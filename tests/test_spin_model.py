"""An encoder fine-tuned by Spin: what moves, what does not, its units and predictions, its folder."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file
from small_spin_training import BASES, RECIPE, manifest, recipe_of, run_training, write_hub, write_spidr

from artifacts.errors import InputError
from corpora.manifest import read_manifest
from spidr.encoder import load_learner
from units.codebook import extract_codebook
from units.encoders import load, with_codebook
from units.quantizers import Assigner, load_quantizer
from units.spin.batches import Batches
from units.spin.model import Spin, load_base, write_spin
from units.spin.settings import SpinRecipe
from units.spin.train import Stepper
from units.tokenize import load_for, unit_frames

__all__ = ["manifest"]  # a fixture


def moved(spin: Spin, before: dict[str, torch.Tensor]) -> set[str]:
    return {name for name, tensor in spin.state_dict().items() if not torch.equal(tensor, before[name])}


@pytest.mark.parametrize("kind", BASES)
def test_only_the_upper_blocks_the_head_and_the_codebook_are_learnt(kind: str, manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of()
    spin = Spin(load_base(BASES[kind](tmp_path / "base")), recipe.model, 0)
    before = {name: tensor.clone() for name, tensor in spin.state_dict().items()}
    stepper, batches = Stepper(spin, recipe, 0), Batches(read_manifest(manifest), recipe, 0)
    for step in range(3):
        assert stepper.step(batches[step], step).gradient_norm > 0
    changed = moved(spin, before)
    blocks = "encoder.transformer.layers" if kind == "spidr" else "encoder.encoder.layers"
    expected = {name for name in before if name.startswith((f"{blocks}.1.", f"{blocks}.2.", "head.", "codebook."))}
    expected = {name for name in expected if not name.startswith(f"{blocks}.2.final_layer_norm") or kind != "spidr"}
    assert changed == expected  # of the keys' biases too: Adam makes steps of rounding errors
    assert f"{blocks}.0.feed_forward.{'fc1' if kind == 'spidr' else 'intermediate_dense'}.weight" not in changed


def test_codes_have_length_1_at_each_step(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of()
    spin = Spin(load_base(write_spidr(tmp_path / "base")), recipe.model, 0)
    lengths = []
    spin.register_forward_pre_hook(lambda *_: lengths.append(spin.codebook.weight.detach().norm(dim=1)))
    stepper, batches = Stepper(spin, recipe, 0), Batches(read_manifest(manifest), recipe, 0)
    for step in range(3):
        stepper.step(batches[step], step)
    for length in lengths:
        torch.testing.assert_close(length, torch.ones(5))


def test_nothing_is_masked_or_dropped_but_for_dropout(tmp_path: Path) -> None:
    noisy = {"mask_time_prob": 0.9, "layerdrop": 0.9, "hidden_dropout": 0.0, "attention_dropout": 0.0}
    noisy |= {"activation_dropout": 0.0, "feat_proj_dropout": 0.0}
    base = load_base(write_hub(tmp_path / "base", "hubert", **noisy))
    waveforms = torch.randn(2, 8000)
    assert base.network.training
    source = transformers.AutoModel.from_pretrained(tmp_path / "base" / "source").eval()
    expected = source(waveforms).last_hidden_state
    torch.testing.assert_close(base.last_layer(waveforms), expected, atol=1e-5, rtol=1e-5)
    dropping = load_base(write_hub(tmp_path / "dropping", "hubert", hidden_dropout=0.5))
    assert not torch.allclose(dropping.last_layer(waveforms), dropping.last_layer(waveforms), atol=1e-2)


def last_layer(folder: Path, kind: str, waveforms: torch.Tensor) -> torch.Tensor:
    """The base's last layer, by the libraries alone: transformers' output, or what SpidR's last network gives."""
    if kind != "spidr":
        model = transformers.AutoModel.from_pretrained(folder / "model").eval()
        states = model(waveforms, output_hidden_states=True).hidden_states
        assert len(states) == 4
        return states[3]
    student, found = load_learner(folder).student.eval(), []
    student.transformer.layers[2].feed_forward.register_forward_hook(lambda _, __, output: found.append(output))
    student(waveforms)
    return found[0]


@pytest.mark.parametrize("kind", BASES)
def test_units_of_the_folder_are_the_nearest_codes_by_angle(kind: str, tmp_path: Path) -> None:
    base = load_base(BASES[kind](tmp_path / "base"))
    folder = tmp_path / "spun"
    waveforms = 0.1 * torch.randn(2, 9000, generator=torch.Generator().manual_seed(1))
    spin = Spin(base, small_model(), 3)
    with torch.no_grad():  # frames lie round the origin of the head, so that there are several units
        spin.head.bias -= spin.head(base.last_layer(waveforms)).mean((0, 1))
    write_spin(folder, spin, {"made": "here"})
    tensors = load_file(folder / "spin.safetensors")
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == {
        "head.weight": (6, 16), "head.bias": (6,), "codebook.weight": (11, 6)
    }  # fmt: skip
    with torch.no_grad():
        frames = last_layer(folder / "base", kind, waveforms).double()
    projected = frames @ tensors["head.weight"].double().T + tensors["head.bias"].double()
    codes = tensors["codebook.weight"].double()
    norms = projected.square().sum(-1, keepdim=True).sqrt() * codes.square().sum(1).sqrt()
    cosines = (projected @ codes.T / norms).numpy()
    expected = np.exp(cosines / 0.1) / np.exp(cosines / 0.1).sum(-1, keepdims=True)

    encoder = with_codebook(load(folder, "cpu", [1, 3]), folder, [3])
    features, predictions = encoder.features_and_predictions(waveforms.numpy(), [1], [3])
    assert list(features) == [1]
    np.testing.assert_allclose(predictions[3], expected, atol=1e-5)
    np.testing.assert_allclose(encoder.features(waveforms.numpy(), [3])[3], frames, atol=1e-5)
    assert (encoder.codebook_layers, encoder.codebook_size, encoder.num_layers) == ([3], 11, 3)
    assert encoder.tap == ("ffn" if kind == "spidr" else "block")

    extract_codebook(folder, 3, tmp_path / "codebook")
    quantizer = load_quantizer(tmp_path / "codebook")
    (units,) = unit_frames(load_for(folder, [quantizer], "cpu"), [Assigner(quantizer)], waveforms.numpy())
    np.testing.assert_array_equal(units, cosines.argmax(-1))
    assert len(np.unique(units)) > 1
    linear = frames.numpy() @ quantizer.tensors["weight"].T.astype(np.float64) + quantizer.tensors["bias"]
    np.testing.assert_array_equal(units, linear.argmax(-1))  # head and codebook are one map
    config = json.loads((folder / "config.json").read_text())
    assert (config["family"], config["base"], config["codebook_size"]) == ("spin", "base", 11)


def small_model() -> Any:
    return SpinRecipe.model_validate({"model": {"frozen_blocks": 2, "head_size": 6, "codebook_size": 11}}).model


def test_predictions_have_the_temperature_of_the_training_or_of_the_releases(tmp_path: Path) -> None:
    settings = small_model().model_copy(update={"temperature": 0.5})
    write_spin(tmp_path / "spun", Spin(load_base(write_spidr(tmp_path / "base")), settings, 0), {})
    waveforms = np.random.default_rng(0).normal(0, 0.1, (1, 6000)).astype(np.float32)

    def log_predictions() -> np.ndarray:
        encoder = with_codebook(load(tmp_path / "spun", "cpu", [3]), tmp_path / "spun", [3])
        found = np.log(encoder.features_and_predictions(waveforms, [], [3])[1][3].astype(np.float64))
        centred: np.ndarray = found - found.mean(-1, keepdims=True)
        return centred

    trained = log_predictions()
    config = json.loads((tmp_path / "spun" / "config.json").read_text())
    del config["temperature"]  # as in a converted folder
    (tmp_path / "spun" / "config.json").write_text(json.dumps(config))
    np.testing.assert_allclose(log_predictions(), 5 * trained, atol=1e-4)


def test_bfloat16_is_of_the_encoder_alone(manifest: Path, tmp_path: Path) -> None:
    losses = []
    for precision in ("float32", "bfloat16"):
        recipe = SpinRecipe.model_validate({**RECIPE, "training": {"precision": precision}})
        spin = Spin(load_base(write_spidr(tmp_path / "base")), recipe.model, 0)
        outcome = Stepper(spin, recipe, 0).step(Batches(read_manifest(manifest), recipe, 0)[0], 0)
        assert outcome.tally.loss.dtype == spin(torch.randn(1, 4000)).dtype == torch.float32
        losses.append(outcome.tally.figures()["loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
    assert losses[1] != losses[0]


def test_lower_layers_of_a_fine_tuned_encoder_are_its_bases(manifest: Path, tmp_path: Path) -> None:
    base = write_hub(tmp_path / "base", "hubert")
    spin = run_training(base, manifest, tmp_path / "training")
    write_spin(tmp_path / "spun", spin, {})
    waveforms = np.random.default_rng(0).normal(0, 0.1, (1, 6000)).astype(np.float32)
    before, after = (
        load(folder, "cpu", [0, 1, 2, 3]).features(waveforms, [0, 1, 2, 3]) for folder in (base, tmp_path / "spun")
    )
    for layer in (0, 1):
        np.testing.assert_array_equal(before[layer], after[layer])
    for layer in (2, 3):
        assert not np.allclose(before[layer], after[layer], atol=1e-3)


def test_a_damaged_folder_is_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "spun"
    write_spin(folder, Spin(load_base(write_spidr(tmp_path / "base")), small_model(), 0), {})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"codebook_size": 12}))
    with pytest.raises(InputError, match=r"spin\.safetensors: codebook\.weight: found \(11, 6\), expected \(12, 6\)"):
        load(folder, "cpu", [3])
    (folder / "spin.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match=r"spin\.safetensors: not a whole safetensors file"):
        load(folder, "cpu", [3])
    (folder / "spin.safetensors").unlink()
    with pytest.raises(InputError, match=r"spin\.safetensors: no such file"):
        load(folder, "cpu", [3])


def test_another_kind_of_encoder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a model of type wav2vec2, expected hubert or wavlm"):
        load_base(write_hub(tmp_path / "wav2vec2", "wav2vec2"))
    (tmp_path / "config.json").write_text('{"family": "mfcc"}')
    with pytest.raises(InputError, match="family: found 'mfcc', expected hub or spidr"):
        load_base(tmp_path)
    recipe = SpinRecipe.model_validate({"model": {"frozen_blocks": 3}})
    with pytest.raises(
        InputError, match=r"model\.frozen_blocks: found 3, expected at most 2: the encoder has 3 blocks"
    ):
        Spin(load_base(write_spidr(tmp_path / "spidr")), recipe.model, 0)
