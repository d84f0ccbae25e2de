"""Average precision of retrieval: each vector is a query, and all others are ranked by their similarity to it.

The similarities of 45,000 tokens with each other take 8 GB, and multiplying takes most of the time. So tokens are cut
into blocks, and each pair of blocks is multiplied once, for the queries of both: half the arithmetic of all with all,
because similarity is symmetric. Of each product only candidates are kept: similarities that reach the query's
threshold, which a sample of the tokens and the other tokens of its word give. A block's queries are ranked as soon as
it has met all others.

Equally similar tokens keep their order in the list, whatever the blocks and threads; equal means equal in float32.
"""

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_info, threadpool_limits  # type: ignore[import-untyped]

from artifacts.errors import InputError
from artifacts.progress import Progress
from artifacts.seeds import generator

Variant = Literal["strict", "speech-map"]
type Vectors = npt.NDArray[np.float32]
type Floats = npt.NDArray[np.float64]
type Integers = npt.NDArray[np.int64]

BLOCK_SIZE = 1024
SAMPLE_SIZE = 2048
SLACK = 1.25
"""How many times as many candidates as are wanted may be held before the farther ones are dropped."""
LOWEST = np.finfo(np.float32).min
SIMILARITY_BITS = 32
MAX_TOKENS = 1 << 63 - SIMILARITY_BITS - (BLOCK_SIZE - 1).bit_length()
"""The number of a query in its block, a similarity and the number of a token make up one int64."""


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Tokens that are queries and retrieved ones alike.

    Attributes:
        vectors: One a token, finite, (n, dim); similarity is their dot product.
        word: What each token is one of, (n,).
        num_relevant: Other tokens of the same word, (n,).
        depth: How many of the nearest count for each query, (n,); 0 for a token that is no query.
    """

    vectors: Vectors
    word: Integers
    num_relevant: Integers
    depth: Integers

    @property
    def index_bits(self) -> int:
        """Binary digits that the number of a token takes."""
        return max(1, (len(self.word) - 1).bit_length())


def average_precisions(vectors: Vectors, labels: Sequence[str], variant: Variant) -> Floats:
    """Average precision of each token as a query, (n,); NaN for a word that occurs once.

    With hit(i) = 1 where the i-th nearest is of the query's word and P(i) the share of hits among the first i, it is
    1/R sum_i P(i) hit(i), R being the number of other tokens of the word. The sum ends at R for ``strict`` (Musgrave
    et al. 2020, equation 3), at the largest R of the whole set for ``speech-map``. A word that occurs once is no query,
    but is among what the others retrieve. Of equally similar tokens the first in the list comes first.

    Args:
        vectors: One a token, finite and of length 1, (n, dim).
        labels: The word of each token.

    Raises:
        InputError: More tokens than can be numbered.
    """
    if len(labels) > MAX_TOKENS:
        raise InputError(f"found {len(labels):,} word tokens, expected at most {MAX_TOKENS:,}")
    _, word, counts = np.unique(np.asarray(labels), return_inverse=True, return_counts=True)
    num_relevant = counts[word] - 1
    depth = num_relevant if variant == "strict" else np.where(num_relevant > 0, num_relevant.max(), 0)
    tokens = Retrieval(vectors, word, num_relevant, depth)
    threads = max((library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"), default=1)
    # One product a thread: what surrounds the products then runs on all of them too.
    with threadpool_limits(1, "blas"), ThreadPoolExecutor(threads) as pool:
        sums, is_alone = _by_blocks(tokens, pool)
    for query in np.flatnonzero(is_alone):
        sums[query] = _alone(tokens, int(query))
    precisions: Floats = np.divide(sums, num_relevant, out=np.full(len(word), np.nan), where=num_relevant > 0)
    return precisions


def _by_blocks(tokens: Retrieval, pool: ThreadPoolExecutor) -> tuple[Floats, npt.NDArray[np.bool_]]:
    """Sum of precisions at hits of each query, (n,), and where it is to be ranked alone, (n,).

    Ranked alone are queries whose threshold fewer tokens reach than the sample promised.

    A block is ranked when it has met all others; the blocks after it have then met as many as were ranked. What is
    held at a time is thus at most a quarter of all candidates.
    """
    starts = range(0, len(tokens.word), BLOCK_SIZE)
    blocks = [slice(start, min(start + BLOCK_SIZE, len(tokens.word))) for start in starts]
    sample = tokens.vectors[_sample(len(tokens.word))]
    expected = np.concatenate(list(pool.map(lambda block: _thresholds(tokens, block, sample), blocks)))
    needed = _farthest_relevant(tokens)
    thresholds = np.maximum(expected, needed)  # what lies beyond the last hit does not count
    pending: list[list[Integers]] = [[] for _ in blocks]
    ranked: list[Future[tuple[Floats, Integers]]] = []

    def candidates(first: int, second: int) -> tuple[Integers, Integers]:
        rows, columns = blocks[first], blocks[second]
        similarities = tokens.vectors[rows] @ tokens.vectors[columns].T
        if first == second:
            np.fill_diagonal(similarities, -np.inf)  # a query does not retrieve itself
        query, other, reached = _reaching(similarities, thresholds[rows, None])
        own = _keys(tokens, query, other + columns.start, reached)
        if first == second:
            return own, own[:0]
        other, query, reached = _reaching(similarities, thresholds[columns])
        return own, _keys(tokens, query, other + rows.start, reached)

    with Progress("MAP over words", len(blocks) * (len(blocks) + 1) // 2, "blocks of similarities") as progress:
        for first, block in enumerate(blocks):
            rest = range(first, len(blocks))
            found = pool.map(candidates, [first] * len(rest), rest)
            for second, (own, others) in zip(rest, found, strict=True):
                for number, keys in ((first, own), (second, others)):
                    pending[number].append(keys)
                    _bound(tokens, blocks[number], pending[number])
            ranked.append(pool.submit(_precision_sums, tokens, block, pending[first]))
            pending[first] = []
            progress.advance(len(rest))
        results = [future.result() for future in ranked]
    num_found = np.concatenate([found for _, found in results])
    return np.concatenate([sums for sums, _ in results]), (num_found < tokens.depth) & (expected > needed)


def _sample(num_tokens: int) -> Integers:
    """Tokens drawn for the thresholds; all where there are few."""
    size = min(SAMPLE_SIZE, num_tokens)
    return np.sort(generator(0, "map", "sample").choice(num_tokens, size, replace=False))


def _thresholds(tokens: Retrieval, block: slice, sample: Vectors) -> Vectors:
    """A similarity that at least `depth` tokens should reach, for each query of a block; infinite for no query.

    Of `depth` tokens, depth x share are expected in the sample. Three standard deviations more (and three, because
    small numbers are not normal) seldom fall short, and where they do, the query is ranked alone; one more because
    the query may be in the sample itself.
    """
    depth = tokens.depth[block]
    expected = depth * len(sample) / len(tokens.word)
    rank = np.minimum(expected + 3 * np.sqrt(expected) + 4, len(sample)).astype(np.int64)
    similarities = np.sort(tokens.vectors[block] @ sample.T, axis=1)
    found = similarities[np.arange(len(depth)), len(sample) - rank]
    found[rank == len(sample)] = LOWEST
    return np.where(depth > 0, found, np.float32(np.inf))


def _farthest_relevant(tokens: Retrieval) -> Vectors:
    """The lowest similarity of each query with another token of its word, (n,); infinite where there is none.

    It is less by as much as two sums of the same products of vectors of length 1 may differ, taken in another order.
    """
    margin = np.float32(tokens.vectors.shape[1] * np.finfo(np.float32).eps)
    lowest = np.full(len(tokens.word), np.float32(np.inf))
    order = np.argsort(tokens.word, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(tokens.word[order])) + 1):
        vectors = tokens.vectors[members]
        for start in range(0, len(members), BLOCK_SIZE):
            similarities = vectors[start : start + BLOCK_SIZE] @ vectors.T
            rows = np.arange(len(similarities))
            similarities[rows, start + rows] = np.inf
            lowest[members[start : start + BLOCK_SIZE]] = similarities.min(1) - margin
    return lowest


def _reaching(similarities: Vectors, thresholds: Vectors) -> tuple[Integers, Integers, Vectors]:
    """Row, column and value of the similarities that reach a threshold, which is given by row or by column."""
    places = np.flatnonzero(similarities >= thresholds)
    row, column = np.divmod(places, similarities.shape[1])
    return row, column, similarities.ravel()[places]


def _keys(tokens: Retrieval, query: Integers, other: Integers, similarity: Vectors) -> Integers:
    """Whole numbers that sort by query, then by similarity from high to low, then by the order of the list.

    Args:
        query: Numbers within the block.
        other: Numbers of tokens.
    """
    bits = (similarity + np.float32(0)).view(np.int32)  # + 0: of -0 and 0, which are equal, the bits differ
    rising = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)  # numbers in the order of the floats
    return (((query << SIMILARITY_BITS) | (0x7FFFFFFF - rising)) << tokens.index_bits) | other


def _ranked(tokens: Retrieval, keys: Sequence[Integers]) -> tuple[Integers, Integers, Integers]:
    """Sorted keys, the query of each within its block, and its rank among that query's, counted from 1."""
    ordered = np.sort(np.concatenate(keys))
    query = ordered >> (SIMILARITY_BITS + tokens.index_bits)
    return ordered, query, _rank_in_group(query)


