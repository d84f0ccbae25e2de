"""Whisper's encoder gives the outputs of its blocks, computed here once more from its tensors."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.whisper import modeling_whisper

from artifacts.errors import InputError
from units.whisper import WhisperEncoder

LAYERS, DIM, HEADS, MELS = 3, 12, 2, 80
WINDOW = 480_000
SIZES = {
    "d_model": DIM,
    "encoder_layers": LAYERS,
    "encoder_attention_heads": HEADS,
    "encoder_ffn_dim": 20,
    "decoder_layers": 2,
    "decoder_attention_heads": HEADS,
    "decoder_ffn_dim": 16,
    "vocab_size": 9,
    "num_mel_bins": MELS,
    **{f"{token}_token_id": 1 for token in ("pad", "bos", "eos", "decoder_start")},
}


def write_release(folder: Path, kind: str = "WhisperForConditionalGeneration", **sizes: Any) -> dict[str, Tensor]:
    """A model with random tensors in the form of the release; returns those of the encoder, in double precision."""
    torch.manual_seed(0)
    model = getattr(transformers, kind)(transformers.WhisperConfig(**SIZES, **sizes))
    for name, parameter in model.named_parameters():
        # Gains that are not 1, biases that are not 0, and attention that is not uniform.
        scale = 1.5 if "q_proj" in name or "k_proj" in name else 0.3
        with torch.no_grad():
            offset = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(offset + scale * torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
    model.save_pretrained(folder)
    tensors = {name.removeprefix("model."): tensor.double() for name, tensor in model.state_dict().items()}
    return {name.removeprefix("encoder."): t for name, t in tensors.items() if name.startswith("encoder.")}


def load(source: Path, highest_layer: int) -> WhisperEncoder:
    config = {"source": str(source), "revision": None, "num_layers": LAYERS, "frame_rate_hz": 50.0}
    return WhisperEncoder(source.parent / "encoder", config, torch.device("cpu"), highest_layer)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Tensor]]:
    folder = tmp_path_factory.mktemp("whisper") / "source"
    return folder, write_release(folder)


def speech(num_samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(num_samples).normal(0, 0.1, (batch, num_samples)).astype(np.float32)


# The model once more, from its paper: one window of 30 seconds, double precision.


def log_mel(waveform: np.ndarray) -> np.ndarray:
    """(mels, 3000) of one window: Slaney's mel filters, base-10 logarithms, 8 below the greatest at least."""
    padded = np.pad(np.pad(waveform.astype(np.float64), (0, WINDOW - len(waveform))), 200, mode="reflect")
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    windows = np.lib.stride_tricks.sliding_window_view(padded, 400)[::160][:3000]
    power = np.abs(np.fft.rfft(windows * hann)) ** 2  # (3000, 201)

    def hertz(mel: float) -> float:
        return mel * 200 / 3 if mel < 15 else 1000 * math.exp(math.log(6.4) / 27 * (mel - 15))

    highest = 15 + math.log(8) * 27 / math.log(6.4)
    corners = [hertz(highest * i / (MELS + 1)) for i in range(MELS + 2)]
    energies = np.zeros((MELS, 3000))
    for mel in range(MELS):
        low, centre, high = corners[mel : mel + 3]
        triangle = [
            max(0.0, min((f - low) / (centre - low), (high - f) / (high - centre))) for f in np.arange(201) * 40
        ]
        energies[mel] = power @ (np.array(triangle) * 2 / (high - low))
    logarithms = np.log10(np.maximum(energies, 1e-10))
    return (np.maximum(logarithms, logarithms.max() - 8) + 4) / 4


