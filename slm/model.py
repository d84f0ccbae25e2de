"""The language model: OPT (Zhang et al., 2022), any causal model of transformers, or one that has read text (TWIST).

Whatever its architecture, the vocabulary is that of the tokens, and packed documents have the logits that
each has alone: where they have not, the model is refused. transformers' modules are imported by their full
names, which is faster than through its front door.
"""

from dataclasses import fields

import torch
from transformers.configuration_utils import PreTrainedConfig
from transformers.modeling_utils import PreTrainedModel
from transformers.models.auto.configuration_auto import AutoConfig
from transformers.models.auto.modeling_auto import AutoModelForCausalLM
from transformers.models.opt.configuration_opt import OPTConfig

from artifacts.errors import InputError
from artifacts.seeds import seed_for
from slm import attention
from slm.attention import lay_out_rows
from slm.likelihoods import TRAINED_CONTEXT
from slm.pretrained import BROKEN, one_line, read_text_configuration, read_text_model
from slm.settings import ModelSettings
from slm.store import BOS, EOS, PAD

POSITIONS = "max_position_embeddings"
"""How transformers calls the longest input, whatever a model's own name for it is."""

FROM_TOKENS = {"vocab_size", "pad_token_id", "bos_token_id", "eos_token_id"}
"""Keys of a configuration that are not a recipe's to give."""

EXACT = 1e-4
"""Largest difference of a packed logit from that of the document alone, as a share of the largest logit."""

WINDOWS = {"sliding_window": "sliding_attention", "attention_chunk_size": "chunked_attention"}
"""How configurations call an attention to the nearest tokens alone: the key with their number, the type of layer."""


def build_model(settings: ModelSettings, vocab_size: int, seed: int) -> PreTrainedModel:
    """A causal model for packed batches, its random weights drawn from the seed.

    Raises:
        InputError: The settings describe no causal model, one whose packed documents would not be as if
            alone, or the weights to start from cannot be read.
    """
    config = configuration(settings)
    config.vocab_size = vocab_size
    config.pad_token_id, config.bos_token_id, config.eos_token_id = PAD, BOS, EOS
    setattr(config, TRAINED_CONTEXT, settings.context)
    _require_positions(config, settings)
    _require_no_window(config, settings.context)
    torch.manual_seed(seed_for(seed, "weights"))
    try:
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    except BROKEN as error:
        raise InputError(f"model: {one_line(error)}") from None
    if settings.init is not None:
        _take_weights(model, settings.init)
    if not isinstance(config, OPTConfig):
        require_exact(model)
    model.set_attn_implementation(attention.NAME)
    return model


def configuration(settings: ModelSettings) -> PreTrainedConfig:
    """The network in transformers' terms, but for its vocabulary.

    Raises:
        InputError: There is no such model, or it has no such key.
    """
    if settings.init is None and settings.architecture is None:
        return OPTConfig(
            hidden_size=settings.hidden_size,
            word_embed_proj_dim=settings.hidden_size,
            num_hidden_layers=settings.num_layers,
            num_attention_heads=settings.num_heads,
            ffn_dim=settings.ffn_size,
            max_position_embeddings=settings.context,
            dropout=settings.dropout,
            attention_dropout=settings.attention_dropout,
            init_std=settings.init_std,
        )
    given = dict(settings.architecture or {})
    model_type, text = given.pop("model_type", None), None
    if settings.init is not None:
        text = read_text_configuration(settings.init)
        if model_type not in (None, text.model_type):
            raise InputError(
                f"model.architecture.model_type: found {model_type}, expected {text.model_type} as in {settings.init}"
            )
    try:
        kind = type(AutoConfig.for_model(model_type) if text is None else text)
        names = {field.name for field in fields(kind)}
        alias = kind.attribute_map.get(POSITIONS, POSITIONS)
        for key in given:
            if key in FROM_TOKENS:
                raise InputError(f"model.architecture: found {key}, expected it to follow from the tokens")
            if key not in names | kind.attribute_map.keys():
                raise InputError(f"model.architecture: unknown key {key}, expected one of {kind.__name__}'s")
        if text is not None:
            return kind.from_dict(text.to_dict() | given)
        if alias in names:
            given = {alias: settings.context} | given
        return kind(**given)
    except BROKEN as error:
        raise InputError(f"model.architecture: {one_line(error)}") from None


def _require_positions(config: PreTrainedConfig, settings: ModelSettings) -> None:
    """Check that the context is no longer than the model's."""
    positions = getattr(config, POSITIONS, None)  # some have no bound
    if positions is not None and positions < settings.context:
        raise InputError(f"model.context: found {settings.context}, expected at most the model's {positions} positions")


def _require_no_window(config: PreTrainedConfig, context: int) -> None:
    """Check that in no layer a token sees fewer of those before it than the context has."""
    types = getattr(config, "layer_types", None)
    for key, kind in WINDOWS.items():
        width = getattr(config, key, None)
        if width is not None and width < context and (types is None or kind in types):
            raise InputError(
                f"model: found an attention with {key}, expected plain causal attention: it sees {width} tokens, "
                f"the context has {context}"
            )


def _take_weights(model: PreTrainedModel, init: str) -> None:
    """Give a model the weights of a text's, but for the embeddings and what predicts tokens from the last layer."""
    drawn = {
        id(weights)
        for layer in (model.get_input_embeddings(), model.get_output_embeddings())
        if layer is not None
        for weights in layer.parameters()
    }
    kept = {name: weights for name, weights in model.named_parameters() if id(weights) not in drawn}
    read = read_text_model(init).state_dict()
    with torch.no_grad():
        for name, weights in kept.items():
            if name not in read or read[name].shape != weights.shape:
                found = tuple(read[name].shape) if name in read else "none"
                raise InputError(f"model.init: {init}: {name}: found {found}, expected {tuple(weights.shape)}")
            weights.copy_(read[name])
        for name, values in model.named_buffers():
            if name in read:
                values.copy_(read[name])


@torch.no_grad()
def require_exact(model: PreTrainedModel) -> None:
    """Check on two documents that packing leaves a model's logits as they are.

    Raises:
        InputError: It does not: the model attends in its own way, or is not told where a document begins.
    """
    lengths = (5, 9)
    inputs = torch.arange(sum(lengths))[None] % model.config.vocab_size
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    pieces = torch.arange(len(lengths)).repeat_interleave(torch.tensor(lengths))[None]
    name = model.config.model_type
    model.eval()
    try:
        model.set_attn_implementation("eager")
        alone = [model(document, use_cache=False).logits[0] for document in inputs.split(lengths, dim=1)]
        model.set_attn_implementation(attention.NAME)
        if model.config._attn_implementation != attention.NAME:
            raise InputError(
                f"model: {name} cannot be trained on packed documents: its attention is not to be replaced"
            )
        layout = lay_out_rows(pieces.numpy(), positions.numpy())
        packed = model(inputs, position_ids=positions, layout=layout, use_cache=False).logits[0]
    except BROKEN as error:
        raise InputError(f"model: {name} cannot be trained on packed documents ({one_line(error)})") from None
    finally:
        model.train()
    apart = (packed - torch.cat(alone)).abs().max() / packed.abs().max()
    if not apart <= EXACT:
        raise InputError(
            f"model: {name} cannot be trained on packed documents: a logit is {apart:.1g} of the largest off where "
            f"documents are side by side, expected at most {EXACT:g}"
        )