def _rank_in_group(group: Integers) -> Integers:
    """1, 2, ... within each run of equal numbers."""
    first = np.flatnonzero(np.diff(group, prepend=-1))
    lengths = np.diff(first, append=len(group))
    return np.arange(1, len(group) + 1) - np.repeat(first, lengths)


def _bound(tokens: Retrieval, block: slice, keys: list[Integers]) -> None:
    """Drop candidates of a block that are too far to count, once there are many (of equal similarities, say)."""
    wanted = tokens.depth[block]
    if sum(map(len, keys)) > SLACK * (wanted.sum() + BLOCK_SIZE**2):
        ordered, query, rank = _ranked(tokens, keys)
        keys[:] = [ordered[rank <= wanted[query]]]


def _precision_sums(tokens: Retrieval, block: slice, keys: Sequence[Integers]) -> tuple[Floats, Integers]:
    """Sum of precisions at hits for each query of a block, and how many candidates it had."""
    ordered, query, rank = _ranked(tokens, keys)
    size = block.stop - block.start
    other = ordered & ((1 << tokens.index_bits) - 1)
    is_hit = (tokens.word[other] == tokens.word[block][query]) & (rank <= tokens.depth[block][query])
    query_of_hit = query[is_hit]
    precision = _rank_in_group(query_of_hit) / rank[is_hit]
    return np.bincount(query_of_hit, precision, size), np.bincount(query, minlength=size)


def _alone(tokens: Retrieval, query: int) -> float:
    """Sum of precisions at hits of one query, from all its similarities."""
    similarities = tokens.vectors @ tokens.vectors[query]
    others = np.delete(np.arange(len(similarities)), query)
    keys = _keys(tokens, np.zeros_like(others), others, similarities[others])
    sums, _ = _precision_sums(tokens, slice(query, query + 1), [keys])
    return float(sums[0])
