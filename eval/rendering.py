"""A table as data, and its forms: CSV, Markdown, LaTeX. Best and second best are found here."""

import csv
import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from eval.metrics import Metric
from eval.results import Estimate

type Mark = Literal["best", "second"] | None

MEAN_INTERVALS = (
    "Where a number is a mean of several scores, the ends are the means of theirs: too wide rather than too narrow."
)
ARROWS = {"lower": "↓", "higher": "↑", None: ""}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: its name by itself, and a short name under the heading of its group."""

    name: str
    metric: Metric
    group: str
    short: str

    @property
    def arrow(self) -> str:
        """Which way is better, as an arrow."""
        return ARROWS[self.metric.better]


@dataclass(frozen=True, slots=True)
class Row:
    """One system: what it is, and its numbers.

    Attributes:
        block: Heading it stands under; the rows of a block are compared with one another.
        ranked: Whether it takes part in best and second best; a topline does not.
    """

    labels: tuple[str, ...]
    cells: tuple[Estimate | None, ...]
    block: str = ""
    ranked: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the rows of a block follow one another."""

    name: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings that span columns, and how many."""
        return [(name, len(list(columns))) for name, columns in groupby(self.columns, key=lambda column: column.group)]

    def blocks(self) -> Iterator[tuple[str, list[tuple[Row, list[Mark]]]]]:
        """The blocks in order, each with its rows and their marks."""
        for block, members in groupby(self.rows, key=lambda row: row.block):
            rows = list(members)
            yield block, list(zip(rows, marks(rows, self.columns), strict=True))


def marks(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[Mark]]:
    """Best and second best of each column among the ranked rows; numbers that print alike share a mark."""
    found: list[list[Mark]] = [[None] * len(columns) for _ in rows]
    for j, column in enumerate(columns):
        printed = {
            i: round(column.metric.shown(cell.value), column.metric.decimals)
            for i, row in enumerate(rows)
            if row.ranked and (cell := row.cells[j]) is not None
        }
        if len(printed) < 2 or column.metric.better is None:
            continue
        best, *others = sorted(set(printed.values()), reverse=column.metric.better == "higher")
        for i, value in printed.items():
            found[i][j] = "best" if value == best else "second" if value == others[0] else None
    return found


def value_text(cell: Estimate | None, metric: Metric) -> str:
    """A number as printed, with its spread over seeds; blank where there is none."""
    if cell is None:
        return ""
    return metric.format(cell.value) + ("" if cell.spread is None else f" ± {metric.format(cell.spread)}")


def interval_text(cell: Estimate | None, metric: Metric) -> str:
    """The 95% interval of a number, ``3.10–3.52``; blank where there is none."""
    if cell is None or cell.low is None or cell.high is None:
        return ""
    return f"{metric.format(cell.low)}–{metric.format(cell.high)}"


PARTS: tuple[tuple[str, Callable[[Estimate], float | None]], ...] = (
    ("", lambda cell: cell.value),
    (" low", lambda cell: cell.low),
    (" high", lambda cell: cell.high),
    (" seed std", lambda cell: cell.spread),
)


def to_csv(table: Table) -> str:
    """The numbers as printed, then the ends of their intervals, then their spread over seeds."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    names = [column.name + (" (%)" if column.metric.percent else "") for column in table.columns]
    writer.writerow(["Group", *table.labels, *(name + suffix for suffix, _ in PARTS for name in names)])
    for row in table.rows:
        numbers = [
            "" if cell is None or (value := part(cell)) is None else _plain(value, column.metric)
            for _, part in PARTS
            for column, cell in zip(table.columns, row.cells, strict=True)
        ]
        writer.writerow([row.block, *row.labels, *numbers])
    return file.getvalue()


def _plain(value: float, metric: Metric) -> str:
    return f"{metric.shown(value):.{metric.decimals}f}"


MARKDOWN: dict[Mark, str] = {"best": "**{}**", "second": "<u>{}</u>", None: "{}"}


