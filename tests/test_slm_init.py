"""A language model of another architecture, or one that has read text."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from artifacts.errors import InputError
from artifacts.settings import parse_settings
from slm.likelihoods import context_of
from slm.model import build_model
from slm.pretrained import fingerprint, load_model, save_model
from slm.settings import ModelSettings, SlmRecipe

LLAMA = {"model_type": "llama", "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4}


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An OPT that has read text, in half precision as OPT-125M is kept."""
    torch.manual_seed(7)
    config = OPTConfig(
        vocab_size=90,
        hidden_size=32,
        word_embed_proj_dim=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        ffn_dim=64,
        max_position_embeddings=40,
        dropout=0.1,
    )
    folder = tmp_path_factory.mktemp("text") / "opt"
    OPTForCausalLM(config).half().save_pretrained(folder)
    return folder


def test_a_model_that_has_read_text_keeps_all_but_its_embeddings(text: Path) -> None:
    model = build_model(ModelSettings(init=str(text), context=30), 52, seed=0)
    read = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32).state_dict()
    embeddings = {"model.decoder.embed_tokens.weight", "lm_head.weight"}
    for name, weights in model.state_dict().items():
        assert weights.dtype == torch.float32
        if name in embeddings:
            assert weights.shape == (52, 16)
            assert not torch.isin(weights[1:], read[name]).any()
        else:
            assert torch.equal(weights, read[name]), name
    assert model.lm_head.weight is model.get_input_embeddings().weight
    assert model.get_input_embeddings().weight[1:].std().item() == pytest.approx(0.02, rel=0.1)
    assert (model.config.vocab_size, model.config.pad_token_id) == (52, 0)
    assert (model.config.bos_token_id, model.config.eos_token_id) == (1, 1)
    assert model.config.max_position_embeddings == 40


def test_new_embeddings_are_drawn_even_where_the_sizes_of_the_vocabularies_agree(text: Path) -> None:
    settings = ModelSettings(init=str(text), context=30)
    read = AutoModelForCausalLM.from_pretrained(text, dtype=torch.float32)
    one, again, other = (build_model(settings, 90, seed).get_input_embeddings().weight for seed in (0, 0, 1))
    assert torch.equal(one, again)
    assert not torch.isin(one[1:], other).any()
    assert not torch.isin(one[1:], read.get_input_embeddings().weight).any()


def test_a_key_of_the_text_model_may_differ(text: Path) -> None:
    model = build_model(ModelSettings(init=str(text), context=30, architecture={"dropout": 0.0}), 52, seed=0)
    assert model.config.dropout == 0.0
    assert model.config.hidden_size == 32


def test_an_untied_head_is_drawn_anew(tmp_path: Path) -> None:
    keys = {key: value for key, value in LLAMA.items() if key != "model_type"}
    LlamaForCausalLM(LlamaConfig(vocab_size=52, max_position_embeddings=64, **keys)).save_pretrained(tmp_path)
    read = load_file(tmp_path / "model.safetensors")
    model = build_model(ModelSettings(init=str(tmp_path), context=30), 52, seed=0)
    state = model.state_dict()
    assert not torch.isin(state["lm_head.weight"], read["lm_head.weight"]).any()
    assert torch.equal(state["model.layers.1.mlp.up_proj.weight"], read["model.layers.1.mlp.up_proj.weight"])


def test_weights_are_told_apart_by_their_files(text: Path, tmp_path: Path) -> None:
    one, other = shutil.copytree(text, tmp_path / "one"), shutil.copytree(text, tmp_path / "other")
    assert fingerprint(str(one)) == fingerprint(str(other))
    assert fingerprint(str(one)).keys() == {"config.json", "model.safetensors"}
    weights = load_file(other / "model.safetensors")
    weights["model.decoder.layers.0.fc1.bias"][3] += 1
    save_file(weights, other / "model.safetensors", {"format": "pt"})
    assert fingerprint(str(one)) != fingerprint(str(other))
    torch.save(weights, other / "pytorch_model.bin")
    (other / "model.safetensors").unlink()
    assert fingerprint(str(other)).keys() == {"config.json", "pytorch_model.bin"}


