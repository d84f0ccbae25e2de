"""The line entered with recordings and annotations of one's own."""

import csv
from pathlib import Path

import pytest
from conftest import REPOSITORY, snakemake

CHANCE = 0.5


@pytest.mark.slow
def test_the_recorded_experiment_runs_and_its_scores_make_sense(recorded: Path, tmp_path: Path) -> None:
    done = snakemake(tmp_path, "all", experiment=REPOSITORY / "config" / "recorded.yaml")
    assert done.returncode == 0, done.stderr[-5000:]
    with (tmp_path / "results" / "recorded" / "scores.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))

    def best(metric: str, encoder: str, condition: str = "") -> float:
        """The encoder's best layer: lowest ABX error, highest of the others."""
        values = [
            float(row["value"])
            for row in rows
            if (row["metric"], row["encoder"], row["condition"]) == (metric, encoder, condition)
        ]
        return min(values) if metric.startswith("abx") else max(values)

    assert best("pnmi", "phones") == pytest.approx(1, abs=1e-12)
    for condition in ("within", "across"):
        assert best("abx_units", "phones", condition) < 0.02
        mfcc, untrained, trained = (
            best("abx_continuous", encoder, condition) for encoder in ("mfcc", "spidr-untrained", "spidr")
        )
        assert abs(untrained - CHANCE) < 0.1
        assert mfcc < trained < untrained - 0.05
    assert best("pnmi", "spidr-untrained") < best("pnmi", "mfcc")
    assert best("map_words", "spidr-untrained", "strict") < best("map_words", "mfcc", "strict")
