"""Figures 5 and 6: what a recipe says is what is drawn."""

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from artifacts.errors import InputError
from artifacts.files import write_csv
from artifacts.seeds import generator
from artifacts.settings import load_settings
from eval.masking import draw_mask, read_mask
from eval.schedules import draw_schedules, read_schedule
from spidr.masking import COLUMNS as MASK_COLUMNS
from spidr.masking import mask_rows, sample_masked_frames
from spidr.schedules import COLUMNS, schedule_rows
from spidr.settings import Recipe

RECIPES = Path(__file__).parent.parent / "config" / "spidr"
SPIDR, DINOSR = (load_settings(Recipe, str(RECIPES / f"{name}.yaml")) for name in ("base", "dinosr-base"))


def test_the_schedules_are_those_of_the_paper() -> None:
    rows = {row["step"]: row for row in schedule_rows(SPIDR)}
    assert len(rows) <= 1010
    assert list(rows) == sorted(rows)
    assert [rows[step]["learning_rate"] for step in (0, 6000, 12000, 200000)] == pytest.approx(
        [5e-6, (5e-6 + 5e-4) / 2, 5e-4, 5e-4]
    )
    assert rows[300000]["learning_rate"] == pytest.approx(5e-4 * 0.1)  # half the fall: the square root of 1/100
    assert rows[400000]["learning_rate"] == pytest.approx(5e-6)
    for step in (0, 10000, 40000):
        assert rows[step]["teacher_decay"] == pytest.approx(1 - 0.001 * math.exp(-step / 10000))


def test_dinosrs_teacher_rises_to_30000_and_freezes_at_200000() -> None:
    rows = {row["step"]: row["teacher_decay"] for row in schedule_rows(DINOSR)}
    assert [rows[step] for step in (0, 30000, 199999)] == pytest.approx([0.999, 0.9999, 0.9999])
    assert all((rows[step] is None) == (step >= 200000) for step in rows)


def test_the_figure_has_the_table_and_a_frozen_teacher_keeps_all(tmp_path: Path) -> None:
    for name, recipe in (("spidr", SPIDR), ("dinosr", DINOSR)):
        write_csv(tmp_path / f"{name}.csv", COLUMNS, schedule_rows(recipe))
    schedules = [read_schedule(name, tmp_path / f"{name}.csv") for name in ("spidr", "dinosr")]
    rate, decay = draw_schedules(schedules).axes
    assert max(rate.lines[0].get_ydata()) == pytest.approx(5)  # in units of the title's power of ten
    assert "10^{-4}" in rate.get_title(loc="left")
    spidr, dinosr, frozen = decay.lines
    assert (len(spidr.get_xdata()), max(dinosr.get_xdata())) == (len(schedules[0].steps), 199999)
    assert (list(frozen.get_xdata()), list(frozen.get_ydata())) == ([200000, 400000], [1, 1])


def test_steps_that_do_not_rise_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("step,learning_rate,teacher_decay\n5,0.1,0.9\n5,0.1,\n")
    with pytest.raises(InputError, match=r"table.csv, line 3: step: found 5 after 5, expected a later"):
        read_schedule("A", path)
    path.write_text("step,learning_rate,teacher_decay\n")
    with pytest.raises(InputError, match=r"table.csv: found no step"):
        read_schedule("A", path)


def test_the_mask_is_the_first_batch_of_a_training_in_runs(tmp_path: Path) -> None:
    path = tmp_path / "mask.csv"
    write_csv(path, MASK_COLUMNS, mask_rows(SPIDR, seed=3))
    mask = read_mask(path)
    expected = sample_masked_frames(generator(3, "masks", 0), 17, 674, SPIDR.masking)
    assert mask.masked.shape == (17, 674)
    assert [np.flatnonzero(row).tolist() for row in mask.masked] == expected.tolist()
    assert 0.45 < mask.masked.mean() < 1 - 0.92**10
    runs = [len(run) for row in mask.masked for run in "".join("x" if m else " " for m in row).split()]
    assert sorted(mask.span_lengths) == sorted(runs)
    assert f"{mask.masked.mean():.1%} of 17 × 674 frames are masked" in mask.summary


def test_every_black_bar_lies_on_masked_frames(tmp_path: Path) -> None:
    path = tmp_path / "mask.csv"
    path.write_text("row,first_frame,num_frames,masked\n0,0,2,1\n0,2,3,0\n1,0,1,0\n1,1,2,1\n1,3,2,0\n")
    mask = read_mask(path)
    assert mask.masked.astype(int).tolist() == [[1, 1, 0, 0, 0], [0, 1, 1, 0, 0]]
    [axes] = draw_mask(mask).axes
    black = [bar for bar in axes.patches if sum(bar.get_facecolor()[:3]) < 1]
    assert [(round(bar.get_y() + bar.get_height() / 2), bar.get_x(), bar.get_width()) for bar in black] == [
        (0, 0, 2),
        (1, 1, 2),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("0,0,2,1\n0,3,1,0\n", "line 3: found frame 3 of row 0, expected frame 2 of row 0, or the next row's first"),
        ("1,0,2,1\n", "line 2: found frame 0 of row 1, expected frame 0 of row 0"),
        ("0,0,2,1\n1,0,3,1\n", "mask.csv: found rows of 2 to 3 frames, expected one length"),
        ("0,0,2,maybe\n", 'line 2: masked: found "maybe"'),
        ("", "found no row, expected some"),
    ],
)
def test_a_mask_with_gaps_is_refused(tmp_path: Path, rows: str, message: str) -> None:
    path = tmp_path / "mask.csv"
    path.write_text("row,first_frame,num_frames,masked\n" + rows)
    with pytest.raises(InputError, match=message):
        read_mask(path)


def test_the_entry_points_hand_their_tables_on(tmp_path: Path) -> None:
    def run(*arguments: str) -> None:
        done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    recipe = str(RECIPES / "tiny.yaml")
    run("spidr.schedules", "--settings", recipe, "--output", str(tmp_path / "s.csv"))
    run("eval.schedules", "--schedules", f"SpidR={tmp_path}/s.csv", "--output", str(tmp_path / "figure_05"))
    run("spidr.masking", "--settings", recipe, "--seed", "1", "--output", str(tmp_path / "m.csv"))
    run("eval.masking", "--mask", str(tmp_path / "m.csv"), "--output", str(tmp_path / "figure_06"))
    for number in ("05", "06"):
        assert (tmp_path / f"figure_{number}.pdf").read_bytes().startswith(b"%PDF")
