"""The footprint of a pretraining: from its summary to table 4."""

import re
from pathlib import Path
from typing import Any

import pytest

from artifacts.errors import InputError
from artifacts.files import write_json
from eval.footprint import footprint, main, read_footprints
from eval.training_tables import read_hyperparameters, table_4

SUMMARY = {"steps": 400_000, "seconds": 82_800.0, "device": "NVIDIA A100", "num_devices": 16, "hours": 1.5}


def summary(folder: Path, **changed: Any) -> Path:
    write_json(folder / "summary.json", SUMMARY | changed)
    return folder / "summary.json"


def test_device_hours_are_hours_times_devices(tmp_path: Path) -> None:
    found = footprint("SpidR", summary(tmp_path))
    assert (found.gpu, found.num_gpus, found.steps) == ("NVIDIA A100", 16, 400_000)
    assert found.pretraining_time_h == 23  # 82,800 s
    assert found.gpu_hours == 368
    assert footprint("SpidR", summary(tmp_path, device="cpu")).gpu == "CPU"


def test_what_is_written_is_read_and_set_in_table_4(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fast, slow = summary(tmp_path / "a"), summary(tmp_path / "b", seconds=7, steps=150, num_devices=1, device="cpu")
    output = tmp_path / "footprint.csv"
    monkeypatch.setattr("sys.argv", ["x", "--training", f"Spid=R={fast}", f"Tiny={slow}", "--output", str(output)])
    main()
    assert output.read_text().splitlines() == [
        "model,gpu,num_gpus,steps,pretraining_time_h,gpu_hours",
        "Spid=R,NVIDIA A100,16,400000,23.0,368.0",
        "Tiny,CPU,1,150,0.0019,0.0019",
    ]
    rows = [row.labels for row in table_4({"ours": read_footprints(output)}).rows]
    assert rows == [("Spid=R", "NVIDIA A100 × 16", "400k", "23", "368"), ("Tiny", "CPU × 1", "150", "0.0019", "0.0019")]


def test_sources_are_blocks_of_table_4(tmp_path: Path) -> None:
    one = [footprint("SpidR", summary(tmp_path))]
    assert [block for block, _ in table_4({"published": one, "ours": one}).blocks()] == ["published", "ours"]
    assert [block for block, _ in table_4({"ours": one}).blocks()] == [""]


def test_a_summary_that_says_too_little_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"summary.json: num_devices: found None, expected int"):
        footprint("SpidR", summary(tmp_path, num_devices=None))
    with pytest.raises(InputError, match=r"absent.json: no such file"):
        footprint("SpidR", tmp_path / "absent.json")


def test_a_malformed_footprint_is_named_by_line(tmp_path: Path) -> None:
    path = tmp_path / "f.csv"
    path.write_text("model,gpu,num_gpus,steps,pretraining_time_h,gpu_hours\nA,B,many,1,1,1\n")
    with pytest.raises(InputError, match=re.escape(f'{path}, line 2: num_gpus: found "many"')):
        read_footprints(path)


def test_an_encoder_without_a_recipe_has_no_hyperparameters(tmp_path: Path) -> None:
    config = tmp_path / "config.json"
    write_json(config, {"provenance": {"settings": {"layout": "released"}}})
    with pytest.raises(InputError, match=r"config.json: found no provenance.settings.model, expected an encoder"):
        read_hyperparameters(config)
