"""The report: one HTML page that needs nothing beside it, with tables, figures, units and provenance.

python -m eval.report --experiment demo --scores results/demo/scores.csv --tables results/demo/tables
    --figures results/demo/figures --health results/demo/units/*/health.json --output results/demo/report.html
"""

import argparse
import base64
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_json
from artifacts.provenance import git_commit, versions
from artifacts.settings import read_yaml
from eval.figures import FIGURES
from eval.rendering import MEAN_INTERVALS, interval_text, value_text
from eval.results import read_results
from eval.scores import FIELDS
from eval.tables import TABLES

TEMPLATES = Path(__file__).parent.parent / "workflow" / "report"
HEALTH_FIGURES = (
    *("frames", "units", "active_units", "perplexity"),
    *("units_per_second", "longest_run_frames", "largest_share"),
)


def read_health(path: Path) -> dict[str, Any]:
    """A system's unit health, named by its folder.

    Raises:
        InputError: A figure that the report shows is missing.
    """
    health = read_json(path)
    if not isinstance(health, dict) or "num_units" not in health or not isinstance(health.get("corpora"), dict):
        raise InputError(f"{path}: expected num_units and corpora")
    for corpus, figures in health["corpora"].items():
        if missing := [name for name in HEALTH_FIGURES if name not in figures]:
            raise InputError(f"{path}: {corpus}: found no {', '.join(missing)}")
    return {"name": path.parent.name, **health}


def numbered(folder: Path, stem: str, extension: str) -> dict[int, Path]:
    """Files ``<stem>_<number>.<extension>`` of a folder by number, in order."""
    found = {}
    for path in folder.glob(f"{stem}_*.{extension}"):
        if match := re.fullmatch(rf"{stem}_(\d+)", path.stem):
            found[int(match.group(1))] = path
    return dict(sorted(found.items()))


def render_report(
    experiment: str,
    scores: Sequence[Path],
    *,
    tables: Path,
    figures: Path,
    health: Sequence[Path],
    config: Path | None,
) -> str:
    """The page as text.

    Args:
        scores: Score tables; the tables are set anew from them, so that they carry their intervals.
        tables: Folder of the tables that are wanted.
        figures: Folder of the figures, drawn already.
        health: health.json of each system, in the folder of its name.
        config: The experiment file, to be quoted.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = read_results(scores)
    provenance = {
        "commit": git_commit() or "not in git",
        "Python": platform.python_version(),
        **versions(),
        **({} if config is None else {"experiment file": config.name, "seed": read_yaml(config).get("seed", 0)}),
    }
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.globals.update(value_text=value_text, interval_text=interval_text)
    return environment.get_template("report.html.j2").render(
        experiment=experiment,
        models=list(dict.fromkeys(result.model for result in results)),
        results=[result.model_dump() for result in results],
        fields=FIELDS,
        tables=[TABLES[number](results) for number in numbered(tables, "table", "csv") if number in TABLES],
        mean_intervals=MEAN_INTERVALS,
        figures=[
            {
                "number": number,
                "caption": FIGURES[number].caption,
                "png": base64.b64encode(path.read_bytes()).decode("ascii"),
            }
            for number, path in numbered(figures, "figure", "png").items()
            if number in FIGURES
        ],
        health=[read_health(path) for path in health],
        provenance=provenance,
        config=None if config is None else config.read_text(encoding="utf-8"),
    )


def main() -> None:
    """Entry point: everything an experiment made in, one page out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", required=True, help="its name, the title of the page")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.csv")
    parser.add_argument("--tables", type=Path, required=True, help="folder of the tables")
    parser.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--health", type=Path, nargs="*", default=[], help="units/<system>/health.json of each system")
    parser.add_argument("--config", type=Path, help="the experiment file, quoted under provenance")
    parser.add_argument("--output", type=Path, required=True, help="HTML page")
    given = parser.parse_args()
    page = render_report(
        given.experiment,
        given.scores,
        tables=given.tables,
        figures=given.figures,
        health=given.health,
        config=given.config,
    )
    with atomic_file(given.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
