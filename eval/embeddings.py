"""Phone embeddings in two dimensions: t-SNE of the mean features of phones (appendix B.2; figures 8 and 9).

python -m eval.embeddings --features results/demo/features/spidr/L04/dev --item results/demo/corpora/dev/phoneme.item
    --speakers results/demo/corpora/dev/speakers.csv --dataset dev --output embeddings.csv

As in the paper: ten instances of each phone of each speaker, drawn at random, each the mean of its frames, and t-SNE
(van der Maaten and Hinton 2008) over all of them. `eval.embedding_plots` draws the table that this writes.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from artifacts.errors import InputError, run
from artifacts.files import read_json_object, require_keys, write_csv
from artifacts.seeds import generator, seed_for
from corpora.speakers import read_genders
from eval.frames import FrameSource, by_utterance, feature_frames, read_finite
from eval.segments import Segment, frame_span, read_item
from units.features import FeatureReader

COLUMNS = ("encoder", "layer", "dataset", "fileid", "onset", "offset", "phone", "speaker", "gender", "x", "y")
PER_PHONE_AND_SPEAKER = 10
MOST_TOKENS = 20_000
"""More than the paper's 15,000; it bounds the time, and the memory to 60 MB of 768 dimensions, whatever the corpus."""
FEWEST_TOKENS = 8
PERPLEXITY = 30
"""scikit-learn's default; smaller where there are fewer than three times as many tokens."""

type Vectors = npt.NDArray[np.float32]


def sample_tokens(tokens: Sequence[Segment], seed: int, most: int = MOST_TOKENS) -> list[Segment]:
    """Up to ten tokens of each phone of each speaker, at random, and up to `most` in all; in the order given."""
    rng = generator(seed, "phone embeddings")
    members: dict[tuple[str, str], list[int]] = {}
    for index, token in enumerate(tokens):
        members.setdefault((token.speaker, token.label), []).append(index)
    drawn: list[int] = []
    for indices in members.values():
        drawn += rng.permutation(indices)[:PER_PHONE_AND_SPEAKER].tolist()
    return [tokens[index] for index in sorted(rng.permutation(drawn)[:most].tolist())]


def with_frames(tokens: Sequence[Segment], source: FrameSource) -> list[Segment]:
    """The tokens that hold the centre of a frame: a short phone may lie between two.

    Raises:
        InputError: There are frames of no utterance of the tokens.
    """
    rate = Decimal(str(source.frame_rate_hz))

    def has_frames(token: Segment) -> bool:
        first, end = frame_span(token.onset, token.offset, rate)
        return first < end <= source.num_frames.get(token.fileid, 0)

    found = [token for token in tokens if has_frames(token)]
    if len(found) < FEWEST_TOKENS:
        raise InputError(
            f"{source.path}: found {len(found)} of {len(tokens):,} phones with frames, "
            f"expected {FEWEST_TOKENS} at least"
        )
    return found


def mean_features(tokens: Sequence[Segment], source: FrameSource) -> Vectors:
    """Mean of the frames of each token, (n, dim); one utterance is read at a time.

    Raises:
        InputError: A feature is not finite.
    """
    rate = Decimal(str(source.frame_rate_hz))
    members = by_utterance(tokens)
    vectors: Vectors = np.empty((0, 0), np.float32)
    for fileid, frames in read_finite(source, list(members)):
        if not vectors.size:
            vectors = np.empty((len(tokens), frames.shape[1]), np.float32)
        for index in members[fileid]:
            first, end = frame_span(tokens[index].onset, tokens[index].offset, rate)
            vectors[index] = frames[first:end].mean(0)
    return vectors


def tsne(vectors: Vectors, seed: int) -> npt.NDArray[np.float32]:
    """Two coordinates of each vector, (n, 2), from their Euclidean distances; initialised by PCA."""
    from sklearn.manifold import TSNE

    perplexity = min(PERPLEXITY, (len(vectors) - 1) / 3)
    state = seed_for(seed, "t-SNE") % 2**32
    found: npt.NDArray[np.float32] = TSNE(perplexity=perplexity, init="pca", random_state=state).fit_transform(vectors)
    return found


def embed(
    source: FrameSource, tokens: Sequence[Segment], genders: Mapping[str, str], about: Mapping[str, Any], seed: int
) -> Iterator[dict[str, Any]]:
    """The rows of a table of embeddings.

    Args:
        tokens: Phones of the corpus.
        genders: Of the speakers; empty where it is not known.
        about: What the features are of: encoder, layer, dataset.

    Raises:
        InputError: Too few phones have frames, or a speaker is not known.
    """
    drawn = sample_tokens(with_frames(tokens, source), seed)
    if missing := sorted({token.speaker for token in drawn} - genders.keys()):
        raise InputError(f"speakers: found no {missing[0]}, who speaks in the item file, expected all of its speakers")
    places = tsne(mean_features(drawn, source), seed)
    for token, (x, y) in zip(drawn, places.tolist(), strict=True):
        yield {
            **about,
            **{"fileid": token.fileid, "onset": token.onset, "offset": token.offset, "phone": token.label},
            **{"speaker": token.speaker, "gender": genders[token.speaker], "x": x, "y": y},
        }


def features_of_layer(folders: Sequence[Path], selection: Path | None) -> FeatureReader:
    """The feature set to draw from several layers of an encoder.

    Args:
        selection: What `eval.best_layer` wrote; not needed for a single folder.

    Raises:
        InputError: None of the sets is of the selected layer, or there is no selection among several.
    """
    if selection is None:
        if len(folders) > 1:
            raise InputError(f"--features: found {len(folders)} layers, expected --selection beside them")
        return FeatureReader(folders[0])
    chosen = read_json_object(selection)
    require_keys(chosen, {"encoder": str, "layer": int}, selection)
    for folder in folders:
        reader = FeatureReader(folder)
        if (reader.config.get("encoder"), reader.config.get("layer")) == (chosen["encoder"], chosen["layer"]):
            return reader
    raise InputError(
        f"--features: found none of {chosen['encoder']}, layer {chosen['layer']}, which {selection} selects"
    )


def main() -> None:
    """Entry point: features and phones in, a table of coordinates out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=Path, nargs="+", required=True, help="feature set; of several layers, one")
    parser.add_argument("--selection", type=Path, help="JSON of eval.best_layer: which of several layers")
    parser.add_argument("--item", type=Path, required=True, help="phoneme.item of the corpus")
    parser.add_argument("--speakers", type=Path, required=True, help="CSV: speaker,gender")
    parser.add_argument("--dataset", required=True, help="name of the corpus, as the figure prints it")
    parser.add_argument("--seed", type=int, default=0, help="seed of everything drawn (default 0)")
    parser.add_argument("--output", type=Path, required=True, help=f"CSV: {','.join(COLUMNS)}")
    given = parser.parse_args()
    config = features_of_layer(given.features, given.selection)
    require_keys(config.config, {"encoder": str, "layer": int}, config.folder / "config.json")
    about = {"encoder": config.config["encoder"], "layer": config.config["layer"], "dataset": given.dataset}
    rows = embed(feature_frames(config.folder), read_item(given.item), read_genders(given.speakers), about, given.seed)
    write_csv(given.output, COLUMNS, rows)


if __name__ == "__main__":
    run(main)
