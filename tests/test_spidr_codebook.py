"""Codebooks against equations 2 and 4 written out frame by frame."""

import pytest
import torch
from torch.nn import functional

from spidr.codebook import Codebooks, instance_norm, perplexity

K, V, D, N = 3, 6, 5, 40


def codebooks(decay: float = 0.9) -> Codebooks:
    torch.manual_seed(0)
    made = Codebooks(K, V, D, decay)
    made.sums.mul_(V)
    made.counts.uniform_(0.5, 2)
    return made


def frames() -> torch.Tensor:
    return torch.randn(K, N, D, generator=torch.Generator().manual_seed(1)) * 0.3 + 0.5


def test_labels_are_the_nearest_codewords() -> None:
    books = codebooks()
    assert torch.equal(books.assign(frames()), torch.cdist(frames(), books.codewords).argmin(-1))


def test_the_update_is_equation_4() -> None:
    books, embeddings = codebooks(), frames()
    labels = books.assign(embeddings)
    sums, counts = books.sums.clone(), books.counts.clone()
    unused = 0
    for k in range(K):
        for v in range(V):
            mine = [embeddings[k, i] for i in range(N) if labels[k, i] == v]
            if mine:
                sums[k, v] = 0.9 * sums[k, v] + 0.1 * torch.stack(mine).sum(0)
                counts[k, v] = 0.9 * counts[k, v] + 0.1 * len(mine)
            else:
                unused += 1
    assert unused > 0
    books.update(books.summarise(embeddings, labels))
    torch.testing.assert_close(books.sums, sums)
    torch.testing.assert_close(books.counts, counts)
    torch.testing.assert_close(books.codewords, sums / counts[..., None])


def test_statistics_are_those_of_the_one_hot_labels() -> None:
    books, embeddings = codebooks(), frames()
    labels = books.assign(embeddings)
    one_hot = functional.one_hot(labels, V).float()
    statistics = books.summarise(embeddings, labels)
    assert torch.equal(statistics.counts, one_hot.sum(1))
    torch.testing.assert_close(statistics.sums, torch.einsum("knv,knd->kvd", one_hot, embeddings))


def test_codewords_that_no_frame_is_nearest_to_do_not_move() -> None:
    books, embeddings = codebooks(), frames()
    labels = books.assign(embeddings)
    before = books.codewords
    books.update(books.summarise(embeddings, labels))
    used = functional.one_hot(labels, V).sum(1) > 0
    assert torch.equal(books.codewords[~used], before[~used])
    assert (books.codewords[used] != before[used]).any(-1).all()


def test_statistics_of_two_devices_add_up_to_those_of_the_whole_batch() -> None:
    books, embeddings = codebooks(), frames()
    labels = books.assign(embeddings)
    whole = books.summarise(embeddings, labels)
    first, second = (books.summarise(embeddings[:, part], labels[:, part]) for part in (slice(0, 15), slice(15, N)))
    torch.testing.assert_close(first.sums + second.sums, whole.sums)
    assert torch.equal(first.counts + second.counts, whole.counts)


def test_codewords_start_small_with_a_count_of_one() -> None:
    books = Codebooks(8, 256, 64, 0.9)
    assert torch.equal(books.counts, torch.ones(8, 256))
    assert books.codewords.std().item() == pytest.approx(1 / 256, rel=0.02)


def test_instance_norm_standardises_each_channel_of_each_utterance_over_time() -> None:
    embeddings = torch.randn(2, 3, 50, 4) * 3 + 1
    expected = functional.instance_norm(embeddings.flatten(0, 1).transpose(1, 2)).transpose(1, 2).view_as(embeddings)
    torch.testing.assert_close(instance_norm(embeddings), expected)


def test_perplexity_counts_equally_used_codewords() -> None:
    used_equally = torch.tensor([[0.25, 0.25, 0.25, 0.25], [0.5, 0.5, 0, 0], [1.0, 0, 0, 0]])
    torch.testing.assert_close(perplexity(used_equally), torch.tensor([4.0, 2.0, 1.0]))
