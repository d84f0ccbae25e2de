"""Every encoder gives the frames of the layer that was asked for, however it is called."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from artifacts.device import computing_in
from artifacts.errors import InputError
from spidr.encoder import write_encoder
from spidr.learner import SpidR
from spidr.model import Encoder as SpidrModel
from spidr.settings import Convolution, ModelSettings
from units.codebook import extract_codebook
from units.encoders import Encoder, describe, load, with_codebook
from units.quantizers import Assigner, Quantizer, load_quantizer
from units.settings import HubEncoder
from units.tokenize import load_for, unit_frames

SIZES = {"hidden_size": 16, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 32}
POST_NORM = {"feat_extract_norm": "group", "do_stable_layer_norm": False}
PRE_NORM = {"feat_extract_norm": "layer", "do_stable_layer_norm": True}


@pytest.fixture(params=[POST_NORM, PRE_NORM], ids=["base", "large"])
def full_model(request: pytest.FixtureRequest, tmp_path: Path) -> HubertModel:
    torch.manual_seed(0)
    positions = {"num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2}
    model = HubertModel(HubertConfig(conv_dim=(8,) * 7, **SIZES, **positions, **request.param)).eval()
    model.save_pretrained(tmp_path / "source")
    return model


@pytest.fixture
def hubert(full_model: HubertModel, tmp_path: Path) -> Path:
    return describe_hubert(tmp_path)


def describe_hubert(tmp_path: Path, standardize: bool = False, layers: tuple[int, ...] = (0, 4)) -> Path:
    settings = HubEncoder(family="hub", source=str(tmp_path / "source"), standardize=standardize, layers=list(layers))
    folder = tmp_path / "hubert"
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(describe(settings)))
    return folder


@pytest.fixture
def spidr(tmp_path: Path) -> Path:
    return write_spidr(tmp_path / "spidr", "same_layer")


def write_spidr(folder: Path, predict_from: str, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    extractor = [Convolution(8, 10, 5), *[Convolution(8, 3, 2)] * 4, *[Convolution(8, 2, 2)] * 2]
    sizes = {"hidden_size": 16, "num_layers": 4, "num_heads": 2, "ffn_size": 32, "position_groups": 2}
    codebooks = {"num_codebooks": 2, "codebook_size": 5, "predict_from": predict_from}
    write_encoder(folder, SpidR(ModelSettings.model_validate({"extractor": extractor, **sizes, **codebooks})), {})
    return folder


def speech(num_samples: int, batch: int = 1) -> np.ndarray:
    return np.random.default_rng(num_samples).normal(0, 0.1, (batch, num_samples)).astype(np.float32)


@torch.inference_mode()
def hidden_states(model: HubertModel, waveforms: np.ndarray) -> tuple[torch.Tensor, ...]:
    states: tuple[torch.Tensor, ...] = model(torch.from_numpy(waveforms), output_hidden_states=True).hidden_states
    return states


def test_layer_k_of_a_truncated_hubert_is_hidden_state_k_of_the_whole(full_model: HubertModel, hubert: Path) -> None:
    waveforms = speech(8000)
    expected = hidden_states(full_model, waveforms)
    for layers in ([0], [1], [2], [0, 3], [1, 2, 4]):
        features = load(hubert, "cpu", layers).features(waveforms, layers)
        assert list(features) == layers
        for layer in layers:
            np.testing.assert_array_equal(features[layer], expected[layer].numpy())


def test_the_last_layer_of_a_pre_norm_hubert_is_raw(full_model: HubertModel, hubert: Path) -> None:
    waveforms = speech(4000)
    last = full_model(torch.from_numpy(waveforms)).last_hidden_state.detach().numpy()
    is_normed = np.allclose(load(hubert, "cpu", [4]).features(waveforms, [4])[4], last, atol=1e-5)
    assert is_normed != full_model.config.do_stable_layer_norm


def test_standardisation_is_mean_0_and_variance_1_of_the_whole_waveform(
    full_model: HubertModel, tmp_path: Path
) -> None:
    waveforms = speech(4000) * 0.01 + 0.3
    standard = (waveforms - waveforms.mean()) / np.sqrt(waveforms.var() + 1e-7)
    features = load(describe_hubert(tmp_path, standardize=True), "cpu", [2]).features(waveforms, [2])[2]
    np.testing.assert_allclose(features, hidden_states(full_model, standard)[2].numpy(), atol=1e-4)


def check_encoder(encoder: Encoder, layers: list[int]) -> None:
    """What holds for every convolutional encoder: frame counts, and no effect of the batch."""
    expected = {399: 0, 400: 1, 719: 1, 720: 2, 16000: 49}
    assert {n: encoder.num_frames(n) for n in expected} == expected
    assert encoder.frame_rate_hz == 50
    for num_samples in (400, 719, 720, 16000):
        together = speech(num_samples, batch=3)
        features = encoder.features(together, layers)
        for layer in layers:
            assert features[layer].shape == (3, expected[num_samples], encoder.dim(layer))
            assert features[layer].dtype == np.float32
            alone = [encoder.features(waveform[None], layers)[layer][0] for waveform in together]
            np.testing.assert_allclose(features[layer], np.stack(alone), atol=1e-5)


def test_a_batch_of_equal_lengths_leaves_the_features_of_hubert_as_they_are(hubert: Path) -> None:
    check_encoder(load(hubert, "cpu", [0, 4]), [0, 4])


def test_a_batch_of_equal_lengths_leaves_the_features_of_spidr_as_they_are(spidr: Path) -> None:
    encoder = load(spidr, "cpu", [0, 4])
    assert encoder.tap == "ffn"
    check_encoder(encoder, [0, 4])


@pytest.mark.parametrize("predict_from", ["same_layer", "last_layer"])
def test_codebook_units_are_the_most_probable_codes_of_the_encoder(tmp_path: Path, predict_from: str) -> None:
    folder = write_spidr(tmp_path / "encoder", predict_from)
    extract_codebook(folder, 3, tmp_path / "codebook")
    quantizer = load_quantizer(tmp_path / "codebook")
    assert (quantizer.kind, quantizer.num_units, quantizer.encoder, quantizer.layer) == ("codebook", 5, "encoder", 3)
    encoder = load_for(folder, [quantizer], "cpu")
    waveforms = speech(6000, batch=2)
    predictions = with_codebook(encoder, folder, [3]).features_and_predictions(waveforms, [], [3])[1][3]
    np.testing.assert_allclose(predictions.sum(-1), 1, atol=1e-5)
    (units,) = unit_frames(encoder, [Assigner(quantizer)], waveforms)
    np.testing.assert_array_equal(units, predictions.argmax(-1))


def test_features_and_codebook_units_come_from_one_forward_pass(spidr: Path, tmp_path: Path) -> None:
    extract_codebook(spidr, 3, tmp_path / "codebook")
    centroids = np.random.default_rng(0).normal(0, 1, (6, 16)).astype(np.float32)
    kmeans = Quantizer(tmp_path / "kmeans", "kmeans", 6, "spidr", 1, 50.0, {"centroids": centroids})
    quantizers = [kmeans, load_quantizer(tmp_path / "codebook")]
    encoder = load_for(spidr, quantizers[1:], "cpu")
    waveforms = speech(6000, batch=2)
    alone = [unit_frames(encoder, [Assigner(quantizer)], waveforms)[0] for quantizer in quantizers]
    passes = 0

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1

    with torch.nn.modules.module.register_module_forward_hook(
        lambda module, *_: count() if type(module) is SpidrModel else None
    ):
        together = unit_frames(encoder, [Assigner(quantizer) for quantizer in quantizers], waveforms)
    assert passes == 1
    np.testing.assert_array_equal(together, alone)


def test_in_bfloat16_features_are_coarser_and_still_float32(spidr: Path, hubert: Path) -> None:
    waveforms = speech(16000)
    for folder in (spidr, hubert):
        encoder = load(folder, "cpu", [3])
        exact = encoder.features(waveforms, [3])[3]
        with computing_in("bfloat16", "cpu"):
            coarse = encoder.features(waveforms, [3])[3]
        assert coarse.dtype == np.float32
        error = np.linalg.norm(coarse - exact) / np.linalg.norm(exact)
        assert 1e-5 < error < 0.05


def test_the_stored_head_applied_to_spidrs_features_gives_its_codebook_units(spidr: Path, tmp_path: Path) -> None:
    extract_codebook(spidr, 4, tmp_path / "codebook")
    quantizer = load_quantizer(tmp_path / "codebook")
    encoder = load_for(spidr, [quantizer], "cpu")
    waveforms = speech(6000)
    logits = encoder.features(waveforms, [4])[4] @ quantizer.tensors["weight"].T + quantizer.tensors["bias"]
    np.testing.assert_array_equal(
        unit_frames(encoder, [Assigner(quantizer)], waveforms)[0], Assigner(quantizer)(logits)
    )


def test_a_codebook_of_another_training_is_refused(spidr: Path, tmp_path: Path) -> None:
    other = write_spidr(tmp_path / "other" / "spidr", "same_layer", seed=1)
    extract_codebook(other, 4, tmp_path / "codebook")
    with pytest.raises(InputError, match=r"codebook: found another head than that of .*spidr"):
        load_for(spidr, [load_quantizer(tmp_path / "codebook")], "cpu")


def test_a_layer_the_encoder_does_not_have_is_refused(hubert: Path, spidr: Path, tmp_path: Path) -> None:
    for folder in (hubert, spidr):
        with pytest.raises(InputError, match="found layer 5, expected 0 to 4"):
            load(folder, "cpu", [1, 5])
    with pytest.raises(InputError, match="found layer 2, expected one that has a codebook: 3, 4"):
        extract_codebook(spidr, 2, tmp_path / "codebook")
    with pytest.raises(InputError, match="found an encoder without codebook"):
        extract_codebook(hubert, 2, tmp_path / "codebook")
    with pytest.raises(InputError, match="layers: found 9, expected 0 to 4"):
        describe_hubert(tmp_path, layers=(1, 9))


def test_weights_that_are_not_all_there_are_refused(full_model: HubertModel, tmp_path: Path) -> None:
    state = {name: t for name, t in full_model.state_dict().items() if "layers.1.feed_forward" not in name}
    full_model.save_pretrained(tmp_path / "source", state_dict=state)
    folder = describe_hubert(tmp_path)
    with pytest.raises(InputError, match=r"found no tensor encoder\.layers\.1\.feed_forward"):
        load(folder, "cpu", [2])
    load(folder, "cpu", [1])
    weights = tmp_path / "source" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"config\.json: source: cannot load .*source"):
        load(folder, "cpu", [1])
    weights.unlink()
    with pytest.raises(InputError, match=r"config\.json: source: cannot load .*source"):
        load(folder, "cpu", [1])


def test_weights_in_the_form_of_the_releases_load(full_model: HubertModel, tmp_path: Path) -> None:
    def released(name: str) -> str:
        name = name.replace("parametrizations.weight.original0", "weight_g")
        return "hubert." + name.replace("parametrizations.weight.original1", "weight_v")

    (tmp_path / "source" / "model.safetensors").unlink()
    state = {released(name): tensor for name, tensor in full_model.state_dict().items()}
    torch.save(state, tmp_path / "source" / "pytorch_model.bin")
    waveforms = speech(4000)
    features = load(describe_hubert(tmp_path), "cpu", [3]).features(waveforms, [3])[3]
    np.testing.assert_array_equal(features, hidden_states(full_model, waveforms)[3].numpy())


def test_a_model_that_is_no_speech_encoder_is_refused(full_model: HubertModel, tmp_path: Path) -> None:
    config = tmp_path / "source" / "config.json"
    config.write_text(config.read_text().replace('"model_type": "hubert"', '"model_type": "bert"'))
    with pytest.raises(InputError, match=r"config\.json: model_type: found 'bert', expected one of hubert, wav2vec2"):
        describe_hubert(tmp_path)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"family": "whisper"}, "family: found 'whisper', expected one of spidr, dinosr, hub, data2vec2, con"),
        ({"family": "phones"}, "family: found 'phones', expected one of"),
        ({"family": "hub", "num_layers": "4"}, "num_layers: found '4', expected int"),
        ([], r"found \[\], expected a JSON object"),
    ],
)
def test_a_folder_that_is_no_encoder_is_refused(tmp_path: Path, config: object, message: str) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=rf"config\.json: {message}"):
        load(tmp_path, "cpu", [1])
