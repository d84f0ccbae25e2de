"""What pretraining cost, from the summaries of the trainings: table 4 and figure 4 of the paper.

python -m eval.footprint --training SpidR=results/demo/encoders/spidr/training/summary.json --output footprint.csv
"""

import argparse
from collections.abc import Iterable
from pathlib import Path

from artifacts.errors import run
from artifacts.files import read_csv, read_json_object, require_keys, write_csv
from artifacts.settings import Settings, parse_settings
from eval.naming import named_path


class Footprint(Settings):
    """What one pretraining cost, one row of ``footprint.csv``."""

    model: str
    """Name of the model as tables print it."""
    gpu: str
    """Kind of device, as its driver names it; CPU where there was none."""
    num_gpus: int
    """Devices; of an interrupted training, those of its last run."""
    steps: int
    """Steps of the optimiser."""
    pretraining_time_h: float
    """Wall-clock time in hours, of all runs of an interrupted training."""
    gpu_hours: float
    """Hours times devices."""


FIELDS = tuple(Footprint.model_fields)


def footprint(model: str, summary: Path) -> Footprint:
    """The footprint of the training that wrote a ``summary.json``.

    Args:
        model: Name of the model as tables print it.

    Raises:
        InputError: The file is absent, or not the summary of a pretraining.
    """
    found = read_json_object(summary)
    require_keys(found, {"steps": int, "seconds": float, "device": str, "num_devices": int}, summary)
    hours = found["seconds"] / 3600
    return Footprint(
        model=model,
        gpu=found["device"].replace("cpu", "CPU"),
        num_gpus=found["num_devices"],
        steps=found["steps"],
        pretraining_time_h=hours,
        gpu_hours=hours * found["num_devices"],
    )


def read_footprints(path: Path) -> list[Footprint]:
    """Read a table with the columns of `Footprint`.

    Raises:
        InputError: A malformed row, named by file and line.
    """
    return [
        parse_settings(Footprint, {field: row[field] for field in FIELDS}, f"{path}, line {line}")
        for line, row in read_csv(path, FIELDS)
    ]


def write_footprints(path: Path, footprints: Iterable[Footprint]) -> None:
    """Write the table, hours to the second."""
    rows = (one.model_dump() for one in footprints)
    hours = ("pretraining_time_h", "gpu_hours")
    write_csv(path, FIELDS, (row | {field: round(row[field], 4) for field in hours} for row in rows))


def main() -> None:
    """Entry point: summaries of trainings in, footprint.csv out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--training", nargs="+", required=True, metavar="MODEL=SUMMARY", help="summary.json of each")
    parser.add_argument("--output", type=Path, required=True, help="footprint.csv")
    given = parser.parse_args()
    write_footprints(given.output, [footprint(*named_path(text, "--training")) for text in given.training])


if __name__ == "__main__":
    run(main)
