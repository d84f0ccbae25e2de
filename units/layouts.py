"""How released checkpoints of HuBERT, wav2vec 2.0 and WavLM name the tensors of transformers' models.

Fairseq wrote most of them, s3prl renamed the container and not the tensors, torchaudio has names of its own,
and Spin's files hold an encoder of fairseq's names beside head and codebook. The names are facts of the
files; no code that wrote them is used. `units.conversion` does the renaming.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

Rows = tuple[tuple[str, str], ...]

POSITIONS = "encoder.pos_conv_embed.conv"
GAIN, DIRECTION = f"{POSITIONS}.parametrizations.weight.original0", f"{POSITIONS}.parametrizations.weight.original1"

FAIRSEQ: Rows = (
    # theirs, transformers': modules, or single tensors. "#" is a number.
    ("mask_emb", "masked_spec_embed"),
    ("feature_extractor.conv_layers.#.0", "feature_extractor.conv_layers.#.conv"),
    ("feature_extractor.conv_layers.#.2.1", "feature_extractor.conv_layers.#.layer_norm"),
    ("feature_extractor.conv_layers.0.2", "feature_extractor.conv_layers.0.layer_norm"),  # a group norm
    ("layer_norm", "feature_projection.layer_norm"),
    ("post_extract_proj", "feature_projection.projection"),
    ("encoder.pos_conv.0.weight_g", GAIN),
    ("encoder.pos_conv.0.weight_v", DIRECTION),
    ("encoder.pos_conv.0", POSITIONS),
    ("encoder.layer_norm", "encoder.layer_norm"),
    ("encoder.layers.#.self_attn.q_proj", "encoder.layers.#.attention.q_proj"),
    ("encoder.layers.#.self_attn.k_proj", "encoder.layers.#.attention.k_proj"),
    ("encoder.layers.#.self_attn.v_proj", "encoder.layers.#.attention.v_proj"),
    ("encoder.layers.#.self_attn.out_proj", "encoder.layers.#.attention.out_proj"),
    ("encoder.layers.#.self_attn.grep_linear", "encoder.layers.#.attention.gru_rel_pos_linear"),
    ("encoder.layers.#.self_attn.grep_a", "encoder.layers.#.attention.gru_rel_pos_const"),
    ("encoder.layers.0.self_attn.relative_attention_bias", "encoder.layers.0.attention.rel_attn_embed"),
    ("encoder.layers.#.self_attn_layer_norm", "encoder.layers.#.layer_norm"),
    ("encoder.layers.#.fc1", "encoder.layers.#.feed_forward.intermediate_dense"),
    ("encoder.layers.#.fc2", "encoder.layers.#.feed_forward.output_dense"),
    ("encoder.layers.#.final_layer_norm", "encoder.layers.#.final_layer_norm"),
)

TORCHAUDIO: Rows = (
    ("mask_generator.mask_embedding", "masked_spec_embed"),
    ("wav2vec2.feature_extractor.conv_layers.#.conv", "feature_extractor.conv_layers.#.conv"),
    ("wav2vec2.feature_extractor.conv_layers.#.layer_norm", "feature_extractor.conv_layers.#.layer_norm"),
    ("wav2vec2.encoder.feature_projection.layer_norm", "feature_projection.layer_norm"),
    ("wav2vec2.encoder.feature_projection.projection", "feature_projection.projection"),
    # torch named the two parts of a normalised weight anew, and torchaudio followed.
    ("wav2vec2.encoder.transformer.pos_conv_embed.conv.weight_g", GAIN),
    ("wav2vec2.encoder.transformer.pos_conv_embed.conv.weight_v", DIRECTION),
    ("wav2vec2.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original0", GAIN),
    ("wav2vec2.encoder.transformer.pos_conv_embed.conv.parametrizations.weight.original1", DIRECTION),
    ("wav2vec2.encoder.transformer.pos_conv_embed.conv", POSITIONS),
    ("wav2vec2.encoder.transformer.layer_norm", "encoder.layer_norm"),
    *(
        (f"wav2vec2.encoder.transformer.layers.#.{module}", f"encoder.layers.#.{module}")
        for module in (
            "attention.q_proj",
            "attention.k_proj",
            "attention.v_proj",
            "attention.out_proj",
            "layer_norm",
            "feed_forward.intermediate_dense",
            "feed_forward.output_dense",
            "final_layer_norm",
        )
    ),
)

SPIN_HEAD = {
    "pred_head.layers.0.weight": "head.weight",
    "pred_head.layers.0.bias": "head.bias",
    "loss_module.codebook.weight": "codebook.weight",
}
"""Of a Spin file, what is not the encoder: theirs, ours."""


class Layout(NamedTuple):
    """One kind of released checkpoint."""

    model_type: str
    """The model of transformers that it becomes."""
    rows: Rows
    containers: tuple[str, ...] = ()
    """Keys of which one holds the tensors; without any, the file does itself."""
    prefixes: tuple[str, ...] = ()
    """What may stand before a name, outermost first."""
    dropped: tuple[str, ...] = ()
    """Beginnings of names, without prefix, that belong to a training and not to the encoder."""
    others: Mapping[str, str] = {}
    """Names of tensors that lie beside the encoder and are kept: theirs, ours."""


# Of wav2vec 2.0, HuBERT and WavLM. A fine-tuned release has the encoder in w2v_encoder.w2v_model. and its head beside.
FAIRSEQ_CONTAINERS = ("model", "model_weight")
FAIRSEQ_PREFIXES = ("module.", "w2v_encoder.", "w2v_model.")
PRETRAINING = ("final_proj.", "label_embs_concat", "target_glu.", "quantizer.", "project_q.", "proj.", "_ema")


def _fairseq(model_type: str) -> Layout:
    return Layout(model_type, FAIRSEQ, FAIRSEQ_CONTAINERS, FAIRSEQ_PREFIXES, PRETRAINING)


def _spin(model_type: str) -> Layout:
    return Layout(model_type, FAIRSEQ, ("state_dict",), ("encoder.model.",), PRETRAINING, SPIN_HEAD)


LAYOUTS = {
    "hubert": _fairseq("hubert"),
    "wav2vec2": _fairseq("wav2vec2"),
    "wavlm": _fairseq("wavlm"),
    "hubert-fairseq": _fairseq("hubert"),
    "hubert-torchaudio": Layout(
        "hubert", TORCHAUDIO, prefixes=("model.",), dropped=("aux.", "logit_generator.", "wav2vec2.aux.")
    ),
    "hubert-spin": _spin("hubert"),
    "wavlm-spin": _spin("wavlm"),
}
"""Layout of the file of each ``model_type`` in the registry that becomes a model of transformers."""


def without_prefix(layout: Layout, name: str) -> str:
    """A released name without what may stand before it."""
    for prefix in layout.prefixes:
        name = name.removeprefix(prefix)
    return name


def transformers_name(layout: Layout, name: str) -> str | None:
    """Transformers' name of a released tensor, whose own name is without prefix; None where no row has it."""
    return next(_renamed(layout.rows, name), None)


def released_names(layout: Layout, name: str) -> list[str]:
    """Their names, without prefix, of a tensor of transformers."""
    return list(_renamed(tuple((ours, theirs) for theirs, ours in layout.rows), name))


def _renamed(rows: Rows, name: str) -> Iterator[str]:
    """What `name` becomes by each row that it fits: a whole name, or a module's with weight or bias after it."""
    for before, after in rows:
        numbered = re.escape(before).replace(r"\#", "#").replace("#", r"(\d+)")
        match = re.fullmatch(rf"{numbered}(\.weight|\.bias)?", name)
        if match:
            *numbers, end = match.groups(default="")
            yield after.replace("#", "{}").format(*numbers) + end