def test_weights_of_the_hub_are_told_apart_by_their_revision(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "models--somebody--opt"
    (cache / "refs").mkdir(parents=True)
    for module in ("huggingface_hub.constants", "transformers.utils.hub.constants"):
        monkeypatch.setattr(f"{module}.HF_HUB_CACHE", str(tmp_path))
        monkeypatch.setattr(f"{module}.HF_HUB_OFFLINE", True)
    for revision in ("a" * 40, "b" * 40):
        shutil.copytree(text, cache / "snapshots" / revision)
        (cache / "refs" / "main").write_text(revision)
        assert fingerprint("somebody/opt") == {"revision": revision}
    with pytest.raises(InputError, match=r"model.init: nobody/opt: not a language model"):
        fingerprint("nobody/opt")


def test_another_architecture_is_loaded_again_as_it_was(tmp_path: Path) -> None:
    model = build_model(ModelSettings(architecture=LLAMA, context=30), 52, seed=0).eval()
    save_model(model, tmp_path / "model")
    again = load_model(tmp_path / "model")
    inputs = torch.arange(30)[None]
    with torch.no_grad():
        torch.testing.assert_close(again(inputs).logits, model(inputs).logits, rtol=0, atol=1e-5)
    assert again.config.max_position_embeddings == 30


def without_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def without_a_layer(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if "layers.1.fc1" not in name}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def with_a_weight_that_is_no_number(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.decoder.layers.1.fc1.bias"][3] = torch.nan
    save_file(weights, folder / "model.safetensors", {"format": "pt"})


def of_no_causal_model(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}')


def of_code(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "mine", "auto_map": {"AutoConfig": "mine.Mine"}}')


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_weights, "not a language model"),
        (without_a_layer, "found no weights model.decoder.layers.1.fc1.bias, expected all"),
        (with_a_weight_that_is_no_number, "layers.1.fc1.bias: found a weight that is not finite, expected finite"),
        (of_no_causal_model, "Unrecognized configuration class"),
        (of_code, "not a language model"),
        (shutil.rmtree, "no such folder"),
    ],
)
def test_a_folder_that_is_no_text_model_is_one_line(text: Path, tmp_path: Path, spoil: Any, message: str) -> None:
    folder = shutil.copytree(text, tmp_path / "opt")
    spoil(folder)
    with pytest.raises(InputError, match=message) as caught:
        build_model(ModelSettings(init=str(folder), context=30), 52, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"architecture": {**LLAMA, "hidden_sise": 3}}, "unknown key hidden_sise, expected one of LlamaConfig's"),
        ({"architecture": {**LLAMA, "vocab_size": 3}}, "found vocab_size, expected it to follow from the tokens"),
        ({"architecture": {**LLAMA, "hidden_size": "x"}}, "'hidden_size' expected int, got str"),
        ({"architecture": {"model_type": "lama"}}, "Unrecognized model identifier: lama"),
        ({"architecture": {**LLAMA, "max_position_embeddings": 20}}, "found 30, expected at most the model's 20"),
    ],
)
def test_a_wrong_architecture_is_one_line(model: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_model(ModelSettings.model_validate({"context": 30, **model}), 52, seed=0)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"architecture": LLAMA, "dropout": 0.5}, "model: dropout: a number of OPT, expected it in architecture"),
        ({"init": "opt", "num_layers": 3}, "model: num_layers: a number of OPT"),
        ({"architecture": {"hidden_size": 3}}, "architecture: found no model_type, expected one, such as llama"),
    ],
)
def test_two_models_in_one_recipe_are_one_line(model: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_settings(SlmRecipe, {"model": model}, "recipe.yaml")


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({**LLAMA, "model_type": "mistral", "sliding_window": 29}, "sees 29 tokens, the context has 30"),
        ({**LLAMA, "model_type": "mistral", "sliding_window": 30}, None),
        ({**LLAMA, "model_type": "mistral", "sliding_window": None}, None),
        ({**LLAMA, "model_type": "qwen2", "sliding_window": 29}, None),  # which it does not use unless told to
        (
            {**LLAMA, "model_type": "qwen2", "sliding_window": 29, "use_sliding_window": True, "max_window_layers": 1},
            "found an attention with sliding_window, expected plain causal attention: it sees 29 tokens",
        ),
    ],
)
def test_a_window_shorter_than_the_context_is_refused(architecture: dict[str, Any], message: str | None) -> None:
    settings = ModelSettings(context=30, architecture=architecture | {"num_key_value_heads": 4})
    if message is None:
        build_model(settings, 52, seed=0)
    else:
        with pytest.raises(InputError, match=message):
            build_model(settings, 52, seed=0)


def test_nothing_is_scored_at_positions_that_only_text_was_seen_at(text: Path, tmp_path: Path) -> None:
    save_model(build_model(ModelSettings(init=str(text), context=30), 52, seed=0), tmp_path / "model")
    config = load_model(tmp_path / "model").config
    assert (config.max_position_embeddings, context_of(config)) == (40, 30)


def test_the_context_is_at_most_that_of_the_text_model(text: Path) -> None:
    with pytest.raises(InputError, match=r"model.context: found 48, expected at most the model's 40 positions"):
        build_model(ModelSettings(init=str(text), context=48), 52, seed=0)
    with pytest.raises(InputError, match=r"model_type: found llama, expected opt as in"):
        build_model(ModelSettings(init=str(text), context=30, architecture={"model_type": "llama"}), 52, seed=0)
