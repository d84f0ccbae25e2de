"""Models of the hub give the block outputs that their papers define, computed here once more from their tensors."""

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import transformers
from encoder_oracles import linear, norm, speech
from torch import Tensor

from artifacts.device import computing_in
from units.encoders import Encoder, describe, load
from units.settings import HubEncoder

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32, "vocab_size": 7}
SMALL = SIZES | {"conv_dim": (8,) * 7, "num_conv_pos_embedding_groups": 2}
POST_NORM = {"feat_extract_norm": "group", "do_stable_layer_norm": False, "num_conv_pos_embeddings": 8}
PRE_NORM = {
    "feat_extract_norm": "layer",
    "do_stable_layer_norm": True,
    "conv_bias": True,
    "num_conv_pos_embeddings": 7,  # odd: nothing is trimmed
}
POSITIONS = {"num_buckets": 16, "max_bucket_distance": 20}  # all kinds of buckets occur in 49 frames
PREFIX = {"hubert": "hubert", "wav2vec2": "wav2vec2", "wavlm": "wavlm", "data2vec-audio": "data2vec_audio"}


class Case(NamedTuple):
    model_type: str
    options: dict[str, Any]

    def config(self) -> Any:
        positions = POSITIONS if self.model_type == "wavlm" else {}
        return transformers.AutoConfig.for_model(self.model_type, **(SMALL | positions | self.options))


CASES = {
    **{f"{kind}-base": Case(kind, POST_NORM) for kind in ("hubert", "wav2vec2", "wavlm")},
    **{f"{kind}-large": Case(kind, PRE_NORM) for kind in ("hubert", "wav2vec2", "wavlm")},
    "data2vec": Case("data2vec-audio", {"conv_pos_kernel_size": 5}),
    "data2vec-even": Case("data2vec-audio", {"conv_pos_kernel_size": 6}),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


def write_release(folder: Path, case: Case, head: bool = False) -> dict[str, Tensor]:
    """A model with random tensors, in the form of the releases: a pickle, or with a head for recognition.

    Returns:
        The tensors by the names of a release without head.
    """
    torch.manual_seed(0)
    config = case.config()
    model = (transformers.AutoModelForCTC if head else transformers.AutoModel).from_config(config)
    for name, parameter in model.named_parameters():
        # Gains that are not 1, biases that are not 0, and attention that is not uniform.
        scale = 1.5 if "_proj" in name or "rel_attn_embed" in name else 0.3
        with torch.no_grad():
            offset = 1.0 if name.endswith("norm.weight") else 0.0
            parameter.copy_(offset + scale * torch.randn(parameter.shape) / max(1, parameter[0].numel()) ** 0.5)
    parts = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    tensors = {}
    for name, tensor in model.state_dict().items():
        for ours, theirs in parts.items():
            name = name.replace(ours, theirs)
        tensors[name] = tensor.clone()
    if head:
        tensors.pop(f"{PREFIX[case.model_type]}.masked_spec_embed")  # facebook/wav2vec2-base-960h lacks it
    folder.mkdir()
    torch.save(tensors, folder / "pytorch_model.bin")
    config.save_pretrained(folder)
    return {name.removeprefix(f"{PREFIX[case.model_type]}."): tensor.double() for name, tensor in tensors.items()}


def load_release(source: Path, layers: list[int], standardize: bool = False) -> Encoder:
    settings = HubEncoder(family="hub", source=str(source), standardize=standardize, layers=layers)
    folder = source.parent / "encoder"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(describe(settings)))
    return load(folder, "cpu", layers)


# The models once more, from their papers: plain functions of tensors, one utterance, double precision.


def extract(t: dict[str, Tensor], waveform: Tensor, is_grouped: bool) -> Tensor:
    x = waveform[None]  # (channels, samples)
    for i, stride in enumerate((5, 2, 2, 2, 2, 2, 2)):
        layer = f"feature_extractor.conv_layers.{i}"
        x = F.conv1d(x, t[f"{layer}.conv.weight"], t.get(f"{layer}.conv.bias"), stride)
        if not is_grouped:
            x = norm(t, f"{layer}.layer_norm", x.T).T
        elif i == 0:  # as many groups as channels: each is normalised over time
            x = (x - x.mean(1, keepdim=True)) / (x.var(1, keepdim=True, correction=0) + 1e-5).sqrt()
            x = x * t[f"{layer}.layer_norm.weight"][:, None] + t[f"{layer}.layer_norm.bias"][:, None]
        x = F.gelu(x)
    return linear(t, "feature_projection.projection", norm(t, "feature_projection.layer_norm", x.T))


