"""A table as data, and its forms: CSV, Markdown, LaTeX. Best and second best are found here."""

import csv
import io
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from eval.metrics import Metric
from eval.results import Estimate

type Mark = Literal["best", "second"] | None
type System = tuple[str | int | None, ...]
"""Encoder and layer, and of units their name and number; None where a source does not tell."""

MEAN_INTERVALS = (
    "Where a number is a mean of several scores, the ends are the means of theirs: too wide rather than too narrow."
)
ARROWS = {"lower": "↓", "higher": "↑", None: ""}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of numbers: its name by itself, and a short name under the heading of its group.

    Attributes:
        is_difference: Whether its numbers are differences, which have a sign and are not ranked.
    """

    name: str
    metric: Metric
    group: str
    short: str
    is_difference: bool = False

    @property
    def arrow(self) -> str:
        """Which way is better, as an arrow."""
        return "" if self.is_difference else ARROWS[self.metric.better]

    def text(self, cell: Estimate | None) -> str:
        """A number as printed, with its spread over seeds; blank where there is none."""
        return value_text(cell, self.metric, sign=self.is_difference)


@dataclass(frozen=True, slots=True)
class Row:
    """One system: what it is, and its numbers.

    Attributes:
        block: Heading it stands under; the rows of a block are compared with one another.
        ranked: Whether it takes part in best and second best; a topline does not.
        source: Who says so: rows of several sources stand in blocks of their own.
        system: What is measured, whoever did; rows of other sources with the same one can be set side by side.
        training: The language model's name, corpus and hours.
    """

    labels: tuple[str, ...]
    cells: tuple[Estimate | None, ...]
    block: str = ""
    ranked: bool = True
    source: str = ""
    system: System = ()
    training: tuple[Hashable, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """A table; the rows of a block follow one another. One without columns says everything in its labels."""

    name: str
    caption: str
    labels: tuple[str, ...]
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings that span columns, and how many."""
        return [(name, len(list(columns))) for name, columns in groupby(self.columns, key=lambda column: column.group)]

    def heading(self, row: Row) -> str:
        """What a row stands under: its source where there are several, and its block."""
        several = row.ranked and len({row.source for row in self.rows}) > 1
        return ", ".join(part for part in (row.source if several else "", row.block) if part)

    def blocks(self) -> Iterator[tuple[str, list[tuple[Row, list[Mark]]]]]:
        """The blocks in order, each with its rows and their marks."""
        for heading, members in groupby(self.rows, key=self.heading):
            rows = list(members)
            yield heading, list(zip(rows, marks(rows, self.columns), strict=True))


def blockwise(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows of a source, and in it those of a block, together; toplines last."""
    sources = list(dict.fromkeys(row.source for row in rows))
    blocks = list(dict.fromkeys(row.block for row in rows))

    def place(row: Row) -> tuple[bool, int, int]:
        return not row.ranked, sources.index(row.source), blocks.index(row.block)

    return tuple(sorted(rows, key=place))


def marks(rows: Sequence[Row], columns: Sequence[Column]) -> list[list[Mark]]:
    """Best and second best of each column among the ranked rows; numbers that print alike share a mark."""
    found: list[list[Mark]] = [[None] * len(columns) for _ in rows]
    for j, column in enumerate(columns):
        printed = {
            i: round(column.metric.shown(cell.value), column.metric.decimals)
            for i, row in enumerate(rows)
            if row.ranked and (cell := row.cells[j]) is not None
        }
        if len(printed) < 2 or column.metric.better is None or column.is_difference:
            continue
        best, *others = sorted(set(printed.values()), reverse=column.metric.better == "higher")
        for i, value in printed.items():
            found[i][j] = "best" if value == best else "second" if value == others[0] else None
    return found


def value_text(cell: Estimate | None, metric: Metric, *, sign: bool = False) -> str:
    """A number as printed, with its spread over seeds; blank where there is none."""
    if cell is None:
        return ""
    return metric.format(cell.value, sign=sign) + ("" if cell.spread is None else f" ± {metric.format(cell.spread)}")


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
        writer.writerow([table.heading(row), *row.labels, *numbers])
    return file.getvalue()


def _plain(value: float, metric: Metric) -> str:
    return f"{metric.shown(value):.{metric.decimals}f}"


MARKDOWN: dict[Mark, str] = {"best": "**{}**", "second": "<u>{}</u>", None: "{}"}


def to_markdown(table: Table, *, intervals: bool = True) -> str:
    """The table, and below it that of its 95% intervals where there are any and they are wanted."""
    values: list[list[str]] = []
    ends: list[list[str]] = []
    for block, rows in table.blocks():
        if block:
            heading = [f"*{block}*", *[""] * (len(table.labels) + len(table.columns) - 1)]
            values.append(heading)
            ends.append(heading)
        for row, row_marks in rows:
            texts = zip(_texts(table, row), row_marks, strict=True)
            values.append([*row.labels, *(MARKDOWN[mark].format(text) for text, mark in texts)])
            ends.append([*row.labels, *_intervals(table, row)])
    text = f"**{table.name}.** {table.caption}\n\n{_pipes(table, values)}"
    if intervals and any(cell for row in ends for cell in row[len(table.labels) :]):
        text += f"\n95% confidence intervals. {MEAN_INTERVALS}\n\n{_pipes(table, ends)}"
    return text


def _texts(table: Table, row: Row) -> list[str]:
    return [column.text(cell) for column, cell in zip(table.columns, row.cells, strict=True)]


def _intervals(table: Table, row: Row) -> list[str]:
    return [interval_text(cell, column.metric) for column, cell in zip(table.columns, row.cells, strict=True)]


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
        "×": r"$\times$",
        "–": "--",
    }
)


def to_latex(table: Table, *, intervals: bool = True) -> str:
    r"""A floating table in the style of booktabs; needs ``\usepackage{booktabs}``.

    Args:
        intervals: Set the 95% intervals below the numbers, in small print.
    """
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
            lines.append(_latex_row([*row.labels, *_texts(table, row)], [*[None] * num_labels, *row_marks]))
            ends = _intervals(table, row)
            if intervals and any(ends):
                small = [rf"\scriptsize {_tex(text)}" if text else "" for text in ends]
                lines.append(" & ".join([*[""] * num_labels, *small]).strip() + r" \\")
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", r"\end{table}"]) + "\n"


def _spanning_headings(table: Table) -> list[str]:
    if not table.columns:
        return []
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
