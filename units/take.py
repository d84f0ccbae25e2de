"""What a pass has made, taken out of its folder under the name that other rooms read it by.

Units of several jobs become one file; anything else gets a second name for the same bytes, where the
disk has such links.
"""

import argparse
import shutil
from collections.abc import Sequence
from pathlib import Path

from artifacts.errors import MADE_ANEW, InputError, run
from artifacts.files import atomic_file, link_or_copy
from corpora.manifest import read_manifest
from units.features import FeatureReader
from units.records import read_units


def take_units(pieces: Sequence[Path], manifest: Path, output: Path) -> None:
    """Join the pieces of a corpus' units.

    Args:
        pieces: JSONL of units, one a shard, in the order of the shards.

    Raises:
        InputError: A piece is missing or malformed, or they are not the utterances of the manifest in their order.
    """
    expected = iter(read_manifest(manifest))
    for piece in pieces:
        made_anew = MADE_ANEW.replace("it", str(piece.parent.parent), 1)
        try:
            for sequence in read_units(piece):
                utterance = next(expected, None)
                if utterance is None or utterance.fileid != sequence.fileid:
                    raise InputError(
                        f"{piece}: found utterance {sequence.fileid}, expected "
                        f"{utterance.fileid if utterance else 'no more'}: the order of {manifest}"
                    )
        except InputError as error:
            raise InputError(f"{error}: {made_anew}") from None
    left_over = next(expected, None)
    if left_over is not None:
        raise InputError(
            f"{pieces[-1]}: ends before utterance {left_over.fileid}, expected all of {manifest}: {made_anew}"
        )
    if len(pieces) == 1:
        link_or_copy(pieces[0], output)
        return
    with atomic_file(output) as temporary, temporary.open("wb") as file:
        for piece in pieces:
            with piece.open("rb") as part:
                shutil.copyfileobj(part, file)


def take_features(folder: Path, output: Path) -> None:
    """Give a feature set its place.

    Raises:
        InputError: There is no whole feature set in the folder.
    """
    FeatureReader(folder).check()
    link_or_copy(folder, output)


def main() -> None:
    """Take units or features out of the folder of the pass that made them."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    made = parser.add_mutually_exclusive_group(required=True)
    made.add_argument("--units", type=Path, nargs="+", help="JSONL of units, one a shard, in the order of the shards")
    made.add_argument("--features", type=Path, help="feature set")
    parser.add_argument("--manifest", type=Path, help="the corpus, for units")
    parser.add_argument("--output", type=Path, required=True, help="JSONL of units, or feature folder")
    given = parser.parse_args()
    if given.features:
        take_features(given.features, given.output)
        return
    if given.manifest is None:
        raise InputError("--manifest: missing, expected the corpus that the units are of")
    take_units(given.units, given.manifest, given.output)


if __name__ == "__main__":
    run(main)