def positions(t: dict[str, Tensor], frames: Tensor) -> Tensor:
    """One weight-normed convolution; data2vec has five, each with a LayerNorm that has no parameters."""
    name, x = "encoder.pos_conv_embed", frames.T
    if f"{name}.conv.weight_g" in t:
        direction = t[f"{name}.conv.weight_v"]
        weight = t[f"{name}.conv.weight_g"] * direction / direction.square().sum((0, 1), keepdim=True).sqrt()
        return F.gelu(same_conv(x, weight, t[f"{name}.conv.bias"])).T
    for i in range(5):
        x = same_conv(x, t[f"{name}.layers.{i}.conv.weight"], t[f"{name}.layers.{i}.conv.bias"])
        x = F.gelu((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt())
    return x.T


def same_conv(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """An even kernel gives one frame too many, the last."""
    groups = len(x) // weight.shape[1]
    return F.conv1d(x, weight, bias, padding=weight.shape[2] // 2, groups=groups)[:, : x.shape[1]]


def bucket(offset: int) -> int:
    """T5's bucket of key minus query: half of them for each sign, of which half are exact and half logarithmic."""
    half = POSITIONS["num_buckets"] // 2
    exact, distance = half // 2, abs(offset)
    if distance >= exact:
        share = math.log(distance / exact) / math.log(POSITIONS["max_bucket_distance"] / exact)
        distance = min(half - 1, exact + int(share * (half - exact)))
    return distance + (half if offset > 0 else 0)


def attention(t: dict[str, Tensor], name: str, x: Tensor, distances: Tensor | None) -> Tensor:
    heads = []
    size = x.shape[1] // SIZES["num_attention_heads"]
    q, k, v = (linear(t, f"{name}.{part}_proj", x) for part in "qkv")
    for head in range(SIZES["num_attention_heads"]):
        mine = slice(head * size, (head + 1) * size)
        scores = q[:, mine] @ k[:, mine].T / size**0.5
        if distances is not None:  # equation 5 to 8 of WavLM: d + g_update d + (1 - g_update) s g_reset d
            gates = torch.sigmoid(linear(t, f"{name}.gru_rel_pos_linear", x[:, mine]).reshape(-1, 2, 4).sum(2))
            update, reset = 1 - gates[:, :1], gates[:, 1:]
            scale = t[f"{name}.gru_rel_pos_const"][0, head]
            d = distances[..., head]
            scores = scores + d + update * d + (1 - update) * scale * reset * d
        heads.append(scores.softmax(1) @ v[:, mine])
    return linear(t, f"{name}.out_proj", torch.cat(heads, 1))


def block_outputs(t: dict[str, Tensor], case: Case, waveform: np.ndarray) -> list[np.ndarray]:
    is_pre_norm = case.options.get("do_stable_layer_norm", False)
    x = extract(t, torch.from_numpy(waveform).double(), case.options.get("feat_extract_norm") == "group")
    x = x + positions(t, x)
    if not is_pre_norm:
        x = norm(t, "encoder.layer_norm", x)
    outputs, distances = [x], None
    if case.model_type == "wavlm":
        frames = range(len(x))
        buckets = torch.tensor([[bucket(key - query) for key in frames] for query in frames])
        distances = t["encoder.layers.0.attention.rel_attn_embed.weight"][buckets]
    for i in range(SIZES["num_hidden_layers"]):
        layer = f"encoder.layers.{i}"

        def feed_forward(y: Tensor, name: str = f"{layer}.feed_forward") -> Tensor:
            return linear(t, f"{name}.output_dense", F.gelu(linear(t, f"{name}.intermediate_dense", y)))

        if is_pre_norm:
            x = x + attention(t, f"{layer}.attention", norm(t, f"{layer}.layer_norm", x), distances)
            x = x + feed_forward(norm(t, f"{layer}.final_layer_norm", x))
        else:
            x = norm(t, f"{layer}.layer_norm", x + attention(t, f"{layer}.attention", x, distances))
            x = norm(t, f"{layer}.final_layer_norm", x + feed_forward(x))
        outputs.append(x)
    return [output.numpy() for output in outputs]


@pytest.mark.parametrize("head", [False, True], ids=["pretrained", "fine-tuned"])
def test_features_are_the_block_outputs_that_the_papers_define(tmp_path: Path, case: Case, head: bool) -> None:
    tensors = write_release(tmp_path / "source", case, head)
    encoder = load_release(tmp_path / "source", [0, 1, 2, 3, 4])
    for num_samples in (400, 3000, 16000):
        (waveform,) = speech(num_samples)
        features = encoder.features(waveform[None], [0, 1, 2, 3, 4])
        for layer, expected in enumerate(block_outputs(tensors, case, waveform)):
            np.testing.assert_allclose(features[layer][0], expected, rtol=1e-5, atol=1e-5)
            assert features[layer].dtype == np.float32


def test_a_standardised_waveform_has_mean_0_and_variance_1(tmp_path: Path, case: Case) -> None:
    tensors = write_release(tmp_path / "source", case)
    (waveform,) = speech(4000)
    standard = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    features = load_release(tmp_path / "source", [3], standardize=True).features(waveform[None], [3])[3][0]
    np.testing.assert_allclose(features, block_outputs(tensors, case, standard)[3], rtol=1e-4, atol=1e-4)


def test_a_truncated_model_has_the_very_same_layers(tmp_path: Path, case: Case) -> None:
    write_release(tmp_path / "source", case)
    waveforms = speech(8000)
    whole = load_release(tmp_path / "source", [0, 1, 2, 3, 4]).features(waveforms, [0, 1, 2, 3, 4])
    for layer in range(4):
        truncated = load_release(tmp_path / "source", [layer]).features(waveforms, [layer])
        np.testing.assert_array_equal(truncated[layer], whole[layer])


def test_a_batch_of_equal_lengths_leaves_the_features_as_they_are(tmp_path: Path, case: Case) -> None:
    write_release(tmp_path / "source", case)
    encoder = load_release(tmp_path / "source", [0, 4])
    frames = {399: 0, 400: 1, 719: 1, 720: 2, 16000: 49, 16079: 49, 16080: 50}
    assert {num_samples: encoder.num_frames(num_samples) for num_samples in frames} == frames
    assert (encoder.frame_rate_hz, encoder.tap, encoder.num_layers, encoder.dim(4)) == (50, "block", 4, 16)
    for num_samples in (400, 719, 720, 16080):
        together = speech(num_samples, batch=3)
        features = encoder.features(together, [0, 4])
        for layer in (0, 4):
            assert features[layer].shape == (3, frames[num_samples], 16)
            alone = [encoder.features(waveform[None], [layer])[layer][0] for waveform in together]
            np.testing.assert_allclose(features[layer], np.stack(alone), rtol=1e-5, atol=1e-5)


def test_the_heads_of_a_pretraining_are_dropped(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = CASES["wav2vec2-large"].config()
    model = transformers.Wav2Vec2ForPreTraining(config).eval()
    model.save_pretrained(tmp_path / "source")
    waveforms = speech(4000)
    with torch.inference_mode():
        expected = model.wav2vec2(torch.from_numpy(waveforms), output_hidden_states=True).hidden_states[3]
    features = load_release(tmp_path / "source", [3]).features(waveforms, [3])[3]
    np.testing.assert_array_equal(features, expected.numpy())


def test_a_release_in_half_precision_gives_full_precision(tmp_path: Path) -> None:
    model = transformers.AutoModel.from_config(CASES["hubert-base"].config()).half()
    model.save_pretrained(tmp_path / "source")
    features = load_release(tmp_path / "source", [1]).features(speech(4000), [1])[1]
    assert features.dtype == np.float32
    assert np.isfinite(features).all()


def test_a_forward_pass_in_bfloat16_gives_float32_of_less_precision(tmp_path: Path, case: Case) -> None:
    write_release(tmp_path / "source", case)
    encoder = load_release(tmp_path / "source", [0, 3])
    waveforms = speech(4000)
    expected = encoder.features(waveforms, [0, 3])
    with computing_in("bfloat16", "cpu"):
        found = encoder.features(waveforms, [0, 3])
    for layer in (0, 3):
        assert found[layer].dtype == np.float32
        error = np.linalg.norm(found[layer] - expected[layer]) / np.linalg.norm(expected[layer])
        assert 1e-4 < error < 0.1


def test_a_whisper_is_read_by_its_encoder(tmp_path: Path) -> None:
    sizes = {"d_model": 12, "encoder_layers": 3, "encoder_attention_heads": 2, "encoder_ffn_dim": 20}
    tokens = {f"{token}_token_id": 1 for token in ("pad", "bos", "eos", "decoder_start")}
    config = transformers.WhisperConfig(**sizes, **tokens, decoder_layers=1, vocab_size=9, decoder_attention_heads=2)
    torch.manual_seed(0)
    model = transformers.WhisperModel(config).eval()
    model.save_pretrained(tmp_path / "source")
    encoder = load_release(tmp_path / "source", [0, 2])
    assert (encoder.frame_rate_hz, encoder.tap, encoder.num_layers, encoder.dim(2)) == (50, "block", 3, 12)
    waveforms = speech(8000)
    prepared = transformers.WhisperFeatureExtractor()(waveforms[0], sampling_rate=16000, return_tensors="pt")
    with torch.inference_mode():
        states = model.encoder(prepared.input_features, output_hidden_states=True).hidden_states
    features = encoder.features(waveforms, [0, 2])
    for layer in (0, 2):
        np.testing.assert_allclose(features[layer], states[layer][:, :25].numpy(), rtol=1e-5, atol=1e-5)
