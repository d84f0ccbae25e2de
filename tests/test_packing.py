"""Packing loses no prediction, repeats none, and keeps documents apart."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import InputError
from slm.attention import attend_within_pieces, block_mask, lay_out_blocks, lay_out_rows
from slm.batches import Way, as_tensors
from slm.loss import packed_logits, summed_loss
from slm.model import build_model
from slm.packing import IGNORED, Batch, PackedCorpus, best_fit, cut
from slm.settings import ModelSettings
from slm.store import PAD, TokenStore, write_store
from units.records import UnitSequence, write_units

CONTEXT = 12
lengths_of_corpora = st.lists(st.integers(1, 40), min_size=1, max_size=25)


def store_of(folder: Path, lengths: list[int], name: str = "corpus") -> TokenStore:
    """A store of documents with so many units each, no two alike."""
    draw = np.random.default_rng(0)
    sequences = []
    for number, length in enumerate(lengths):
        units = np.cumsum(draw.integers(1, 49, length)) % 50  # no two neighbours equal
        sequences.append(UnitSequence(f"utt{number}", units.tolist(), [1] * length))
    write_units(folder / f"{name}.jsonl", sequences)
    write_store(folder / f"{name}.jsonl", 50, 50.0, name, folder / name)
    return TokenStore(folder / name)


def pieces_by_hand(stores: list[TokenStore], context: int) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Inputs and targets of every piece."""
    found: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for store in stores:
        for number in range(store.num_documents):
            tokens = store.document(number).tolist()
            inputs, targets = tokens[:-1], tokens[1:]
            for start in range(0, len(inputs), context):
                found[tuple(inputs[start : start + context]), tuple(targets[start : start + context])] += 1
    return found


def pieces_of(batch: Batch) -> Counter[tuple[tuple[int, ...], tuple[int, ...]]]:
    """The same, read back from a batch."""
    found: Counter[tuple[tuple[int, ...], tuple[int, ...]]] = Counter()
    for inputs, targets, pieces in zip(batch.inputs, batch.targets, batch.pieces, strict=True):
        for piece in np.unique(pieces[targets != IGNORED]):
            found[tuple(inputs[pieces == piece].tolist()), tuple(targets[pieces == piece].tolist())] += 1
    return found


@settings(max_examples=30, deadline=None)
@given(lengths=lengths_of_corpora, more=lengths_of_corpora, seed=st.integers(0, 3))
def test_an_epoch_predicts_every_token_once(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], more: list[int], seed: int
) -> None:
    folder = tmp_path_factory.mktemp("stores")
    stores = [store_of(folder, lengths, "a"), store_of(folder, more, "b")]
    corpus = PackedCorpus(stores, CONTEXT, seed)
    expected = pieces_by_hand(stores, CONTEXT)
    for epoch in range(3):
        batch = corpus.batch(epoch * corpus.num_contexts, corpus.num_contexts)
        assert pieces_of(batch) == expected
        assert batch.num_predicted == corpus.num_predicted == (batch.targets != IGNORED).sum()
        assert ((batch.inputs == PAD) == (batch.targets == IGNORED)).all()


@settings(max_examples=30, deadline=None)
@given(lengths=lengths_of_corpora)
def test_positions_start_at_zero_in_each_piece(tmp_path_factory: pytest.TempPathFactory, lengths: list[int]) -> None:
    corpus = PackedCorpus([store_of(tmp_path_factory.mktemp("store"), lengths)], CONTEXT, 0)
    batch = corpus.batch(0, corpus.num_contexts)
    for positions, pieces in zip(batch.positions, batch.pieces, strict=True):
        for piece in range(pieces.max() + 1):
            assert positions[pieces == piece].tolist() == list(range((pieces == piece).sum()))


def test_a_batch_depends_on_its_place_alone(tmp_path: Path) -> None:
    store = store_of(tmp_path, [3, 8, 20, 5, 11, 9, 2, 30])
    whole = PackedCorpus([store], CONTEXT, 0).batch(0, 40)
    resumed = PackedCorpus([store], CONTEXT, 0).batch(33, 7)
    for before, after in zip(("inputs", "targets", "positions", "pieces"), range(4), strict=True):
        assert np.array_equal(getattr(whole, before)[33:], getattr(resumed, before)), after


def test_epochs_and_seeds_differ_in_order(tmp_path: Path) -> None:
    store = store_of(tmp_path, [11] * 30)
    corpus = PackedCorpus([store], CONTEXT, 0)
    first, second = corpus.batch(0, 30).inputs, corpus.batch(30, 30).inputs
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, PackedCorpus([store], CONTEXT, 1).batch(0, 30).inputs)


@given(lengths=st.lists(st.integers(1, CONTEXT), min_size=1, max_size=60))
def test_best_fit_takes_the_fullest_bin_with_room(lengths: list[int]) -> None:
    loads: list[int] = []
    for length, chosen in zip(lengths, best_fit(np.array(lengths), CONTEXT).tolist(), strict=True):
        fitting = [load for load in loads if load + length <= CONTEXT]
        if chosen == len(loads):
            assert not fitting
            loads.append(0)
        else:
            assert loads[chosen] == max(fitting)
        loads[chosen] += length


