"""How released checkpoints name the tensors of our model.

The three released encoders of the family (tables 1 and 7 of the paper) have two sets of names: the
authors' for SpidR and their DinoSR, fairseq's for the original DinoSR. The names are facts of the
files; no code that wrote them is used.
"""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from torch import Tensor

Row = tuple[str, str, str]

FRONT: list[Row] = [
    # ours, SpidR's, fairseq's: modules, or single tensors. "#" is the number of a layer or a codebook.
    ("mask_embedding", "mask_embedding", "mask_emb"),
    ("heads", "heads.#.0", "heads.#"),
    ("codebooks.sums", "codebooks.#.codebook", "_codebook#"),
    ("codebooks.counts", "codebooks.#.counts", "_codebook_cnts#"),
    (
        "student.extractor.conv_layers.#.conv",
        "feature_extractor.conv_layers.#.conv",
        "feature_extractor.conv_layers.#.0",
    ),
    (
        "student.extractor.conv_layers.#.layer_norm",
        "feature_extractor.conv_layers.#.layer_norm",
        "feature_extractor.conv_layers.#.2.1",
    ),
    ("student.projection.layer_norm", "feature_projection.layer_norm", "layer_norm"),
    ("student.projection.projection", "feature_projection.projection", "post_extract_proj"),
]

SIDES: list[Row] = [("student.transformer.", "student.", "encoder."), ("teacher.", "teacher.", "_ema.")]
"""Where the two Transformers lie. The original's teacher is a dictionary of its own, ``_ema``."""

TRANSFORMER: list[Row] = [
    # "[qkv]": one tensor of ours is three of theirs, in this order.
    ("positions.#.conv", "pos_conv_embed.convs.#", "pos_conv.#.0"),
    ("layer_norm", "layer_norm", "layer_norm"),
    ("layers.#.attention.qkv_proj", "layers.#.attention.qkv", "layers.#.self_attn.[qkv]_proj"),
    ("layers.#.attention.out_proj", "layers.#.attention.proj", "layers.#.self_attn.out_proj"),
    ("layers.#.attention_layer_norm", "layers.#.layer_norm", "layers.#.self_attn_layer_norm"),
    ("layers.#.feed_forward.fc1", "layers.#.feed_forward.intermediate_dense", "layers.#.fc1"),
    ("layers.#.feed_forward.fc2", "layers.#.feed_forward.output_dense", "layers.#.fc2"),
    ("layers.#.final_layer_norm", "layers.#.final_layer_norm", "layers.#.final_layer_norm"),
]

ROWS = FRONT + [(ours + a, spidr + b, fairseq + c) for ours, spidr, fairseq in SIDES for a, b, c in TRANSFORMER]
SPIDR_NAMES = {ours: theirs for ours, theirs, _ in ROWS}
FAIRSEQ_NAMES = {ours: theirs for ours, _, theirs in ROWS}


class Layout(NamedTuple):
    """One kind of released checkpoint."""

    names: Mapping[str, str]
    """Their name of each of our modules and tensors."""
    predict_from: Literal["same_layer", "last_layer"]
    """What the prediction heads read."""
    has_step: bool
    """Whether it says after how many steps it was saved."""
    needs_qkv_bias: bool
    """Whether the Q, K and V projections always have biases."""
    nested: str | None = None
    """Prefix of what lies in a dictionary of its own."""


LAYOUTS = {
    "spidr": Layout(SPIDR_NAMES, "same_layer", has_step=True, needs_qkv_bias=False),
    "dinosr": Layout(SPIDR_NAMES, "last_layer", has_step=True, needs_qkv_bias=False),
    "dinosr-original": Layout(FAIRSEQ_NAMES, "last_layer", has_step=False, needs_qkv_bias=True, nested="_ema"),
}


def released_name(layout: Layout, name: str) -> str:
    """Their name of one of our tensors, both with ``#`` for the number of a layer or a codebook."""
    if name in layout.names:
        return layout.names[name]
    module, _, parameter = name.rpartition(".")
    return f"{layout.names[module]}.{parameter}"


def released_views(layout: Layout, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of our whole model (the state of a `SpidR`) under their names.

    Each is a view of ours, to be read for an export and to be written into for an import.
    """
    views: dict[str, Tensor] = {}
    for name, tensor in state.items():
        views |= _views_of_one(layout, name, tensor)
    return views


def _views_of_one(layout: Layout, name: str, tensor: Tensor) -> dict[str, Tensor]:
    number = re.search(r"\.(\d+)\.", name)
    theirs = released_name(layout, name.replace(number[0], ".#.") if number else name)
    if number:
        theirs = theirs.replace("#", number[1])
    letters = re.search(r"\[(\w+)\]", theirs)
    if letters:
        parts = zip(letters[1], tensor.chunk(len(letters[1])), strict=True)
        return {theirs.replace(letters[0], letter): part for letter, part in parts}
    if "#" in theirs:  # ours is a stack of what belongs to the codebooks
        return {theirs.replace("#", str(index)): part for index, part in enumerate(tensor.unbind())}
    return {theirs: tensor}
