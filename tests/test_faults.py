"""Nothing is lost: a run killed at any moment, started again, ends with the same values."""

import random
import shutil
from pathlib import Path

import pytest
from fault_harness import disturbed, made
from test_workflow import scores


def same_values(run: Path, tiny: Path) -> None:
    assert scores(run) == scores(tiny)
    found, expected = made(run), made(tiny)
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []


def test_tiny_killed_up_to_five_times_ends_with_the_same_values(tiny: Path, tmp_path: Path) -> None:
    everything, one_process = True, False
    kills = [*disturbed(tmp_path / "run", random.Random(0), [everything] * 3 + [one_process] * 2)]
    assert [kill.victim for kill in kills[:3]] == ["all"] * 3
    same_values(tmp_path / "run", tiny)


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
