"""The layer that an experiment calls ``best``: the one whose features have the lowest mean ABX error.

The mean is over the corpora and speaker conditions of continuous ABX, triphones within context: in the paper those of
dev-clean and dev-other, within and across speakers. Tables select their layers by the same rule.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import write_json
from eval.metrics import METRICS
from eval.results import Result, selected_layers
from eval.scores import FIELDS, read_scores

METRIC = "abx_continuous"


def best_layer(paths: Sequence[Path]) -> dict[str, Any]:
    """The best layer of an encoder from the continuous ABX scores of its layers.

    Returns:
        ``encoder``, ``layer``, and ``abx_continuous``: the mean of each layer.

    Raises:
        InputError: A score of another metric, condition or encoder, or layers scored on different things.
    """
    results = [Result(**{field: score[field] for field in FIELDS}) for score in read_scores(paths)]
    scored: dict[int, dict[tuple[str, str | None], float]] = {}
    for path, result in zip(paths, results, strict=True):
        if result.metric != METRIC or result.condition not in METRICS[METRIC].conditions or result.layer is None:
            found = f"{result.metric} {result.condition or ''} of layer {result.layer}"
            raise InputError(f"{path}: found {found}, expected {METRIC} within or across of a layer")
        if result.encoder != results[0].encoder:
            raise InputError(f"{path}: found encoder {result.encoder}, expected {results[0].encoder} as in {paths[0]}")
        scored.setdefault(result.layer, {})[result.dataset, result.condition] = result.value
    first = next(iter(scored))
    for layer, values in scored.items():
        if values.keys() != scored[first].keys():
            raise InputError(
                f"{paths[0]}: layer {layer} is scored on other things than layer {first}, expected the same"
            )
    (selected,) = selected_layers(results).values()
    means = {str(layer): fmean(values.values()) for layer, values in sorted(scored.items())}
    return {"encoder": results[0].encoder, "layer": selected, METRIC: means}


def main() -> None:
    """Entry point: the continuous ABX scores of an encoder's layers in, the best layer out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="continuous ABX scores of all layers")
    parser.add_argument("--output", type=Path, required=True, help="JSON file")
    given = parser.parse_args()
    found = best_layer(given.scores)
    write_json(given.output, found)
    print(f"{found['encoder']}: layer {found['layer']}")


if __name__ == "__main__":
    run(main)
