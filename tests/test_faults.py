"""Nothing is lost: a run killed at any moment, started again, ends with the same values."""

import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from fault_harness import disturbed, made
from test_workflow import changed_experiment, scores


def keep_one_system(experiment: dict[str, Any]) -> None:
    """One of the tiny experiment's systems from speech to its scores, a table and a figure."""
    encoder = experiment["encoders"]["spidr"] | {"quantizers": ["kmeans50"]}
    experiment.update(encoders={"spidr": encoder}, systems=["spidr-L04-kmeans50"], tables=[2], figures=[2])
    experiment["evaluation"] = {name: experiment["evaluation"][name] for name in ("abx", "quality", "swuggy")}


def same_values(run: Path, tiny: Path) -> None:
    assert scores(run) == scores(tiny)
    found, expected = made(run), made(tiny)
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []


def test_a_system_of_tiny_killed_up_to_five_times_ends_with_the_same_values(tiny: Path, tmp_path: Path) -> None:
    everything, one_process, run = True, False, tmp_path / "run"
    experiment = changed_experiment(tmp_path, keep_one_system)
    kills = [*disturbed(run, random.Random(0), [everything] * 3 + [one_process] * 2, experiment)]
    assert [kill.victim for kill in kills[:3]] == ["all"] * 3

    expected, found = scores(tiny), scores(run)
    assert {row["metric"] for row in found} >= {"abx_continuous", "abx_units", "pnmi", "swuggy_all"}
    assert [row for row in found if row not in expected] == []
    all_made, of_all = made(tiny), ("scores.csv", "tables")  # these two have the rows of all systems
    system = {path: digest for path, digest in made(run).items() if not path.startswith(of_all)}
    kinds = {"corpora", "encoders", "features", "quantizers", "units", "tokens", "slm", "likelihoods"}
    assert {path.partition("/")[0] for path in system} == kinds
    assert [path for path, digest in system.items() if all_made[path] != digest] == []


@pytest.mark.slow
@pytest.mark.parametrize("whole", [False, True], ids=["one process", "all at once"])
def test_tiny_killed_twenty_times_ends_with_the_same_values(tiny: Path, tmp_path: Path, whole: bool) -> None:
    """As many runs as it takes: one that ends is compared, and the next begins from nothing."""
    draw, run, runs = random.Random(2), tmp_path / "run", 0
    left = 20
    while left:
        runs += 1
        for kill in disturbed(run, draw, [whole] * left):
            left -= 1
            print(f"kill {20 - left}, run {runs}: {kill}", flush=True)
        same_values(run, tiny)
        shutil.rmtree(run)
