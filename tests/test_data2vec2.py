"""data2vec 2.0 and EH-MAM from files in their form give the block outputs, computed here once more from the tensors."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from encoder_oracles import speech
from safetensors.torch import save_file
from torch import Tensor

from artifacts.errors import InputError
from units.data2vec2 import Data2Vec2, from_released

AUDIO = "modality_encoders.AUDIO"
SLOPES = {  # of ALiBi, written out
    2: [1 / 16, 1 / 256],
    3: [1 / 16, 1 / 256, 1 / 4],
    4: [1 / 4, 1 / 16, 1 / 64, 1 / 256],
    12: [2.0**-k for k in (1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5)],
    16: [2.0 ** -(k / 2) for k in range(1, 17)],
}


class Form(NamedTuple):
    """Sizes of a model, and how its blocks are split into two lists."""

    split: tuple[int, int]
    dim: int
    heads: int
    channels: int = 8
    groups: int = 2

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Every tensor of a released file that is of the encoder."""
        dim, channels = self.dim, self.channels
        shapes: dict[str, tuple[int, ...]] = {}
        for i, kernel in enumerate((10, 3, 3, 3, 3, 2, 2)):
            shapes[f"{AUDIO}.local_encoder.conv_layers.{i}.0.weight"] = (channels, channels if i else 1, kernel)
            shapes |= both(f"{AUDIO}.local_encoder.conv_layers.{i}.2.1", channels)
        shapes |= both(f"{AUDIO}.project_features.1", channels)
        shapes |= both(f"{AUDIO}.project_features.2", dim, channels)
        for i in range(1, 6):
            shapes |= both(f"{AUDIO}.relative_positional_encoder.{i}.0", dim, dim // self.groups, 19)
        shapes |= both(f"{AUDIO}.context_encoder.norm", dim)
        shapes[f"{AUDIO}.alibi_scale"] = (1, 1, self.heads, 1, 1)
        for name in self.blocks():
            shapes |= both(f"{name}.norm1", dim) | both(f"{name}.norm2", dim)
            shapes |= both(f"{name}.attn.qkv", 3 * dim, dim) | both(f"{name}.attn.proj", dim, dim)
            shapes |= both(f"{name}.mlp.fc1", 4 * dim, dim) | both(f"{name}.mlp.fc2", dim, 4 * dim)
        return shapes

    def blocks(self) -> list[str]:
        first, second = self.split
        names = [f"{AUDIO}.context_encoder.blocks.{i}" for i in range(first)]
        return names + [f"blocks.{i}" for i in range(second)]


def both(name: str, *shape: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": shape, f"{name}.bias": shape[:1]}


FORMS = {"one-list": Form((0, 4), 16, 4), "two-lists": Form((1, 3), 24, 3), "even-split": Form((2, 2), 12, 2)}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Form:
    return FORMS[request.param]


def make_release(form: Form) -> dict[str, Any]:
    """What a checkpoint holds, with random tensors."""
    generator = torch.Generator().manual_seed(0)
    model: dict[str, Any] = {}
    for name, shape in form.shapes().items():
        noise = torch.randn(shape, generator=generator)
        is_gain = noise.ndim == 1 and name.endswith("weight")
        model[name] = 1 + 0.3 * noise if is_gain else 1.5 * noise / max(1, noise[0].numel()) ** 0.5
    scale = 0.5 + torch.rand(form.heads, generator=generator)
    scale[-1] = -1  # counts as 0
    model[f"{AUDIO}.alibi_scale"] = scale.reshape(1, 1, -1, 1, 1)
    # What pretraining needed besides.
    model["_ema"] = {"blocks.0.norm1.weight": torch.zeros(3)}
    model[f"{AUDIO}.decoder.blocks.0.0.weight"] = torch.zeros(3)
    model[f"{AUDIO}.decoder_pred.proj.0.weight"] = torch.zeros(3)
    return {"model": model, "cfg": object(), "args": None}


def convert(folder: Path, content: Any) -> dict[str, Any]:
    """Make an encoder folder; returns its config.json as it is read."""
    config, tensors = from_released(content, folder / "base_libri.pt")
    save_file(tensors, folder / "model.safetensors")
    read: dict[str, Any] = json.loads(json.dumps(config))
    return read


def load(folder: Path, config: dict[str, Any], highest_layer: int) -> Data2Vec2:
    return Data2Vec2(folder, config, torch.device("cpu"), highest_layer)


# The model once more, from the description of its forward pass: one utterance, double precision.


def norm(x: Tensor, gain: Tensor | float = 1.0, bias: Tensor | float = 0.0) -> Tensor:
    centred = x - x.mean(-1, keepdim=True)
    return centred / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt() * gain + bias


def block_outputs(model: dict[str, Any], form: Form, waveform: np.ndarray) -> list[np.ndarray]:
    t = {name: tensor.double() for name, tensor in model.items() if isinstance(tensor, Tensor)}

    def normed(name: str, x: Tensor) -> Tensor:
        return norm(x, t[f"{name}.weight"], t[f"{name}.bias"])

    def linear(name: str, x: Tensor) -> Tensor:
        return x @ t[f"{name}.weight"].T + t[f"{name}.bias"]

    x = norm(torch.from_numpy(waveform).double())[None]  # (channels, samples)
    for i, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        layer = f"{AUDIO}.local_encoder.conv_layers.{i}"
        x = F.gelu(normed(f"{layer}.2.1", F.conv1d(x, t[f"{layer}.0.weight"], stride=stride).T).T)
    x = linear(f"{AUDIO}.project_features.2", normed(f"{AUDIO}.project_features.1", x.T))  # (frames, dim)

    positions = x.T
    for i in range(1, 6):
        name = f"{AUDIO}.relative_positional_encoder.{i}.0"
        weight, bias = t[f"{name}.weight"], t[f"{name}.bias"]
        positions = F.gelu(norm(F.conv1d(positions, weight, bias, padding=9, groups=form.groups).T).T)
    x = normed(f"{AUDIO}.context_encoder.norm", x + positions.T)

    outputs = [x.numpy()]
    size = form.dim // form.heads
    places = torch.arange(len(x))
    scales = t[f"{AUDIO}.alibi_scale"].flatten().tolist()
    for name in form.blocks():
        q, k, v = linear(f"{name}.attn.qkv", x).split(form.dim, dim=1)
        heads = []
        for head in range(form.heads):
            mine = slice(head * size, (head + 1) * size)
            distance = (places[:, None] - places[None]).abs()
            scores = q[:, mine] @ k[:, mine].T / size**0.5 - distance * SLOPES[form.heads][head] * max(scales[head], 0)
            heads.append(scores.softmax(1) @ v[:, mine])
        r = normed(f"{name}.norm1", x + linear(f"{name}.attn.proj", torch.cat(heads, 1)))
        feed_forward = linear(f"{name}.mlp.fc2", F.gelu(linear(f"{name}.mlp.fc1", r)))
        x = normed(f"{name}.norm2", r + feed_forward)
        outputs.append(x.numpy())
    return outputs


def test_features_are_the_block_outputs(tmp_path: Path, form: Form) -> None:
    content = make_release(form)
    encoder = load(tmp_path, convert(tmp_path, content), 4)
    for num_samples in (400, 3000, 16000):
        (waveform,) = speech(num_samples)
        features = encoder.features(waveform[None], [0, 1, 2, 3, 4])
        for layer, expected in enumerate(block_outputs(content["model"], form, waveform)):
            np.testing.assert_allclose(features[layer][0], expected, rtol=1e-5, atol=1e-5)
            assert features[layer].dtype == np.float32


def test_a_model_of_which_less_is_loaded_has_the_very_same_layers(tmp_path: Path, form: Form) -> None:
    config = convert(tmp_path, make_release(form))
    whole = load(tmp_path, config, 4).features(speech(8000), [0, 1, 2, 3, 4])
    for layer in range(4):
        encoder = load(tmp_path, config, layer)
        np.testing.assert_array_equal(encoder.features(speech(8000), [layer])[layer], whole[layer])
        assert encoder.num_layers == 4


def test_a_batch_of_equal_lengths_leaves_the_features_as_they_are(tmp_path: Path, form: Form) -> None:
    encoder = load(tmp_path, convert(tmp_path, make_release(form)), 4)
    frames = {399: 0, 400: 1, 719: 1, 720: 2, 16000: 49, 16079: 49, 16080: 50}
    assert {num_samples: encoder.num_frames(num_samples) for num_samples in frames} == frames
    assert (encoder.frame_rate_hz, encoder.tap, encoder.dim(4), encoder.batch_samples) == (50, "block", form.dim, 0)
    for num_samples in (400, 719, 720, 16079, 16080):
        together = speech(num_samples, batch=3)
        features = encoder.features(together, [0, 4])
        for layer in (0, 4):
            assert features[layer].shape == (3, frames[num_samples], form.dim)
            alone = [encoder.features(waveform[None], [layer])[layer][0] for waveform in together]
            np.testing.assert_allclose(features[layer], np.stack(alone), rtol=1e-5, atol=1e-5)


def test_how_loud_speech_is_makes_no_difference(tmp_path: Path) -> None:
    encoder = load(tmp_path, convert(tmp_path, make_release(FORMS["one-list"])), 4)
    waveforms = speech(4000)
    louder = encoder.features(4 * waveforms + 0.5, [4])[4]
    np.testing.assert_allclose(louder, encoder.features(waveforms, [4])[4], rtol=0.02, atol=0.02)


BASE = Form((0, 12), 768, 12, channels=512, groups=16)
LARGE = Form((8, 16), 1024, 16, channels=512, groups=16)


@pytest.mark.parametrize(
    ("form", "num_parameters"),
    [(BASE, 93_163_532), (BASE._replace(split=(4, 8)), 93_163_532), (LARGE, 313_275_408)],
    ids=["base", "eh-mam", "large"],
)
def test_the_released_sizes_have_the_published_number_of_parameters(form: Form, num_parameters: int) -> None:
    content = {"model": {name: torch.empty(shape, device="meta") for name, shape in form.shapes().items()}}
    config, tensors = from_released(content, Path("large_vox.pt"))
    assert sum(tensor.numel() for tensor in tensors.values()) == num_parameters
    model = config.pop("model")
    assert config == {
        "family": "data2vec2",
        "frame_rate_hz": 50.0,
        "tap": "block",
        "num_layers": sum(form.split),
        "standardize": True,
    }
    convolutions = [[512, 10, 5], *[[512, 3, 2]] * 4, *[[512, 2, 2]] * 2]
    assert [list(layer) for layer in model.pop("extractor")] == convolutions
    assert model == {
        "hidden_size": form.dim,
        "num_heads": form.heads,
        "ffn_size": 4 * form.dim,
        "position_layers": 5,
        "position_kernel": 19,
        "position_groups": 16,
    }


@pytest.mark.parametrize("heads", [12, 16])
def test_slopes_of_the_released_numbers_of_heads(tmp_path: Path, heads: int) -> None:
    form = Form((0, 1), 2 * heads, heads)
    content = make_release(form)
    features = load(tmp_path, convert(tmp_path, content), 1).features(speech(6000), [1])[1]
    expected = block_outputs(content["model"], form, speech(6000)[0])[1]
    np.testing.assert_allclose(features[0], expected, rtol=1e-5, atol=1e-5)


def test_a_release_in_half_precision_gives_full_precision(tmp_path: Path) -> None:
    content = make_release(FORMS["one-list"])
    model = {name: t.half() if isinstance(t, Tensor) else t for name, t in content["model"].items()}
    encoder = load(tmp_path, convert(tmp_path, {"model": model}), 1)
    expected = block_outputs(model, FORMS["one-list"], speech(4000)[0])[1]
    np.testing.assert_allclose(encoder.features(speech(4000), [1])[1][0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("blocks.2.mlp.fc2.bias", None, "found no tensor blocks.2.mlp.fc2.bias, expected one of shape (24,)"),
        (f"{AUDIO}.alibi_scale", None, f"found no tensor {AUDIO}.alibi_scale, expected one of 5 dimensions"),
        ("blocks.0.gamma", torch.zeros(2), "found a tensor blocks.0.gamma, expected none of this name"),
        (
            "blocks.1.norm1.weight",
            torch.zeros(7),
            "blocks.1.norm1.weight: found float32 of shape (7,), expected shape (24,)",
        ),
        ("blocks.0.norm1.weight", "text", "blocks.0.norm1.weight: found str, expected a tensor of floats"),
        (
            f"{AUDIO}.alibi_scale",
            torch.ones(1, 1, 5, 1, 1),
            f"{AUDIO}.alibi_scale: found 5 heads, expected a divisor of the width 24",
        ),
        (
            f"{AUDIO}.alibi_scale",
            torch.ones(4, 1, 3, 1, 1),
            f"{AUDIO}.alibi_scale: found float32 of shape (4, 1, 3, 1, 1), expected shape (1, 1, 3, 1, 1)",
        ),
        (
            f"{AUDIO}.relative_positional_encoder.1.0.weight",
            torch.ones(24, 12, 18),
            f"{AUDIO}.relative_positional_encoder.1.0.weight: found kernel 18, expected an odd one",
        ),
        (
            f"{AUDIO}.local_encoder.conv_layers.6.0.weight",
            torch.ones(8, 8, 4),
            "found an extractor with kernels [10, 3, 3, 3, 3, 2, 4], expected [10, 3, 3, 3, 3, 2, 2]",
        ),
    ],
)
def test_a_file_that_is_not_right_is_one_line(tmp_path: Path, name: str, value: Any, message: str) -> None:
    content = make_release(FORMS["two-lists"])
    content["model"].pop(name, None)
    if value is not None:
        content["model"][name] = value
    with pytest.raises(InputError) as error:
        from_released(content, Path("base_libri.pt"))
    assert str(error.value) == f"base_libri.pt: {message}"


@pytest.mark.parametrize("content", [None, [1], {"state_dict": {}}, {"model": 3}])
def test_another_content_is_one_line(content: Any) -> None:
    with pytest.raises(InputError, match=r"^x\.pt: model: found \w+, expected a dictionary of tensors$"):
        from_released(content, Path("x.pt"))
    with pytest.raises(InputError, match=r"^x\.pt: found no tensor .*conv_layers\.0\.0\.weight"):
        from_released({"model": {}}, Path("x.pt"))


def test_a_folder_that_is_not_right_is_one_line(tmp_path: Path) -> None:
    config = convert(tmp_path, make_release(FORMS["two-lists"]))
    path = tmp_path / "model.safetensors"
    with pytest.raises(InputError, match=r"config\.json: model: .*hidden_size"):
        load(tmp_path, {**config, "model": {**config["model"], "hidden_size": None}}, 1)
    with pytest.raises(InputError, match=r"model\.safetensors: .*mlp\.fc1\.\w+: found .*, expected .* of shape"):
        load(tmp_path, {**config, "model": {**config["model"], "ffn_size": 95}}, 1)
    with pytest.raises(InputError, match=r"model\.safetensors: found no tensor blocks\.4\.\w+"):
        load(tmp_path, config, 5)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"model\.safetensors: not a whole safetensors file"):
        load(tmp_path, config, 1)
    path.unlink()
    with pytest.raises(InputError, match=r"model\.safetensors: no such file"):
        load(tmp_path, config, 1)