def to_markdown(table: Table) -> str:
    """The table, and below it the table of its 95% intervals where there are any."""
    values: list[list[str]] = []
    intervals: list[list[str]] = []
    for block, rows in table.blocks():
        if block:
            heading = [f"*{block}*", *[""] * (len(table.labels) + len(table.columns) - 1)]
            values.append(heading)
            intervals.append(heading)
        for row, row_marks in rows:
            cells = [(cell, column.metric) for cell, column in zip(row.cells, table.columns, strict=True)]
            texts = zip((value_text(*cell) for cell in cells), row_marks, strict=True)
            values.append([*row.labels, *(MARKDOWN[mark].format(text) for text, mark in texts)])
            intervals.append([*row.labels, *(interval_text(*cell) for cell in cells)])
    text = f"**{table.name}.** {table.caption}\n\n{_pipes(table, values)}"
    if any(cell for row in intervals for cell in row[len(table.labels) :]):
        text += f"\n95% confidence intervals. {MEAN_INTERVALS}\n\n{_pipes(table, intervals)}"
    return text


def _pipes(table: Table, rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose columns line up as plain text too."""
    headings = [*table.labels, *(f"{column.name} {column.arrow}".strip() for column in table.columns)]
    lines = [[cell.replace("|", "\\|") for cell in row] for row in (headings, *rows)]
    widths = [max(3, *(len(line[j]) for line in lines)) for j in range(len(headings))]
    first_number = len(table.labels)
    rule = ["-" * width if j < first_number else "-" * (width - 1) + ":" for j, width in enumerate(widths)]
    lines.insert(1, rule)
    aligned = (
        [text.ljust(width) if j < first_number else text.rjust(width) for j, (text, width) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    )
    return "".join(f"| {' | '.join(cells)} |\n" for cells in aligned)


LATEX: dict[Mark, str] = {"best": r"\textbf{{{}}}", "second": r"\underline{{{}}}", None: "{}"}
LATEX_CHARACTERS = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "↓": r"$\downarrow$",
        "↑": r"$\uparrow$",
        "†": r"$^\dagger$",
        "−": "$-$",
        "±": r"$\pm$",
        "–": "--",
    }
)


def to_latex(table: Table) -> str:
    r"""A floating table in the style of booktabs; needs ``\usepackage{booktabs}``."""
    num_labels, num_columns = len(table.labels), len(table.columns)
    headings = [*table.labels, *(f"{column.short} {column.arrow}".strip() for column in table.columns)]
    lines = [
        r"\begin{table}[t]",
        r"\centering",
        rf"\caption{{{_tex(table.caption)}}}",
        rf"\begin{{tabular}}{{{'l' * num_labels}{'r' * num_columns}}}",
        r"\toprule",
        *_spanning_headings(table),
        _latex_row(headings),
    ]
    for block, rows in table.blocks():
        lines.append(r"\midrule")
        if block:
            lines.append(rf"\multicolumn{{{num_labels + num_columns}}}{{l}}{{\textit{{{_tex(block)}}}}} \\")
        for row, row_marks in rows:
            texts = [value_text(cell, column.metric) for cell, column in zip(row.cells, table.columns, strict=True)]
            lines.append(_latex_row([*row.labels, *texts], [*[None] * num_labels, *row_marks]))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _spanning_headings(table: Table) -> list[str]:
    cells = [""] * len(table.labels)
    rules = []
    first = len(table.labels) + 1
    for name, width in table.groups:
        cells.append(rf"\multicolumn{{{width}}}{{c}}{{{_tex(name)}}}")
        rules.append(rf"\cmidrule(lr){{{first}-{first + width - 1}}}")
        first += width
    return [" & ".join(cells) + r" \\", " ".join(rules)]


def _latex_row(texts: Sequence[str], row_marks: Sequence[Mark] = ()) -> str:
    row_marks = row_marks or [None] * len(texts)
    cells = [LATEX[mark].format(_tex(text)) for text, mark in zip(texts, row_marks, strict=True)]
    return " & ".join(cells).rstrip() + r" \\"


def _tex(text: str) -> str:
    return text.translate(LATEX_CHARACTERS)
