"""Which passes over audio an experiment needs: what is wanted of one encoder is made together.

A pass reads audio once for several layers or systems. What an earlier pass has made stays that pass',
as the folders under ``passes/`` tell; what no pass has made yet becomes a new one. So a further layer
costs one pass for itself, and is no cause to make the others again.
"""

import hashlib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from artifacts.files import read_json_object, require_keys

RECORD = "pass.json"
"""What a pass writes last."""


def layer_pass(folder: Path, layers: Collection[int], layer: int) -> str:
    """Name of the pass that makes a layer's frames: all its layers, ``01+02+04``.

    Args:
        folder: Where the passes lie that made frames of this kind and corpus.
        layers: Layers wanted.
    """
    made = {record.parent.name: layers_of(record.parent.name) for record in sorted(folder.glob(f"*/{RECORD}"))}
    for name, found in made.items():
        if layer in found:
            return name
    return "+".join(f"{wanted:02d}" for wanted in sorted(set(layers).difference(*made.values())))


def layers_of(name: str) -> list[int]:
    """Layers that a pass makes."""
    return [int(layer) for layer in name.split("+")]


class UnitPass(NamedTuple):
    """A pass that makes the units of each of its systems for each of its corpora."""

    name: str
    systems: list[str]
    corpora: list[str]
    shards: int
    """Jobs it is shared out among."""

    def quantizers(self, encoder: str) -> list[str]:
        """Folder of each system's quantizer, ``<encoder>/L06/<quantizer>``."""
        parts = [system.removeprefix(f"{encoder}-").partition("-") for system in self.systems]
        return [f"{encoder}/{layer}/{quantizer}" for layer, _, quantizer in parts]

    def records(self, folder: str) -> list[str]:
        """The record of each shard."""
        return [f"{folder}/{self.name}/{shard}-of-{self.shards}/{RECORD}" for shard in range(self.shards)]


def unit_passes(
    folder: Path, wanted: Mapping[str, Sequence[str]], trained_on: Collection[str], shards: int
) -> list[UnitPass]:
    """The passes that make the units of one encoder.

    Args:
        folder: Where those lie that there were.
        wanted: Corpus -> systems whose units of it are wanted.
        trained_on: Corpora that language models read. They share no pass with evaluation sets, so that another
            evaluation set is no cause to make their units again.
        shards: Jobs that a new pass is shared out among; an earlier one keeps its own.

    Raises:
        InputError: The record of a pass is damaged.
    """
    passes = []
    missing = {corpus: set(systems) for corpus, systems in wanted.items()}
    for made in _made(folder):
        useful = [corpus for corpus in made.corpora if missing.get(corpus, set()).intersection(made.systems)]
        if useful:
            passes.append(made)  # whole, whatever is no longer wanted of it: else it would be made again
        for corpus in useful:
            missing[corpus].difference_update(made.systems)
    together: dict[tuple[tuple[str, ...], bool], list[str]] = {}
    for corpus, names in missing.items():
        if names:
            together.setdefault((tuple(sorted(names)), corpus in trained_on), []).append(corpus)
    for (names_of_all, _), corpora in together.items():
        content = " ".join([*names_of_all, "of", *sorted(corpora)])
        name = hashlib.sha256(content.encode()).hexdigest()[:8]
        passes.append(UnitPass(name, list(names_of_all), corpora, shards))
    return passes


def _made(folder: Path) -> list[UnitPass]:
    found = {}
    for record in sorted(folder.glob(f"*/*-of-*/{RECORD}")):
        content = read_json_object(record)
        require_keys(content, {"systems": list, "corpora": list}, record)
        name, shards = record.parent.parent.name, int(record.parent.name.rpartition("-")[2])
        found[name] = UnitPass(name, content["systems"], content["corpora"], shards)
    return list(found.values())
