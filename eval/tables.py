"""The paper's tables from scores, ours or from elsewhere: CSV, Markdown and LaTeX.

python -m eval.tables --table 1 2 --scores results/demo/scores.csv --output results/demo/tables
"""

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.errors import InputError, run
from artifacts.files import atomic_file
from eval.beside import beside
from eval.footprint import read_footprints
from eval.further_tables import units_table, zeroshot_table
from eval.naming import named_path
from eval.rendering import Table, to_csv, to_latex, to_markdown
from eval.representation_tables import table_1, table_6, table_7
from eval.results import OURS, Result, read_results
from eval.selection import parse_selections, select
from eval.training_tables import read_hyperparameters, table_4, table_5
from eval.unit_tables import table_2, table_3, table_8

TABLES: dict[int, Callable[[Sequence[Result]], Table]] = {
    1: table_1,
    2: table_2,
    3: table_3,
    6: table_6,
    7: table_7,
    8: table_8,
}
"""The paper's tables of scores."""
FURTHER_TABLES: dict[str, Callable[[Sequence[Result]], Table]] = {"units": units_table, "zeroshot": zeroshot_table}
"""Tables of metrics that the paper does not have."""
FOOTPRINT, HYPERPARAMETERS = "4", "5"
NAMES = (*sorted([*map(str, TABLES), FOOTPRINT, HYPERPARAMETERS]), *FURTHER_TABLES)


def table_stem(name: str | int) -> str:
    """What files of a table are called, and its selection: ``table_2``, ``zeroshot``."""
    return f"table_{name}" if str(name).isdigit() else str(name)


def arranged(results: Sequence[Result], encoders: Mapping[str, str | None]) -> list[Result]:
    """The results with ours in the order of an experiment's encoders, each in its group.

    Args:
        encoders: Encoder -> its group, or None. Those it does not name come last.
    """
    order = list(encoders)
    sources = list(dict.fromkeys(result.source for result in results))

    def place(result: Result) -> tuple[int, int]:
        ours = result.source == OURS
        index = (order.index(result.encoder) if result.encoder in encoders else len(order)) if ours else 0
        return sources.index(result.source), index

    def in_group(result: Result) -> Result:
        group = encoders.get(result.encoder) if result.source == OURS else None
        return result.model_copy(update={"group": group}) if group else result

    return [in_group(result) for result in sorted(results, key=place)]


def write_table(table: Table, stem: str, folder: Path, *, intervals: bool = True) -> None:
    """Write a table in its three forms.

    Args:
        stem: File name without extension.
        intervals: Print confidence intervals; the CSV has them always.
    """
    forms = {
        "csv": to_csv(table),
        "md": to_markdown(table, intervals=intervals),
        "tex": to_latex(table, intervals=intervals),
    }
    for extension, text in forms.items():
        with atomic_file(folder / f"{stem}.{extension}") as temporary:
            temporary.write_text(text, encoding="utf-8")


def _groups(text: str) -> dict[str, str | None]:
    try:
        found: Any = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"--groups: not JSON ({error.msg})") from None
    if not isinstance(found, dict) or not all(isinstance(group, str | None) for group in found.values()):
        raise InputError(f"--groups: found {text[:40]!r}, expected an object of encoder: group or null")
    return found


def add_table_arguments(parser: argparse.ArgumentParser) -> None:
    """Arguments that say which tables are wanted and what they show; `make_tables` reads them."""
    add = parser.add_argument
    add("--table", nargs="*", default=[], choices=NAMES, help="numbers of the tables, or their names")
    add("--others", type=Path, nargs="*", default=[], help="scores from elsewhere, which make blocks of their own")
    add("--select", default="{}", metavar="JSON", help='which scores a table shows: {"table_2": {"num_units": [256]}}')
    add("--groups", default="{}", metavar="JSON", help="our encoders in their order, each with its group or null")
    add("--beside", metavar="SOURCE", help="set the scores of that source beside ours, with the difference")
    add("--footprint", nargs="*", default=[], metavar="SOURCE=CSV", help="for table 4: what pretraining cost")
    add("--hyperparameters", nargs="*", default=[], metavar="NAME=FILE", help="for table 5: config.json of encoders")


def make_tables(given: argparse.Namespace) -> dict[str, Table]:
    """The tables that are wanted, by name.

    Args:
        given: ``scores``, and what `add_table_arguments` adds.

    Raises:
        InputError: What a table is made of is missing or malformed.
    """
    selections = parse_selections(given.select)
    results = arranged(read_results([*given.scores, *given.others], by_table=True), _groups(given.groups))
    sources = list(dict.fromkeys(result.source for result in results))
    if given.beside is not None and given.beside not in sources:
        raise InputError(f"--beside: found {given.beside!r}, expected a source of the scores: {', '.join(sources)}")
    made: dict[str, Table] = {}
    for name in given.table:
        if name == FOOTPRINT:
            footprints = [named_path(text, "--footprint") for text in given.footprint]
            if not footprints:
                raise InputError("--footprint: missing, expected footprint.csv for table 4")
            made[name] = table_4({source: read_footprints(path) for source, path in footprints})
        elif name == HYPERPARAMETERS:
            files = [named_path(text, "--hyperparameters") for text in given.hyperparameters]
            if not files:
                raise InputError("--hyperparameters: missing, expected config.json of an encoder for table 5")
            made[name] = table_5({encoder: read_hyperparameters(path) for encoder, path in files})
        else:
            make = TABLES[int(name)] if name.isdigit() else FURTHER_TABLES[name]
            table = make(select(results, selections.get(table_stem(name), {})))
            made[name] = beside(table, given.beside) if given.beside and name.isdigit() else table
    return made


def main() -> None:
    """Entry point: scores in, tables out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=Path, nargs="*", default=[], help="scores.csv; several make blocks")
    add_table_arguments(parser)
    parser.add_argument("--intervals", action="store_true", help="print confidence intervals; the CSV has them always")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    given = parser.parse_args()
    for name, table in make_tables(given).items():
        write_table(table, table_stem(name), given.output, intervals=given.intervals)


if __name__ == "__main__":
    run(main)