def window_outputs(t: dict[str, Tensor], waveform: np.ndarray) -> list[Tensor]:
    """Outputs of layers 0 to 3, (1500, dim)."""

    def normed(name: str, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return scaled * t[f"{name}.weight"] + t[f"{name}.bias"]

    def linear(name: str, x: Tensor) -> Tensor:
        product = x @ t[f"{name}.weight"].T
        return product + t[f"{name}.bias"] if f"{name}.bias" in t else product  # keys have none

    x = torch.from_numpy(log_mel(waveform))
    x = F.gelu(F.conv1d(x, t["conv1.weight"], t["conv1.bias"], padding=1))
    x = F.gelu(F.conv1d(x, t["conv2.weight"], t["conv2.bias"], stride=2, padding=1)).T + t["embed_positions.weight"]
    outputs = [x]
    for i in range(LAYERS):
        layer = f"layers.{i}"
        y = normed(f"{layer}.self_attn_layer_norm", x)
        q, k, v = (linear(f"{layer}.self_attn.{part}_proj", y).chunk(HEADS, dim=1) for part in "qkv")
        heads = [(q[h] @ k[h].T / (DIM / HEADS) ** 0.5).softmax(1) @ v[h] for h in range(HEADS)]
        x = x + linear(f"{layer}.self_attn.out_proj", torch.cat(heads, 1))
        y = normed(f"{layer}.final_layer_norm", x)
        x = x + linear(f"{layer}.fc2", F.gelu(linear(f"{layer}.fc1", y)))
        outputs.append(x)
    return outputs


def block_outputs(t: dict[str, Tensor], waveform: np.ndarray) -> list[np.ndarray]:
    parts: list[list[np.ndarray]] = [[] for _ in range(LAYERS + 1)]
    for start in range(0, len(waveform), WINDOW):
        window = waveform[start : start + WINDOW]
        for layer, frames in enumerate(window_outputs(t, window)):
            parts[layer].append(frames[: math.ceil(len(window) // 160 / 2)].numpy())
    return [np.concatenate(part) for part in parts]


@pytest.mark.parametrize("num_samples", [160, 16_000, 100_037, WINDOW, WINDOW + 5000])
def test_features_are_the_block_outputs(release: tuple[Path, dict[str, Tensor]], num_samples: int) -> None:
    folder, tensors = release
    (waveform,) = speech(num_samples)
    features = load(folder, LAYERS).features(waveform[None], [0, 1, 2, 3])
    for layer, expected in enumerate(block_outputs(tensors, waveform)):
        np.testing.assert_allclose(features[layer][0], expected, rtol=1e-5, atol=1e-5)
        assert features[layer].dtype == np.float32


def test_a_model_of_which_less_is_loaded_has_the_very_same_layers(release: tuple[Path, dict[str, Tensor]]) -> None:
    folder, _ = release
    whole = load(folder, LAYERS).features(speech(8000), [0, 1, 2, 3])
    for layer in range(LAYERS):
        encoder = load(folder, layer)
        np.testing.assert_array_equal(encoder.features(speech(8000), [layer])[layer], whole[layer])
        assert encoder.num_layers == LAYERS


def test_an_utterance_has_a_frame_for_each_pair_of_log_mel_frames(release: tuple[Path, dict[str, Tensor]]) -> None:
    encoder = load(release[0], 1)
    frames = {159: 0, 160: 1, 479: 1, 480: 2, 799: 2, 800: 3, 16_000: 50, 16_159: 50, 16_160: 51}
    frames |= {WINDOW: 1500, WINDOW + 159: 1500, WINDOW + 160: 1501, 2 * WINDOW: 3000, 2 * WINDOW + 480: 3002}
    assert {num_samples: encoder.num_frames(num_samples) for num_samples in frames} == frames
    for num_samples in (160, 479, 480, 16_159, 16_160, WINDOW, WINDOW + 159, WINDOW + 160):
        assert encoder.features(speech(num_samples), [1])[1].shape == (1, frames[num_samples], DIM)
    assert (encoder.frame_rate_hz, encoder.tap, encoder.dim(1), encoder.batch_samples) == (50, "block", DIM, 0)


def test_what_is_heard_ends_at_30_seconds(release: tuple[Path, dict[str, Tensor]]) -> None:
    encoder = load(release[0], 2)
    waveform = speech(WINDOW + 16_000)
    features = encoder.features(waveform, [2])[2]
    alone = [encoder.features(part, [2])[2] for part in (waveform[:, :WINDOW], waveform[:, WINDOW:])]
    np.testing.assert_array_equal(features, np.concatenate(alone, axis=1))


def test_a_batch_of_equal_lengths_leaves_the_features_as_they_are(release: tuple[Path, dict[str, Tensor]]) -> None:
    encoder = load(release[0], 2)
    together = speech(16_000, batch=8) * np.arange(1, 9, dtype=np.float32)[:, None]  # more than go in at a time
    features = encoder.features(together, [0, 2])
    for layer in (0, 2):
        assert features[layer].shape == (8, 50, DIM)
        alone = [encoder.features(waveform[None], [layer])[layer][0] for waveform in together]
        np.testing.assert_allclose(features[layer], np.stack(alone), rtol=1e-5, atol=1e-5)


def test_the_decoder_is_not_needed(tmp_path: Path) -> None:
    write_release(tmp_path / "source", kind="WhisperModel")
    path = tmp_path / "source" / "model.safetensors"
    expected = load(tmp_path / "source", LAYERS).features(speech(4000), [3])[3]
    encoder_only = {name: t for name, t in load_file(path).items() if name.startswith("encoder.")}
    save_file(encoder_only, path, metadata={"format": "pt"})
    np.testing.assert_array_equal(load(tmp_path / "source", LAYERS).features(speech(4000), [3])[3], expected)


def test_the_released_size_has_the_published_number_of_parameters() -> None:
    heads = {"encoder_attention_heads": 12, "decoder_attention_heads": 12}
    config = transformers.WhisperConfig(d_model=768, encoder_layers=12, encoder_ffn_dim=3072, **heads)
    with torch.device("meta"):
        encoder = modeling_whisper.WhisperEncoder(config)
    assert sum(parameter.numel() for parameter in encoder.parameters()) == 88_154_112


def test_a_source_that_is_not_right_is_one_line(tmp_path: Path) -> None:
    source = tmp_path / "source"
    write_release(source)
    path = source / "model.safetensors"
    tensors = load_file(path)

    def save(changed: dict[str, Tensor]) -> None:
        save_file(changed, path, metadata={"format": "pt"})

    name = "model.encoder.layers.1.fc1.weight"
    save({key: tensor for key, tensor in tensors.items() if key != name})
    message = r"source: found no tensor encoder\.layers\.1\.fc1\.weight, expected the weights of a Whisper model$"
    with pytest.raises(InputError, match=message):
        load(source, 2)
    load(source, 1)  # does not need it
    save({**tensors, name: torch.zeros(3, 4)})
    with pytest.raises(InputError, match=r"config\.json: source: cannot load .*source"):
        load(source, 2)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"config\.json: source: cannot load .*source"):
        load(source, 2)
    path.unlink()
    with pytest.raises(InputError, match=r"config\.json: source: cannot load .*source"):
        load(source, 2)
    write_release(tmp_path / "short", max_source_positions=50)
    with pytest.raises(InputError, match=r"short: max_source_positions: found 50, expected 1500: 30 seconds$"):
        load(tmp_path / "short", 2)
