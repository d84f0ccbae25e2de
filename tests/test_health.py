"""The health of units: counts that can be done by hand, and a warning where units collapse."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from artifacts.errors import InputError
from units.health import health, warnings
from units.records import UnitSequence, write_units


@pytest.fixture
def units(tmp_path: Path) -> Path:
    path = tmp_path / "dev.jsonl"
    write_units(path, [UnitSequence("a", [0, 1, 0], [1, 4, 1]), UnitSequence("b", [3], [2]), UnitSequence("c", [], [])])
    return path


def test_figures_are_those_counted_by_hand(units: Path) -> None:
    assert health(units, num_units=5, frame_rate_hz=50) == {
        "utterances": 3,
        "frames": 8,
        "units": 4,
        "active_units": 3,
        "entropy_bits": 1.5,  # shares 1/4, 1/2, 1/4
        "perplexity": 2**1.5,
        "deduplication_rate": 0.5,
        "units_per_second": 25.0,
        "longest_run_frames": 4,
        "largest_share": 0.5,
    }


def test_a_unit_that_takes_over_has_no_entropy_and_a_warning(tmp_path: Path) -> None:
    write_units(tmp_path / "dev.jsonl", [UnitSequence("a", [7], [90])])
    figures = health(tmp_path / "dev.jsonl", num_units=50, frame_rate_hz=50)
    assert (figures["entropy_bits"], figures["perplexity"]) == (0.0, 1.0)
    assert warnings(figures, 50) == ["one unit takes 100% of the frames", "only 1 of 50 units are used"]


def test_healthy_units_give_no_warning(units: Path) -> None:
    assert warnings(health(units, 5, 50.0), 5) == []


def test_a_unit_outside_the_inventory_is_named(units: Path) -> None:
    with pytest.raises(InputError, match=r"dev\.jsonl: b: found unit 3, expected units below 3"):
        health(units, num_units=3, frame_rate_hz=50)


def test_a_file_without_units_is_refused(tmp_path: Path) -> None:
    write_units(tmp_path / "dev.jsonl", [])
    with pytest.raises(InputError, match=r"dev\.jsonl: found no unit"):
        health(tmp_path / "dev.jsonl", num_units=3, frame_rate_hz=50)


def test_the_command_reports_each_corpus_and_warns(units: Path, tmp_path: Path) -> None:
    write_units(tmp_path / "train.jsonl", [UnitSequence("a", [7], [90])])
    (tmp_path / "config.json").write_text('{"num_units": 10, "frame_rate_hz": 50.0}')
    options = [units, tmp_path / "train.jsonl", "--vocabulary", tmp_path / "config.json"]
    command = [sys.executable, "-m", "units.health", "--units", *map(str, options)]
    done = subprocess.run([*command, "--output", str(tmp_path / "health.json")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "warning: train: one unit takes 100% of the frames\n"
    report = json.loads((tmp_path / "health.json").read_text())
    assert (report["num_units"], report["frame_rate_hz"]) == (10, 50.0)
    assert list(report["corpora"]) == ["dev", "train"]
    (tmp_path / "config.json").write_text('{"num_units": "ten"}')
    done = subprocess.run([*command, "--output", str(tmp_path / "health.json")], capture_output=True, text=True)
    assert done.returncode == 2
    assert "config.json: num_units: found 'ten', expected a positive whole number" in done.stderr