def test_little_of_a_context_is_padding(tmp_path: Path) -> None:
    lengths = np.random.default_rng(0).integers(20, 300, 400).tolist()
    corpus = PackedCorpus([store_of(tmp_path, lengths)], 512, 0)
    assert corpus.num_predicted / (corpus.num_contexts * 512) > 0.98


def test_long_documents_are_cut_into_contexts() -> None:
    starts, lengths = cut(np.array([0, 5, 30]), 10)  # 4 and 24 pairs
    assert list(zip(starts.tolist(), lengths.tolist(), strict=True)) == [(0, 4), (5, 10), (15, 10), (25, 4)]


@pytest.fixture
def packed(tmp_path: Path) -> Batch:
    corpus = PackedCorpus([store_of(tmp_path, [3, 8, 20, 5, 11, 9, 2, 30, 17])], 48, 0)
    return corpus.batch(0, corpus.num_contexts)


SMALL = ModelSettings(hidden_size=32, num_layers=2, num_heads=2, ffn_size=64, context=48, init_std=0.2)


OTHERS = {
    "llama": {"intermediate_size": 64, "num_key_value_heads": 2},
    "gpt_neox": {"intermediate_size": 64, "attention_dropout": 0.1},
    "qwen2": {"intermediate_size": 64, "num_key_value_heads": 2},
    "gpt2": {},
}
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "initializer_range": 0.2}


