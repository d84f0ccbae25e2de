"""Packing loses no prediction, repeats none, and keeps documents apart."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.attention import lay_out
from slm.model import build_model, packed_logits, summed_loss
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


def test_packed_documents_have_the_logits_of_documents_alone(packed: Batch) -> None:
    model = build_model(SMALL, 52, seed=0).eval()
    with torch.no_grad():
        logits = packed_logits(model, packed)
        model.set_attn_implementation("sdpa")
        assert len(np.unique(packed.pieces[0])) > 2
        for row in range(len(packed.inputs)):
            for piece in range(packed.pieces[row].max() + 1):
                here = torch.from_numpy(packed.pieces[row] == piece)
                alone = model(torch.from_numpy(packed.inputs[row])[here][None]).logits[0]
                torch.testing.assert_close(logits[row][here], alone, rtol=0, atol=1e-5)


def test_the_loss_is_the_mean_over_documents_read_one_token_at_a_time(packed: Batch) -> None:
    model = build_model(SMALL, 52, seed=0).eval()
    nats = 0.0
    with torch.no_grad():
        loss = summed_loss(model, packed).item()
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
            logits = packed_logits(model, packed)
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
        exact = packed_logits(model, packed)
        model.set_attn_implementation("sdpa")
        leaking = model(torch.from_numpy(packed.inputs), position_ids=torch.from_numpy(packed.positions)).logits
    assert (leaking - exact)[0].abs().max() > 0.01


@settings(deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=12), padding=st.integers(0, 5))
def test_the_layout_of_attention_holds_every_piece_in_a_row(lengths: list[int], padding: int) -> None:
    pieces = np.repeat([*range(len(lengths)), -1], [*lengths, padding])[None]
    positions = np.concatenate([*map(np.arange, lengths), np.zeros(padding, dtype=int)])[None]
    rows, places = lay_out(pieces, positions)
    slots = np.concatenate([row.ravel() for row in rows])
    tokens = np.arange(sum(lengths))
    assert (slots[places[tokens]] == tokens).all()
    assert sorted(len(set(line)) for row in rows for line in row.tolist()) == sorted(lengths)
    assert len(slots) < 2 * sum(lengths)
