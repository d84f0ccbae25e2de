"""The Conformer from files in its form gives the outputs of its blocks, computed here once more from the tensors."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor

from artifacts.errors import InputError
from units.conformer import Conformer, from_released


class Form(NamedTuple):
    """Sizes of a model."""

    layers: int = 3
    dim: int = 16
    heads: int = 2
    ffn: int = 24
    channels: tuple[int, int] = (4, 3)
    mels: int = 80

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of asr.ckpt that is of the encoder."""
        dim, ffn, (first, second) = self.dim, self.ffn, self.channels
        shapes = both("0.convblock_0.convs.conv_0.conv", first, 1, 3, 3)
        shapes |= both("0.convblock_1.convs.conv_0.conv", second, first, 3, 3)
        for i, shape in enumerate(((self.mels // 2, first), (self.mels // 4, second))):
            name = f"0.convblock_{i}.convs.norm_0.norm"
            shapes |= {f"{name}.weight": shape, f"{name}.bias": shape}
        shapes |= both("1.custom_src_module.layers.0.w", dim, self.mels // 4 * second)
        for i in range(self.layers):
            layer = f"1.encoder.layers.{i}"
            mha, conv = f"{layer}.mha_layer", f"{layer}.convolution_module"
            shapes |= {f"{mha}.in_proj_weight": (3 * dim, dim), f"{mha}.linear_pos.weight": (dim, dim)}
            shapes |= {f"{mha}.pos_bias_{kind}": (dim // self.heads, self.heads) for kind in "uv"}
            shapes |= both(f"{mha}.out_proj", dim, dim)
            shapes |= both(f"{conv}.layer_norm", dim) | both(f"{conv}.bottleneck.0", 2 * dim, dim, 1)
            shapes |= both(f"{conv}.conv", dim, 1, 31) | both(f"{conv}.after_conv.0", dim)
            shapes |= both(f"{conv}.after_conv.2", dim, dim)
            for module in (f"{layer}.ffn_module1", f"{layer}.ffn_module2"):
                shapes |= both(f"{module}.0", dim)
                shapes |= both(f"{module}.1.ffn.0", ffn, dim) | both(f"{module}.1.ffn.3", dim, ffn)
            shapes |= both(f"{layer}.norm1.norm", dim) | both(f"{layer}.norm2.norm", dim)
        return shapes


def both(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


SMALL = Form()
FINAL_NORM = both("1.encoder.norm.norm", SMALL.dim)
OTHERS = {
    "1.positional_encoding.inv_freq": (8,),
    "1.positional_encoding_decoder.pe": (1, 9, 16),
    "1.custom_tgt_module.layers.0.emb.Embedding.weight": (7, 16),
    **both("1.decoder.layers.0.norm1.norm", 16),
    **both("2.w", 7, 16),
    **both("3.w", 7, 16),
}
"""What asr.ckpt holds besides: for decoder and CTC."""


def make_release(form: Form = SMALL) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """What asr.ckpt and normalizer.ckpt hold, with random tensors."""
    generator = torch.Generator().manual_seed(0)
    content = {}
    for name, shape in (form.shapes() | FINAL_NORM | OTHERS).items():
        noise = torch.randn(shape, generator=generator)
        is_gain = name.endswith(("norm.weight", "after_conv.0.weight", "module1.0.weight", "module2.0.weight"))
        is_weight = noise.ndim > 1 and not is_gain and "pos_bias" not in name
        content[name] = 1 + 0.3 * noise if is_gain else noise * (1.5 / noise[0].numel() ** 0.5 if is_weight else 0.5)
    mean, std = torch.linspace(-30, 5, form.mels), torch.linspace(3, 12, form.mels)
    return content, {"count": 9, "glob_mean": mean, "glob_std": std, "spk_dict_count": {}}


def convert(folder: Path, content: Any, normalizer: Any) -> dict[str, Any]:
    """Make an encoder folder; returns its config.json as it is read."""
    config, tensors = from_released(content, folder / "asr.ckpt", normalizer)
    save_file(tensors, folder / "model.safetensors")
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def load(folder: Path, config: dict[str, Any], highest_layer: int) -> Conformer:
    return Conformer(folder, config, torch.device("cpu"), highest_layer)


def speech(num_samples: int, batch: int = 1) -> np.ndarray:
    """Noise that begins very quietly, so that the range of 80 dB is exceeded, and differs in its tilt."""
    noise = np.random.default_rng(num_samples).normal(0, 0.1, (batch, num_samples))
    rising = np.linspace(1e-6, 1, num_samples) ** (3 * np.arange(1, batch + 1)[:, None])
    return (noise * rising).astype(np.float32)


# The model once more, from the description of its forward pass: one utterance, double precision.


def energies_of(waveform: np.ndarray, num_mels: int) -> np.ndarray:
    """Decibels, (frames, mels)."""
    padded = np.pad(waveform.astype(np.float64), 256)
    hamming = 0.54 - 0.46 * np.cos(2 * np.pi * np.arange(512) / 512)
    starts = range(0, len(padded) - 511, 160)
    power = np.array([np.abs(np.fft.rfft(padded[start : start + 512] * hamming)) ** 2 for start in starts])
    highest = 2595 * math.log10(1 + 8000 / 700)
    hertz = [700 * (10 ** (highest * i / (num_mels + 1) / 2595) - 1) for i in range(num_mels + 2)]
    decibels = np.zeros((len(power), num_mels))
    for mel in range(num_mels):
        centre, width = hertz[mel + 1], hertz[mel + 1] - hertz[mel]
        triangle = np.array([max(0.0, 1 - abs(31.25 * k - centre) / width) for k in range(257)])
        decibels[:, mel] = 10 * np.log10(np.maximum(power @ triangle, 1e-10))
    return np.maximum(decibels, decibels.max() - 80)


def norm(x: Tensor, gain: Tensor, bias: Tensor) -> Tensor:
    """Over the dimensions that the gain has."""
    over = tuple(range(-gain.ndim, 0))
    centred = x - x.mean(over, keepdim=True)
    return centred / (x.var(over, keepdim=True, correction=0) + 1e-5).sqrt() * gain + bias


def attention(t: dict[str, Tensor], name: str, x: Tensor, num_heads: int) -> Tensor:
    num_frames, dim = x.shape
    size = dim // num_heads
    rates = [10000 ** (-i / dim) for i in range(0, dim, 2)]
    table = torch.tensor([[f(d * rate) for rate in rates for f in (math.sin, math.cos)] for d in range(num_frames)])
    positions = table.double() @ t[f"{name}.linear_pos.weight"].T
    biases = {kind: t[f"{name}.pos_bias_{kind}"].flatten() for kind in "uv"}
    outputs = []
    for head in range(num_heads):
        mine = slice(head * size, (head + 1) * size)
        # Each head's rows of the projection lie together: query, key, value.
        rows = t[f"{name}.in_proj_weight"][3 * head * size : 3 * (head + 1) * size]
        q, k, v = (x @ part.T for part in rows.split(size))
        content = (q + biases["u"][mine]) @ k.T
        of_distance = (q + biases["v"][mine]) @ positions[:, mine].T
        scores = torch.empty(num_frames, num_frames, dtype=torch.float64)
        for i in range(num_frames):
            for j in range(num_frames):
                scores[i, j] = (content[i, j] + of_distance[i, abs(i - j)]) / dim**0.5
        outputs.append(scores.softmax(1) @ v)
    return torch.cat(outputs, 1) @ t[f"{name}.out_proj.weight"].T + t[f"{name}.out_proj.bias"]


def block_outputs(content: dict[str, Tensor], normalizer: dict[str, Any], form: Form, waveform: np.ndarray) -> Any:
    t = {name: tensor.double() for name, tensor in content.items()}

    def normed(name: str, x: Tensor) -> Tensor:
        return norm(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    def swish(x: Tensor) -> Tensor:
        return x * torch.sigmoid(x)

    def feed_forward(name: str, x: Tensor) -> Tensor:
        return linear(f"{name}.1.ffn.3", swish(linear(f"{name}.1.ffn.0", normed(f"{name}.0", x))))

    energies = torch.from_numpy(energies_of(waveform, form.mels))
    x = (energies - normalizer["glob_mean"].double()) / normalizer["glob_std"].double()
    image = x.T[None, None]  # (1, channels, bands, frames)
    for i in range(2):
        name = f"0.convblock_{i}.convs"
        padded = F.pad(image, (1, 1, 1, 1), mode="reflect")
        image = F.conv2d(padded, t[f"{name}.conv_0.conv.weight"], t[f"{name}.conv_0.conv.bias"], stride=2)
        image = normed(f"{name}.norm_0.norm", image.permute(0, 3, 2, 1))  # (1, frames, bands, channels)
        image = torch.where(image > 0, image, 0.01 * image).permute(0, 3, 2, 1)
    x = linear("1.custom_src_module.layers.0.w", image[0].permute(2, 1, 0).flatten(1))

    outputs = [x.numpy()]
    for i in range(form.layers):
        layer = f"1.encoder.layers.{i}"
        conv = f"{layer}.convolution_module"
        x = x + feed_forward(f"{layer}.ffn_module1", x) / 2
        x = x + attention(t, f"{layer}.mha_layer", normed(f"{layer}.norm1.norm", x), form.heads)
        doubled = normed(f"{conv}.layer_norm", x) @ t[f"{conv}.bottleneck.0.weight"][..., 0].T
        values, gates = (doubled + t[f"{conv}.bottleneck.0.bias"]).chunk(2, dim=1)
        gated = (values * torch.sigmoid(gates)).T
        convolved = F.conv1d(gated, t[f"{conv}.conv.weight"], t[f"{conv}.conv.bias"], padding=15, groups=form.dim).T
        x = x + linear(f"{conv}.after_conv.2", swish(normed(f"{conv}.after_conv.0", convolved)))
        x = normed(f"{layer}.norm2.norm", x + feed_forward(f"{layer}.ffn_module2", x) / 2)
        outputs.append(x.numpy())
    return outputs


@pytest.mark.parametrize("form", [SMALL, Form(dim=12, heads=3, mels=40)], ids=["two-heads", "three-heads"])
def test_features_are_the_block_outputs(tmp_path: Path, form: Form) -> None:
    content, normalizer = make_release(form)
    encoder = load(tmp_path, convert(tmp_path, content, normalizer), form.layers)
    for num_samples in (320, 2500, 16000):
        (waveform,) = speech(num_samples)
        features = encoder.features(waveform[None], [0, 1, 2, 3])
        for layer, expected in enumerate(block_outputs(content, normalizer, form, waveform)):
            np.testing.assert_allclose(features[layer][0], expected, rtol=1e-5, atol=1e-5)
            assert features[layer].dtype == np.float32


def test_silence_has_features(tmp_path: Path) -> None:
    content, normalizer = make_release()
    encoder = load(tmp_path, convert(tmp_path, content, normalizer), 3)
    silence = np.zeros((1, 4000), dtype=np.float32)
    expected = block_outputs(content, normalizer, SMALL, silence[0])
    np.testing.assert_allclose(encoder.features(silence, [3])[3][0], expected[3], rtol=1e-5, atol=1e-5)


def test_a_model_of_which_less_is_loaded_has_the_very_same_layers(tmp_path: Path) -> None:
    config = convert(tmp_path, *make_release())
    whole = load(tmp_path, config, 3).features(speech(8000), [0, 1, 2, 3])
    for layer in range(3):
        encoder = load(tmp_path, config, layer)
        np.testing.assert_array_equal(encoder.features(speech(8000), [layer])[layer], whole[layer])
        assert encoder.num_layers == 3


def test_a_batch_of_equal_lengths_leaves_the_features_as_they_are(tmp_path: Path) -> None:
    encoder = load(tmp_path, convert(tmp_path, *make_release()), 3)
    frames = {0: 0, 319: 0, 320: 1, 639: 1, 640: 2, 1279: 2, 1280: 3, 16000: 26, 16639: 26, 16640: 27, 48000: 76}
    assert {num_samples: encoder.num_frames(num_samples) for num_samples in frames} == frames
    assert (encoder.frame_rate_hz, encoder.tap, encoder.dim(3), encoder.batch_samples) == (25, "block", 16, 0)
    for num_samples in (320, 639, 640, 1279, 1280, 16639, 16640, 48000):
        together = speech(num_samples, batch=3)
        features = encoder.features(together, [0, 3])
        for layer in (0, 3):
            assert features[layer].shape == (3, frames[num_samples], 16)
            alone = [encoder.features(waveform[None], [layer])[layer][0] for waveform in together]
            np.testing.assert_allclose(features[layer], np.stack(alone), rtol=1e-5, atol=1e-5)


def test_the_released_size_has_the_published_number_of_parameters() -> None:
    # The two convolutions, the projection and the encoder; its last norm is of no layer, and is dropped.
    form = Form(layers=12, dim=512, heads=8, ffn=2048, channels=(64, 32))
    shapes = form.shapes() | both("1.encoder.norm.norm", 512)
    content = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    assert sum(tensor.numel() for tensor in content.values()) == 76_220_832
    normalizer = {key: torch.empty(80, device="meta") for key in ("glob_mean", "glob_std")}
    config, tensors = from_released(content, Path("asr.ckpt"), normalizer)
    assert sum(tensor.numel() for tensor in tensors.values()) == 76_220_832 - 2 * 512 + 2 * 80
    assert config.pop("model") == {
        "num_mels": 80,
        "channels": [64, 32],
        "hidden_size": 512,
        "num_heads": 8,
        "ffn_size": 2048,
        "kernel": 31,
    }
    assert config == {
        "family": "conformer",
        "frame_rate_hz": 25.0,
        "tap": "block",
        "num_layers": 12,
        "standardize": False,
    }


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("1.encoder.layers.2.norm2.norm.bias", None, "found no tensor {}, expected one of shape (16,)"),
        ("1.encoder.layers.0.mha_layer.pos_bias_u", None, "found no tensor {}, expected one of 2 dimensions"),
        ("1.encoder.layers.1.gamma", torch.zeros(2), "found a tensor {}, expected none of this name"),
        (
            "1.custom_src_module.layers.0.w.bias",
            torch.zeros(3),
            "{}: found float32 of shape (3,), expected shape (16,)",
        ),
        (
            "1.encoder.layers.0.mha_layer.pos_bias_u",
            torch.zeros(3, 2),
            "{}: found 2 heads of 3, expected a product of 16, which is even",
        ),
        (
            "1.encoder.layers.0.convolution_module.conv.weight",
            torch.zeros(16, 1, 30),
            "{}: found kernel 30, expected an odd one",
        ),
        ("0.convblock_0.convs.conv_0.conv.bias", [1], "{}: found list, expected a tensor of floats"),
    ],
)
def test_a_file_that_is_not_right_is_one_line(name: str, value: Any, message: str) -> None:
    content, normalizer = make_release()
    files: dict[str, Any] = {key: tensor for key, tensor in content.items() if key != name}
    if value is not None:
        files[name] = value
    with pytest.raises(InputError) as error:
        from_released(files, Path("asr.ckpt"), normalizer)
    assert str(error.value) == f"asr.ckpt: {message.format(name)}"


def test_another_content_is_one_line() -> None:
    content, normalizer = make_release()
    with pytest.raises(InputError, match=r"^asr\.ckpt: normalizer: found none, expected what normalizer\.ckpt"):
        from_released(content, Path("asr.ckpt"))
    with pytest.raises(InputError, match=r"^asr\.ckpt: found no tensor glob_std, expected one of shape \(80,\)$"):
        from_released(content, Path("asr.ckpt"), {"glob_mean": normalizer["glob_mean"]})
    with pytest.raises(InputError, match=r"^asr\.ckpt: found list, expected a dictionary of tensors$"):
        from_released([content], Path("asr.ckpt"), normalizer)
    with pytest.raises(InputError, match=r"^asr\.ckpt: found no tensor 0\.convblock_0"):
        from_released({}, Path("asr.ckpt"), normalizer)


def test_a_folder_that_is_not_right_is_one_line(tmp_path: Path) -> None:
    config = convert(tmp_path, *make_release())
    with pytest.raises(InputError, match=r"config\.json: model: num_mels: "):
        load(tmp_path, {**config, "model": {**config["model"], "num_mels": "eighty"}}, 1)
    with pytest.raises(InputError, match=r"model\.safetensors: found no tensor layers\.3\.\w+"):
        load(tmp_path, config, 4)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        load(tmp_path, config, 1)


def test_features_are_those_of_speechbrain(tmp_path: Path) -> None:
    pytest.importorskip("speechbrain")
    from speechbrain.lobes.features import Fbank
    from speechbrain.lobes.models.convolution import ConvolutionFrontEnd
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
    from speechbrain.processing.features import InputNormalization

    content, normalizer = make_release(Form(channels=(64, 32)))
    front = ConvolutionFrontEnd((8, 10, 80), 2, 1, (64, 32), (3, 3), (2, 2), residuals=(False, False))
    transformer = TransformerASR(
        tgt_vocab=7,
        input_size=640,
        d_model=16,
        nhead=2,
        num_encoder_layers=3,
        num_decoder_layers=1,
        d_ffn=24,
        encoder_module="conformer",
        attention_type="RelPosMHAXL",
        normalize_before=True,
        causal=False,
    )
    model = torch.nn.ModuleList([front, transformer]).eval()
    encoder_keys = [key for key in content if key.startswith(("0.", "1.encoder", "1.custom_src"))]
    wrong = model.load_state_dict({key: content[key] for key in encoder_keys}, strict=False)
    assert wrong.unexpected_keys == []
    assert [key for key in wrong.missing_keys if key.startswith(("0.", "1.encoder", "1.custom_src"))] == []
    transformer.output_hidden_states = transformer.encoder.output_hidden_states = True
    normalize = InputNormalization(norm_type="global").eval()
    normalize.glob_mean, normalize.glob_std = normalizer["glob_mean"], normalizer["glob_std"]

    encoder = load(tmp_path, convert(tmp_path, content, normalizer), 3)
    for num_samples in (320, 960, 16000, 48000):
        waveforms = speech(num_samples, batch=2)
        with torch.inference_mode():
            energies = Fbank(n_fft=512, n_mels=80, win_length=32)(torch.from_numpy(waveforms))
            _, expected = transformer.encode(front(normalize(energies, torch.ones(2))), torch.ones(2))
        features = encoder.features(waveforms, [0, 1, 2, 3])
        for layer in range(4):
            np.testing.assert_allclose(features[layer], expected[layer].numpy(), rtol=1e-5, atol=1e-5)
