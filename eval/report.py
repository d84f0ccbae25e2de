"""The report: one HTML page that needs nothing beside it: a short story, then tables, figures, units and provenance.

python -m eval.report --experiment demo --scores results/demo/scores.csv --score-folder results/demo/scores
    --table 1 2 --figures results/demo/figures --alignment results/demo/figures/alignment.png
    --manifests results/demo/corpora/*/manifest.csv --encoders spidr=results/demo/encoders/spidr
    --trainings results/demo/slm/*/*/seed*/summary.json --health results/demo/units/*/health.json
    --samples results/demo/samples/*.json
    --config config/demo.yaml --output results/demo/report.html
"""

import argparse
import base64
import platform
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from artifacts.errors import InputError, run
from artifacts.files import atomic_file, read_json, read_json_object, require_keys
from artifacts.provenance import git_commit, versions
from artifacts.settings import read_yaml
from eval.account import account, certainty, device_text
from eval.compare import HEADINGS
from eval.comparisons import compare_all
from eval.evidence import Files, score_files
from eval.figures import CAPTIONS
from eval.materials import Materials, read_encoder, read_language_model, read_speech
from eval.metrics import metric
from eval.rendering import MEAN_INTERVALS, Table, interval_text
from eval.results import read_results
from eval.scores import FIELDS
from eval.story import tell
from eval.system_pages import system_pages
from eval.tables import add_table_arguments, make_tables
from eval.wording import time_text

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


def read_alignment(png: Path) -> dict[str, Any]:
    """The alignment figure: what it shows, from the JSON beside it, and the picture.

    Raises:
        InputError: The figure or its JSON is absent, or says too little.
    """
    about = png.with_suffix(".json")
    shown = read_json_object(about)
    kinds = {"corpus": str, "fileid": str, "speaker": str, "duration_s": float, "words": list, "num_phones": int}
    require_keys(shown, {**kinds, "systems": list}, about)
    if not png.is_file():
        raise InputError(f"{png}: no such file")
    return {**shown, "png": picture(png)}


def read_samples(path: Path) -> dict[str, Any]:
    """Pairs to listen to, as `eval.samples` writes them.

    Raises:
        InputError: The file is absent or malformed.
    """
    shown = read_json_object(path)
    require_keys(shown, {"metric": str, "dataset": str, "pairs": list}, path)
    return shown


def picture(path: Path) -> str:
    """A picture as text that a page can hold."""
    return in_text(path.read_bytes())


def in_text(content: bytes) -> str:
    """A file as text that a page can hold."""
    return base64.b64encode(content).decode("ascii")


def emphasised(text: str) -> Markup:
    """Text as the page has it; what stands between ``**`` is bold."""
    return Markup(re.sub(r"\*\*(.+?)\*\*", r"<b>\1</b>", str(escape(text))))


def drawn_figures(folder: Path) -> dict[int, Path]:
    """Files ``figure_<number>.png`` of a folder by number, in order."""
    found = {}
    for path in folder.glob("figure_*.png"):
        if match := re.fullmatch(r"figure_(\d+)", path.stem):
            found[int(match.group(1))] = path
    return dict(sorted(found.items()))


