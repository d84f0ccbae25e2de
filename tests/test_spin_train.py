"""Fine-tuning by Spin, from the command line to units: what moves, what does not, resumption, workers."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
import transformers
from conftest import TINY
from safetensors.torch import load_file, save_file

import spidr.batches
import spidr.train
from artifacts.errors import InputError, Stopped
from artifacts.settings import parse_settings, read_yaml
from corpora.manifest import Utterance, read_manifest, write_manifest
from spidr.encoder import load_learner, write_encoder
from spidr.learner import build_learner
from spidr.settings import ModelSettings, Recipe
from units.codebook import extract_codebook
from units.encoders import load, with_codebook
from units.quantizers import load_quantizer
from units.spin.batches import Batches
from units.spin.model import Spin, load_base, write_spin
from units.spin.settings import SpinRecipe
from units.spin.train import Stepper, main, train
from units.tokenize import load_for, unit_frames
from units.weights import source_checksums

pytest.importorskip("parselmouth")

RECIPE: dict[str, Any] = {
    "model": {"frozen_blocks": 1, "head_size": 6, "codebook_size": 5},
    "optimizer": {"learning_rate": 0.003, "warmup_steps": 2, "decay_steps": 4},
    "batches": {"min_samples": 3000, "max_samples": 5000, "max_batch_samples": 20_000, "num_buckets": 2},
    "training": {"log_every": 2, "checkpoint_every": 3, "precision": "float32"},
}
SIZES = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
SMALL = SIZES | {"conv_dim": (8,) * 7, "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}


def write_hub(folder: Path, model_type: str, **options: Any) -> Path:
    """A small HuBERT Base, or what is asked for, as a folder that `describe` would make."""
    torch.manual_seed(0)
    config = transformers.AutoConfig.for_model(model_type, **(SMALL | options))
    transformers.AutoModel.from_config(config).save_pretrained(folder / "source")
    described = {"family": "hub", "model_type": model_type, "frame_rate_hz": 50.0, "tap": "block", "num_layers": 3}
    source = str(folder / "source")
    described |= {"source": source, "revision": None, "checksums": source_checksums(source), "standardize": False}
    (folder / "config.json").write_text(json.dumps(described))
    return folder


def write_spidr(folder: Path) -> Path:
    settings = ModelSettings(
        extractor=((8, 20, 20), (8, 16, 16)), hidden_size=16, num_layers=3, num_heads=2, ffn_size=16,
        position_layers=1, position_kernel=3, position_groups=2, num_codebooks=2, codebook_size=8, dropout=0,
        attention_dropout=0,
    )  # fmt: skip
    write_encoder(folder, build_learner(settings, 0), {})
    return folder


BASES: dict[str, Callable[[Path], Path]] = {
    "hubert": lambda folder: write_hub(folder, "hubert"),
    "hubert-large": lambda folder: write_hub(
        folder, "hubert", do_stable_layer_norm=True, feat_extract_norm="layer", conv_bias=True
    ),
    "wavlm": lambda folder: write_hub(folder, "wavlm"),
    "spidr": write_spidr,
}


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """Buzzes at several pitches in noise: voiced, so that all of the perturbation is gone through."""
    rng = np.random.default_rng(0)
    utterances = []
    for index in range(12):
        num_samples = 3200 + 200 * index
        pulses = np.floor(np.arange(num_samples) * (100 + 20 * index) / 16_000)
        path = tmp_path / "audio" / f"u{index}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.3 * np.diff(pulses, prepend=0) + 0.01 * rng.normal(size=num_samples), 16_000)
        utterances.append(Utterance(path.stem, path, num_samples, "s"))
    write_manifest(tmp_path / "manifest.csv", utterances)
    return tmp_path / "manifest.csv"


def recipe_of(steps: int = 6, **changes: Any) -> SpinRecipe:
    return SpinRecipe.model_validate({**RECIPE, **changes, "training": {**RECIPE["training"], "steps": steps}})


def run_training(base: Path, manifest: Path, folder: Path, steps: int = 6, **options: Any) -> Spin:
    recipe = recipe_of(steps)
    spin = Spin(load_base(base), recipe.model, 0)
    train(spin, recipe, Batches(read_manifest(manifest), recipe, 0), folder, 0, **options)
    return spin


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
    (units,) = unit_frames(load_for(folder, [quantizer], "cpu"), [quantizer], waveforms.numpy())
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


# Resumption.


def assert_same_training(folder: Path, expected: Path, step: int = 6) -> None:
    name = Path("checkpoints") / f"step-{step:08d}.pt"
    found, wanted = (torch.load(place / name, weights_only=True) for place in (folder, expected))
    assert found["num_samples"] == wanted["num_samples"]
    assert len(wanted["learnt"]) > 3
    for key, tensor in wanted["learnt"].items():
        assert torch.equal(found["learnt"][key], tensor), key
    for index, moments in wanted["optimizer"]["state"].items():
        for key, tensor in moments.items():
            assert torch.equal(found["optimizer"]["state"][index][key], tensor)
    assert read_log(folder) == read_log(expected)


def read_log(folder: Path) -> list[dict[str, Any]]:
    """What it says but for times."""
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    for line in lines:
        assert line.pop("audio_s_per_s") > 0
        assert 0 <= line.pop("waited_for_data") < 1
    return lines


def test_a_stopped_training_ends_as_if_it_had_never_stopped(manifest: Path, tmp_path: Path) -> None:
    base = write_hub(tmp_path / "base", "hubert")  # with dropout
    run_training(base, manifest, tmp_path / "whole")
    for done in (1, 2, 3):  # a step at a time
        with pytest.raises(Stopped, match=f"stopped by time budget of .* s after step {done} of 6, saved: start again"):
            run_training(base, manifest, tmp_path / "stopped", time_budget_s=1e-9)
    run_training(base, manifest, tmp_path / "stopped")
    assert_same_training(tmp_path / "stopped", tmp_path / "whole")
    lines = read_log(tmp_path / "whole")
    assert [line["step"] for line in lines] == [2, 4, 6]
    assert {"loss", "agreement", "code_perplexity", "prediction_perplexity", "learning_rate"} < lines[0].keys()


def test_a_loss_that_is_not_finite_names_the_files_and_saves_nothing(manifest: Path, tmp_path: Path) -> None:
    recipe = recipe_of(optimizer={"learning_rate": 1e38, "warmup_steps": 0})
    spin = Spin(load_base(write_spidr(tmp_path / "base")), recipe.model, 0)
    with pytest.raises(InputError, match=r"step \d: found a .*, expected finite numbers; lower .*learning_rate"):
        train(spin, recipe, Batches(read_manifest(manifest), recipe, 0), tmp_path / "training", 0)
    assert not list((tmp_path / "training").glob("checkpoints/*"))


def test_bad_audio_is_one_line_although_another_process_reads_it(manifest: Path, tmp_path: Path) -> None:
    (tmp_path / "audio" / "u5.wav").write_bytes(b"")
    with pytest.raises(InputError, match=r"u5\.wav: not readable as audio") as error:
        run_training(write_spidr(tmp_path / "base"), manifest, tmp_path / "training")
    assert "\n" not in str(error.value)


def command(base: Path, manifest: Path, output: Path, steps: int) -> list[str]:
    recipe = recipe_of(steps).model_dump_json()
    files = ["--base", str(base), "--train", str(manifest), "--output", str(output)]
    return [sys.executable, "-m", "units.spin.train", "--settings", recipe, "--device", "cpu", *files]


def call(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """What the command does, in this process: torch and transformers take seconds to import."""
    monkeypatch.setattr(sys, "argv", arguments[2:])
    main()


def test_a_signal_saves_and_stops(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = write_spidr(tmp_path / "base")
    take_step = Stepper.step

    def signalled(self: Stepper, views: Any, step: int) -> Any:
        if step == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return take_step(self, views, step)

    monkeypatch.setattr(Stepper, "step", signalled)
    with pytest.raises(Stopped, match="stopped by SIGTERM after step 2 of 6, saved: start again to go on"):
        call(command(base, manifest, tmp_path / "spun", 6), monkeypatch)
    assert [path.name for path in (tmp_path / "spun" / "training" / "checkpoints").iterdir()] == ["step-00000002.pt"]
    assert not (tmp_path / "spun" / "config.json").exists()


def test_another_base_trains_anew(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = write_spidr(tmp_path / "base")
    call(command(base, manifest, tmp_path / "spun", 3), monkeypatch)
    call(command(base, manifest, tmp_path / "spun", 4), monkeypatch)  # to train longer is no other training
    assert "training anew" not in capsys.readouterr().err
    config = (base / "config.json").read_bytes()
    write_encoder(base, build_learner(load_learner(base).settings, 1), {})
    assert (base / "config.json").read_bytes() == config
    call(command(base, manifest, tmp_path / "spun", 4), monkeypatch)
    assert "training anew" in capsys.readouterr().err


def test_a_base_whose_source_has_changed_is_refused(
    manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = write_hub(tmp_path / "base", "hubert")
    weights = base / "source" / "model.safetensors"
    save_file({name: 1.5 * tensor for name, tensor in load_file(weights).items()}, weights, {"format": "pt"})
    with pytest.raises(InputError, match="the source has changed; describe the encoder anew"):
        call(command(base, manifest, tmp_path / "spun", 1), monkeypatch)


@pytest.mark.slow
def test_on_recorded_speech_views_come_to_agree(recorded: Path, tmp_path: Path) -> None:
    paths = sorted(recorded.glob("audio/*/*.flac"))[:60]
    utterances = [Utterance(path.stem, path, soundfile.info(path).frames, path.parent.name) for path in paths]
    pretraining = parse_settings(Recipe, read_yaml(TINY.parent / "spidr" / "tiny.yaml"), "recipe")
    pretraining = pretraining.model_copy(update={"training": pretraining.training.model_copy(update={"steps": 250})})
    made = spidr.batches.Batches(utterances, pretraining, 0), spidr.batches.Batches(utterances[:4], pretraining, 1)
    learner, _ = spidr.train.train(pretraining, *made, tmp_path / "spidr" / "training", 0, torch.device("cpu"))
    write_encoder(tmp_path / "spidr", learner, {})

    recipe = parse_settings(SpinRecipe, read_yaml(TINY.parent / "spin" / "tiny.yaml"), "recipe")
    spin = Spin(load_base(tmp_path / "spidr"), recipe.model, 0)
    train(spin, recipe, Batches(utterances, recipe, 0), tmp_path / "training", 0)
    lines = [json.loads(line) for line in (tmp_path / "training" / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.3
    assert lines[-1]["loss"] < np.log(64)  # what knows nothing of the frames gives
    assert lines[-1]["agreement"] > 1.3 * lines[0]["agreement"]
    assert lines[-1]["code_perplexity"] > lines[0]["code_perplexity"]
