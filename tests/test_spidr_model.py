"""The encoder: its size, its shapes, where its features are tapped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from artifacts.errors import InputError
from artifacts.settings import load_settings, parse_settings
from spidr.convolution import _convolve_one, convolve, convolve_groups
from spidr.encoder import PretrainedEncoder, load_encoder, write_encoder
from spidr.learner import SpidR, build_learner
from spidr.model import Encoder
from spidr.settings import Convolution, ModelSettings, Recipe

RECIPES = Path(__file__).parent.parent / "config" / "spidr"

SMALL = ModelSettings(
    extractor=(Convolution(16, 10, 5), Convolution(16, 8, 8), Convolution(16, 8, 8)),
    hidden_size=32,
    num_layers=4,
    num_heads=2,
    ffn_size=48,
    position_layers=2,
    position_kernel=10,
    position_groups=4,
    num_codebooks=3,
    codebook_size=7,
)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def waveforms(rows: int = 2, num_samples: int = 6400, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, num_samples, generator=torch.Generator().manual_seed(seed))


def test_the_defaults_are_the_released_model() -> None:
    with torch.device("meta"):
        learner = SpidR(ModelSettings())
    assert size(learner.student) == 93_135_872
    assert size(learner.heads) == 1_574_912
    assert size(learner) == 183_245_824  # with the mask embedding and the teacher


def test_the_base_recipe_is_the_defaults() -> None:
    assert load_settings(Recipe, str(RECIPES / "base.yaml")) == Recipe()


@pytest.mark.parametrize("name", sorted(path.name for path in RECIPES.glob("*.yaml")))
def test_recipes_are_valid(name: str) -> None:
    recipe = load_settings(Recipe, str(RECIPES / name))
    assert recipe.model.frame_rate_hz == 50
    assert (recipe.model.predict_from == "last_layer") == ("dinosr" in name and "heads" not in name)


def test_the_rows_of_table_8_are_recipes_of_the_same_code() -> None:
    """DinoSR, + Heads, + Exp. EMA, both: nothing else differs."""
    rows = [f"{name}.yaml" for name in ("dinosr-base", "dinosr-heads-base", "dinosr-exp-ema-base", "base")]
    recipes = [load_settings(Recipe, str(RECIPES / name)) for name in rows]
    changed = [(recipe.model.predict_from, recipe.teacher.schedule) for recipe in recipes]
    assert changed == [
        ("last_layer", "linear"), ("same_layer", "linear"), ("last_layer", "exponential"), ("same_layer", "exponential")
    ]  # fmt: skip
    spidr = recipes[-1]
    for recipe in recipes:
        model = recipe.model.model_copy(update={"predict_from": "same_layer"})
        assert recipe.model_copy(update={"model": model, "teacher": spidr.teacher}) == spidr


def test_original_dinosr_has_query_key_and_value_biases() -> None:
    with torch.device("meta"):
        assert size(Encoder(ModelSettings(qkv_bias=True))) == 93_163_520


@pytest.mark.parametrize(
    ("num_samples", "num_frames"), [(399, 0), (400, 1), (719, 1), (720, 2), (16000, 49), (16080, 50), (160000, 499)]
)
def test_base_makes_50_frames_a_second(num_samples: int, num_frames: int) -> None:
    settings = ModelSettings()
    assert (settings.receptive_field, settings.hop, settings.frame_rate_hz) == (400, 320, 50)
    assert settings.num_frames(num_samples) == num_frames


@pytest.mark.parametrize("num_samples", [SMALL.receptive_field, SMALL.receptive_field + SMALL.hop, 5000])
def test_the_extractor_makes_as_many_frames_as_the_settings_say(num_samples: int) -> None:
    assert Encoder(SMALL).frames(waveforms(1, num_samples)).shape == (1, SMALL.num_frames(num_samples), 32)


@pytest.mark.parametrize(
    "conv",
    [nn.Conv1d(8, 12, kernel, stride, bias=False) for kernel, stride in ((3, 2), (2, 2), (4, 2), (7, 2), (3, 1))]
    + [nn.Conv1d(1, 12, 7, stride=3, bias=False)],
    ids=lambda conv: f"{conv.in_channels} channels, kernel {conv.kernel_size[0]}, stride {conv.stride[0]}",
)
@pytest.mark.parametrize("num_samples", [8, 49, 50])
def test_convolutions_as_products_are_convolutions(conv: nn.Conv1d, num_samples: int) -> None:
    signal = torch.randn(2, num_samples, conv.in_channels, requires_grad=True)
    expected = conv(signal.transpose(1, 2)).transpose(1, 2)
    found = convolve(signal, conv.weight, conv.stride[0])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn_like(expected)
    of = [signal, conv.weight]
    for gradient, wanted in zip(
        torch.autograd.grad(found, of, weights), torch.autograd.grad(expected, of, weights), strict=True
    ):
        torch.testing.assert_close(gradient, wanted, atol=1e-4, rtol=1e-5)


def test_taps_of_zero_change_nothing() -> None:
    signal, weight = torch.randn(2, 1234), torch.randn(16, 10)
    found, expected = (_convolve_one(signal, weight, 5, aligned) for aligned in (8, 1))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kernel", [1, 3, 19])
@pytest.mark.parametrize("num_frames", [1, 18, 35, 50])
def test_convolutions_in_groups_as_products_are_convolutions(kernel: int, num_frames: int) -> None:
    frames = torch.randn(3, num_frames, 24, requires_grad=True)
    weight = torch.randn(24, 6, kernel, requires_grad=True)
    expected = functional.conv1d(frames.transpose(1, 2), weight, padding=kernel // 2, groups=4).transpose(1, 2)
    found = convolve_groups(frames, weight, 4)
    gradient = torch.randn_like(expected)
    given = zip(
        (found, *torch.autograd.grad(found, (frames, weight), gradient)),
        (expected, *torch.autograd.grad(expected, (frames, weight), gradient)),
        strict=True,
    )
    for mine, wanted in given:
        assert (mine - wanted).abs().max() <= 1e-6 * wanted.abs().max()


def test_samples_that_no_frame_sees_change_nothing_but_the_standardisation() -> None:
    encoder = Encoder(SMALL)
    whole = functional.layer_norm(waveforms(2, 6777), (6777,))
    expected = encoder.projection(encoder.extractor(whole))
    torch.testing.assert_close(encoder.frames(waveforms(2, 6777)), expected, atol=1e-6, rtol=1e-6)


def test_a_positional_convolution_is_one_with_padding_groups_and_a_norm_over_channels() -> None:
    positions = Encoder(SMALL).transformer.positions[0]
    frames = torch.randn(2, 50, 32)
    convolved = positions.conv(frames.transpose(1, 2)).transpose(1, 2)
    expected = functional.gelu(functional.layer_norm(convolved, (32,)))
    torch.testing.assert_close(positions(frames), expected, atol=1e-5, rtol=1e-5)


def test_loudness_and_offset_of_a_recording_do_not_matter() -> None:
    encoder = Encoder(SMALL).eval()
    torch.testing.assert_close(encoder.frames(waveforms()), encoder.frames(waveforms() * 0.1 + 0.3), atol=1e-3, rtol=0)


def test_a_block_is_post_norm_and_its_ffn_output_comes_before_residual_and_norm() -> None:
    encoder = Encoder(SMALL).eval()
    outputs = encoder(waveforms())
    block = encoder.transformer.layers[1]
    before = outputs[1].block
    attended = functional.layer_norm(
        before + block.attention(before), (32,), block.attention_layer_norm.weight, block.attention_layer_norm.bias
    )
    feed_forward = block.feed_forward
    ffn = feed_forward.fc2(functional.gelu(feed_forward.fc1(attended)))
    torch.testing.assert_close(outputs[2].ffn, ffn)
    torch.testing.assert_close(outputs[2].block, block.final_layer_norm(attended + ffn))


def test_attention_is_the_softmax_of_scaled_products() -> None:
    attention = Encoder(SMALL).eval().transformer.layers[0].attention
    frames = torch.randn(1, 9, 32)
    query, key, value = (part.view(9, 2, 16) for part in attention.qkv_proj(frames)[0].split(32, dim=-1))
    attended = torch.stack(
        [((query[:, h] @ key[:, h].T) / 4).softmax(-1) @ value[:, h] for h in range(2)], dim=1
    ).reshape(1, 9, 32)
    torch.testing.assert_close(attention(frames), attention.out_proj(attended), atol=1e-5, rtol=1e-5)


def test_layers_above_the_wanted_one_are_not_computed() -> None:
    encoder = Encoder(SMALL).eval()
    whole = encoder(waveforms())
    for layer in encoder.transformer.layers[2:]:
        layer.forward = pytest.fail
    truncated = encoder(waveforms(), num_layers=2)
    assert len(truncated) == 3
    for output, expected in zip(truncated, whole, strict=False):
        assert torch.equal(output.ffn, expected.ffn)
        assert torch.equal(output.block, expected.block)


def test_rows_of_a_batch_do_not_see_each_other() -> None:
    encoder = Encoder(SMALL).eval()
    together = encoder(waveforms(3))[4].ffn
    for row in range(3):
        torch.testing.assert_close(together[row : row + 1], encoder(waveforms(3)[row : row + 1])[4].ffn)


def pretrained(predict_from: str = "same_layer") -> PretrainedEncoder:
    learner = build_learner(SMALL.model_copy(update={"predict_from": predict_from}), 0)
    return PretrainedEncoder(learner.settings, learner.student, learner.heads)


def test_features_are_the_ffn_outputs_and_layer_0_is_the_input_of_the_first_block() -> None:
    encoder = pretrained()
    outputs = build_learner(SMALL, 0).eval().student(waveforms())
    features = encoder.features(waveforms(), [0, 2, 4])
    assert list(features) == [0, 2, 4]
    assert torch.equal(features[0], outputs[0].block)
    assert torch.equal(features[4], outputs[4].ffn)


@pytest.mark.parametrize("predict_from", ["same_layer", "last_layer"])
def test_spidrs_heads_read_their_own_layer_and_dinosrs_the_last_block(predict_from: str) -> None:
    encoder = pretrained(predict_from)
    outputs = build_learner(SMALL, 0).eval().student(waveforms())
    for layer, probabilities in encoder.predictions(waveforms(), [2, 3]).items():
        weight, bias = encoder.head_parameters(layer)
        assert weight.shape == (7, 32)
        read = outputs[layer].ffn if predict_from == "same_layer" else outputs[4].block
        torch.testing.assert_close(probabilities, (read @ weight.T + bias).softmax(-1))


def test_an_encoder_folder_gives_back_what_was_written(tmp_path: Path) -> None:
    learner = build_learner(SMALL, 3)
    write_encoder(tmp_path, learner, {})
    encoder = load_encoder(tmp_path, torch.device("cpu"))
    assert (encoder.num_layers, encoder.hidden_size, encoder.frame_rate_hz) == (4, 32, 50)
    assert (encoder.codebook_layers, encoder.codebook_size) == ([2, 3, 4], 7)
    expected = learner.eval().student(waveforms())[3].ffn
    assert torch.equal(encoder.features(waveforms(), [3])[3], expected)


def test_damaged_encoder_folders_are_refused_in_one_line(tmp_path: Path) -> None:
    device = torch.device("cpu")
    with pytest.raises(InputError, match=r"config.json: no such file"):
        load_encoder(tmp_path, device)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config.json: .*object"):
        load_encoder(tmp_path, device)
    write_encoder(tmp_path, build_learner(SMALL, 3), {})
    weights = tmp_path / "model.safetensors"
    content = weights.read_bytes()
    write_encoder(tmp_path, build_learner(SMALL.model_copy(update={"hidden_size": 16}), 3), {})
    weights.write_bytes(content)
    with pytest.raises(InputError, match=r"model.safetensors: does not fit config.json"):
        load_encoder(tmp_path, device)
    weights.write_bytes(content[:1000])
    with pytest.raises(InputError, match=r"model.safetensors: not a whole safetensors file"):
        load_encoder(tmp_path, device)
    weights.unlink()
    with pytest.raises(InputError, match=r"model.safetensors: no such file"):
        load_encoder(tmp_path, device)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        ({"model": {"num_heads": 7}}, "model: num_heads: found 7, expected a divisor of hidden_size 768"),
        ({"model": {"num_codebooks": 13}}, "model: num_codebooks: found 13, expected at most num_layers 12"),
        ({"model": {"position_kernel": 90}}, "model: position_kernel: found 90 over 5 layers, expected an odd kernel"),
        ({"model": {"extractor": [[8, 10, 7]]}}, "model: extractor: found a hop of 7 samples, expected a divisor"),
        ({"model": {"extractor": [[8, 20, 32], [8, 10, 10]]}}, "found a kernel of 20, expected at least its stride 32"),
        ({"batches": {"max_samples": 1000}}, "batches: max_samples: found 1000, expected more than min_samples 2000"),
        ({"batches": {"min_samples": 300}}, "batches.min_samples: found 300, expected at least the extractor's"),
        ({"teacher": {"schedule": "linear", "timescale": 5}}, "teacher.timescale: unknown key"),
        ({"optimizer": {"learning_rate": 0}}, "optimizer.learning_rate: found 0, expected greater than 0"),
    ],
)
def test_a_wrong_recipe_is_refused_in_one_line(recipe: dict[str, object], message: str) -> None:
    with pytest.raises(InputError) as error:
        parse_settings(Recipe, recipe, "recipe.yaml")
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_the_weights_follow_from_the_seed_alone() -> None:
    torch.manual_seed(5)
    first = build_learner(SMALL, 0).state_dict()
    np.random.default_rng()
    torch.manual_seed(6)
    for name, tensor in build_learner(SMALL, 0).state_dict().items():
        assert torch.equal(tensor, first[name])
    assert not torch.equal(build_learner(SMALL, 1).heads.weight, first["heads.weight"])