def render_report(
    experiment: str,
    scores: Sequence[Path],
    *,
    tables: Sequence[Table],
    figures: Path,
    health: Sequence[Path],
    config: Path | None,
    materials: Materials | None = None,
    files: Files | None = None,
    alignment: Path | None = None,
    samples: Sequence[Path] = (),
) -> str:
    """The page as text.

    Args:
        scores: Score tables.
        tables: The tables that are wanted; their intervals are shown.
        figures: Folder of the figures, drawn already.
        health: health.json of each system, in the folder of its name.
        config: The experiment file, to be quoted.
        materials: What the experiment was made of; without it there is no story.
        files: Score files, with the tables of their items beside them; without them comparisons are not paired.
        alignment: PNG of the alignment figure, its JSON beside it.
        samples: Pairs of evaluation sets to listen to, as `eval.samples` writes them.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    results = read_results(scores)
    made_of = materials or Materials()
    reports = [read_health(path) for path in health]
    provenance = {
        "commit": git_commit() or "not in git",
        "Python": platform.python_version(),
        **versions(),
        **({} if config is None else {"experiment file": config.name, "seed": read_yaml(config).get("seed", 0)}),
    }
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.globals.update(interval_text=interval_text, metric=metric, in_text=in_text)
    environment.filters.update(time=time_text, device=device_text, emphasised=emphasised)
    pages = system_pages(results, reports, made_of, files or {})
    comparisons = compare_all(pages, files or {})
    return environment.get_template("report.html.j2").render(
        experiment=experiment,
        models={result.encoder: result.model for result in results},
        account=account(results, made_of),
        materials=made_of,
        chapters=tell(results, made_of, reports, files or {}),
        certainty=certainty(results, made_of, files or {}, comparisons),
        alignment=None if alignment is None else read_alignment(alignment),
        results=[result.model_dump() for result in results],
        fields=FIELDS,
        tables=tables,
        mean_intervals=MEAN_INTERVALS,
        figures=[
            {
                "number": number,
                "caption": CAPTIONS[number],
                "png": picture(path),
            }
            for number, path in drawn_figures(figures).items()
            if number in CAPTIONS
        ],
        health=reports,
        systems=pages,
        comparisons=comparisons,
        comparison_headings=HEADINGS,
        samples=[read_samples(path) for path in samples],
        provenance=provenance,
        config=None if config is None else config.read_text(encoding="utf-8"),
    )


def named_folder(text: str) -> tuple[str, Path]:
    """A name and a folder from ``name=folder``.

    Raises:
        InputError: There is no ``=``.
    """
    name, separator, folder = text.partition("=")
    if not (name and separator and folder):
        raise InputError(f"--encoders: found {text!r}, expected name=folder")
    return name, Path(folder)


def main() -> None:
    """Entry point: everything an experiment made in, one page out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--experiment", required=True, help="its name, the title of the page")
    parser.add_argument("--scores", type=Path, nargs="+", required=True, help="scores.csv")
    parser.add_argument("--score-folder", type=Path, help="folder of the score files, for paired comparisons")
    add_table_arguments(parser)
    parser.add_argument("--figures", type=Path, required=True, help="folder of the figures")
    parser.add_argument("--alignment", type=Path, help="PNG of the alignment figure")
    parser.add_argument("--manifests", type=Path, nargs="*", default=[], help="corpora/<corpus>/manifest.csv of each")
    parser.add_argument("--encoders", nargs="*", default=[], metavar="NAME=FOLDER", help="encoders, in their order")
    parser.add_argument("--trainings", type=Path, nargs="*", default=[], help="summary.json of each language model")
    parser.add_argument("--health", type=Path, nargs="*", default=[], help="units/<system>/health.json of each system")
    parser.add_argument("--samples", type=Path, nargs="*", default=[], help="pairs to listen to, from eval.samples")
    parser.add_argument("--config", type=Path, help="the experiment file, quoted under provenance")
    parser.add_argument("--output", type=Path, required=True, help="HTML page")
    given = parser.parse_args()
    experiment = read_yaml(given.config) if given.config else {}
    if not isinstance(experiment, dict):
        raise InputError(f"{given.config}: found {str(experiment)[:40]!r}, expected an experiment")
    materials = Materials(
        speech=[read_speech(path, experiment) for path in given.manifests],
        encoders=[read_encoder(*named_folder(text)) for text in given.encoders],
        language_models=[read_language_model(path) for path in given.trainings],
    )
    page = render_report(
        given.experiment,
        given.scores,
        tables=list(make_tables(given).values()),
        figures=given.figures,
        health=given.health,
        config=given.config,
        materials=materials,
        files=score_files(given.score_folder) if given.score_folder else {},
        alignment=given.alignment,
        samples=given.samples,
    )
    with atomic_file(given.output) as temporary:
        temporary.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    run(main)
