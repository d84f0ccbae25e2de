"""The health of units: counts that can be done by hand, and a warning where units collapse."""

import json
import os
import subprocess
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from artifacts.errors import InputError
from units.health import health, warnings
from units.records import UnitSequence, UntimedUnits, write_units


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


@given(st.lists(st.lists(st.integers(0, 5), max_size=12), min_size=1, max_size=4).filter(any))
def test_figures_are_those_of_a_plain_count_of_frames(
    tmp_path_factory: pytest.TempPathFactory, utterances: list[list[int]]
) -> None:
    path = tmp_path_factory.mktemp("units") / "dev.jsonl"
    runs = [[(unit, len(list(run))) for unit, run in groupby(frames)] for frames in utterances]
    write_units(
        path, [UnitSequence(f"u{i}", [unit for unit, _ in run], [n for _, n in run]) for i, run in enumerate(runs)]
    )
    frames = [unit for utterance in utterances for unit in utterance]
    counts = Counter(frames)
    num_runs = sum(map(len, runs))
    figures = health(path, num_units=6, frame_rate_hz=25)
    assert figures["active_units"] == len(counts)
    assert figures["entropy_bits"] == pytest.approx(entropy(list(counts.values()), base=2), abs=1e-12)
    assert figures["largest_share"] == pytest.approx(max(counts.values()) / len(frames))
    assert figures["deduplication_rate"] == pytest.approx((len(frames) - num_runs) / len(frames))
    assert figures["units_per_second"] == pytest.approx(num_runs / (len(frames) / 25))
    assert figures["longest_run_frames"] == max(n for run in runs for _, n in run)


def test_a_warning_begins_where_a_unit_has_more_than_half_of_the_frames(tmp_path: Path) -> None:
    for rest, expected in ((50, []), (49, ["one unit takes 51% of the frames"])):
        write_units(tmp_path / "dev.jsonl", [UnitSequence("a", [0, 1, 2], [50, rest - 9, 9])])
        assert warnings(health(tmp_path / "dev.jsonl", 3, 50.0), 3) == expected


def test_a_warning_begins_where_fewer_than_a_tenth_of_the_units_are_used(units: Path) -> None:
    figures = health(units, 31, 50.0)
    assert warnings(figures, 30) == []
    assert warnings(figures, 31) == ["only 3 of 31 units are used"]


def test_units_without_durations_are_refused_with_one_line(tmp_path: Path) -> None:
    write_units(tmp_path / "dev.jsonl", [UnitSequence("a", [0], [1]), UntimedUnits("b", [0, 1])])
    (tmp_path / "config.json").write_text('{"num_units": 10, "frame_rate_hz": 50.0}')
    options = ["--units", "dev.jsonl", "--vocabulary", "config.json", "--output", "health.json"]
    done = subprocess.run(
        [sys.executable, "-m", "units.health", *options],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr == "error: dev.jsonl, line 2: found keys fileid, units, expected also durations\n"
    assert not (tmp_path / "health.json").exists()


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