@pytest.mark.parametrize("way", ["rows", "blocks"])
@pytest.mark.parametrize("model_type", ["opt", *OTHERS])
def test_packed_documents_have_the_logits_of_documents_alone(packed: Batch, model_type: str, way: Way) -> None:
    settings = SMALL
    if model_type != "opt":
        architecture = {"model_type": model_type, **SHAPE, **OTHERS[model_type]}
        settings = ModelSettings(context=48, architecture=architecture)
    model = build_model(settings, 52, seed=0).eval()
    assert model.config.model_type == model_type
    with torch.no_grad():
        logits = packed_logits(model, as_tensors(packed, way))
        model.set_attn_implementation("eager")
        assert len(np.unique(packed.pieces[0])) > 2
        for row in range(len(packed.inputs)):
            for piece in range(packed.pieces[row].max() + 1):
                here = torch.from_numpy(packed.pieces[row] == piece)
                alone = model(torch.from_numpy(packed.inputs[row])[here][None]).logits[0]
                torch.testing.assert_close(logits[row][here], alone, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("architecture", "message"),
    [
        ({"model_type": "bloom", "hidden_size": 32, "n_layer": 2, "n_head": 4}, "its attention is not to be replaced"),
        ({"model_type": "mamba", "hidden_size": 32, "num_hidden_layers": 2}, "a logit is .* of the largest off"),
        ({"model_type": "bert", "intermediate_size": 64, **SHAPE}, "a logit is .* of the largest off"),
        (
            {"model_type": "mistral", "intermediate_size": 64, "num_key_value_heads": 4, "sliding_window": 4, **SHAPE},
            "found an attention with sliding_window, expected plain causal attention",
        ),
        ({"model_type": "gemma2", "intermediate_size": 64, "head_dim": 8, **SHAPE}, "found an attention with softcap"),
    ],
)
def test_a_model_that_packing_would_change_is_refused(architecture: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_model(ModelSettings(context=48, architecture=architecture), 52, seed=0)


def test_documents_together_are_one_document(tmp_path: Path) -> None:
    store = store_of(tmp_path, [3, 8, 20, 5, 11, 9, 2, 30, 17])
    apart, together = PackedCorpus([store], 48, 0), PackedCorpus([store], 48, 0, together=True)
    ours, theirs = together.batch(0, 3), apart.batch(0, 3)
    assert np.array_equal(ours.inputs, theirs.inputs)
    assert np.array_equal(ours.targets, theirs.targets)
    tensors = as_tensors(ours, "rows")
    assert tensors.pieces is None
    model = build_model(SMALL, 52, seed=0).eval()
    with torch.no_grad():
        logits = packed_logits(model, tensors)
        model.set_attn_implementation("eager")
        plain = model(tensors.inputs).logits  # transformers' own: causal, positions from 0
    there = tensors.targets != IGNORED
    torch.testing.assert_close(logits[there], plain[there], rtol=0, atol=1e-5)


def packed_pieces(time: int, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """Pieces and positions of three contexts of pieces of many lengths, with padding behind."""
    draw = np.random.default_rng(0)
    pieces, positions = np.full((3, time), -1), np.zeros((3, time), dtype=np.int64)
    for context in range(3):
        lengths = draw.integers(1, longest, time)
        end = int(draw.integers(time // 2, time + 1))
        pieces[context, :end] = np.repeat(np.arange(time), lengths)[:end]
        positions[context, :end] = np.concatenate([np.arange(length) for length in lengths])[:end]
    return pieces, positions


@pytest.mark.parametrize("time", [40, 300, 384])
@pytest.mark.parametrize("way", ["rows", "blocks"])
def test_attention_is_that_of_an_explicit_mask(way: Way, time: int) -> None:
    pieces, positions = packed_pieces(time, 200)
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 4, time, 16), torch.randn(3, 2, time, 16), torch.randn(3, 2, time, 16)
    layout = block_mask(lay_out_blocks(pieces)) if way == "blocks" else lay_out_rows(pieces, positions)
    found, _ = attend_within_pieces(torch.nn.Identity(), query, key, value, None, layout=layout, scaling=0.3)
    mask = torch.from_numpy(pieces[:, :, None] == pieces[:, None, :])[:, None].tril()
    scores = query @ key.repeat_interleave(2, 1).transpose(2, 3) * 0.3
    weights = scores.masked_fill(~mask, -torch.inf).softmax(-1)
    expected = (weights @ value.repeat_interleave(2, 1)).transpose(1, 2)
    there = torch.from_numpy(pieces >= 0)
    torch.testing.assert_close(found[there], expected[there], rtol=0, atol=1e-5)


def test_every_block_with_a_visible_pair_is_computed() -> None:
    pieces, _ = packed_pieces(700, 300)
    mask = block_mask(lay_out_blocks(pieces))
    seen = (pieces[:, :, None] == pieces[:, None, :]) & np.tri(700, dtype=bool)
    padded = np.pad(seen, ((0, 0), (0, 68), (0, 68))).reshape(3, 6, 128, 6, 128).swapaxes(2, 3)
    inside = np.pad(np.ones((700, 700), dtype=bool), ((0, 68), (0, 68))).reshape(6, 128, 6, 128).swapaxes(1, 2)
    for context in range(3):
        for query in range(6):
            partial = mask.kv_indices[context, 0, query, : mask.kv_num_blocks[context, 0, query]].tolist()
            whole = mask.full_kv_indices[context, 0, query, : mask.full_kv_num_blocks[context, 0, query]].tolist()
            for key in range(6):
                block = padded[context, query, key]
                if key in whole:
                    assert block[inside[query, key]].all()
                else:
                    assert block.any() == (key in partial)


def test_the_loss_is_the_mean_over_documents_read_one_token_at_a_time(packed: Batch) -> None:
    model = build_model(SMALL, 52, seed=0).eval()
    nats = 0.0
    with torch.no_grad():
        loss = summed_loss(model, as_tensors(packed, "rows")).item()
        model.set_attn_implementation("sdpa")
        for inputs, targets in pieces_of(packed).elements():
            log_probabilities = model(torch.tensor([inputs])).logits[0].log_softmax(-1)
            nats -= sum(log_probabilities[place, token].item() for place, token in enumerate(targets))
    assert loss == pytest.approx(nats, rel=1e-6)


def test_the_gradient_is_that_of_an_explicit_block_mask(packed: Batch) -> None:
    gradients = []
    for attention in ("pieces", "sdpa"):
        model = build_model(SMALL.model_copy(update={"dropout": 0.0}), 52, seed=0)
        if attention == "pieces":
            logits = packed_logits(model, as_tensors(packed, "rows"))
        else:
            pieces, positions = torch.from_numpy(packed.pieces), torch.from_numpy(packed.positions)
            mask = (pieces[:, None, :, None] == pieces[:, None, None, :]).tril()
            model.set_attn_implementation("sdpa")
            logits = model(torch.from_numpy(packed.inputs), attention_mask=mask, position_ids=positions).logits
        scored = torch.from_numpy(packed.targets) != IGNORED
        logits[scored].logsumexp(-1).sum().backward()
        gradients.append([weight.grad for weight in model.parameters()])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_attention_left_to_transformers_would_leak(packed: Batch) -> None:
    model = build_model(SMALL, 52, seed=0).eval()
    with torch.no_grad():
        exact = packed_logits(model, as_tensors(packed, "rows"))
        model.set_attn_implementation("sdpa")
        leaking = model(torch.from_numpy(packed.inputs), position_ids=torch.from_numpy(packed.positions)).logits
    assert (leaking - exact)[0].abs().max() > 0.01


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), padding=st.integers(0, 5))
def test_the_rows_of_attention_hold_every_piece(lengths: list[int], padding: int) -> None:
    pieces = np.repeat([*range(len(lengths)), -1], [*lengths, padding])[None]
    positions = np.concatenate([*map(np.arange, lengths), np.zeros(padding, dtype=int)])[None]
    rows, places = lay_out_rows(pieces, positions)
    slots = np.concatenate([row.numpy().ravel() for row in rows])
    tokens = np.arange(sum(lengths))
    assert (slots[places[tokens]] == tokens).all()
    assert sorted(len(set(line)) for row in rows for line in row.tolist()) == sorted(lengths)
    assert len(slots) < 1.25 * sum(lengths)
