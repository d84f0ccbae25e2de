"""Two sources of a table side by side: theirs, ours and the difference, three columns for each number."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

from eval.rendering import Column, Row, System, Table, blockwise
from eval.results import OURS, Estimate

type Pair = tuple[Row | None, Row | None]
"""A row of theirs and the one of ours that is of the same system; one of them may be missing."""
type Cells = tuple[Estimate | None, ...]


def beside(table: Table, source: str) -> Table:
    """The table with the numbers of `source` beside ours and the difference, ours minus theirs.

    Rows are of one system where encoder, layer, units and language model are the same; where only one of them has a
    language model, the first three are enough. A layer or a number of units that one source does not tell is that of
    the other, where no second system of it could be meant. A difference is taken only between numbers over the same
    datasets, conditions and training. A column that only one of the two has is not tripled. A table in which one of
    them has no row stays as it is, and its caption says so.
    """
    theirs = [row for row in table.rows if row.source == source]
    ours = [row for row in table.rows if row.source == OURS]
    for rows, name in ((theirs, source), (ours, OURS)):
        if not rows:
            return replace(table, caption=f"{table.caption} No row is of {name}: nothing stands side by side.")
    tripled = [all(any(row.cells[j] for row in rows) for rows in (theirs, ours)) for j, _ in enumerate(table.columns)]
    columns: list[Column] = []
    for column, three in zip(table.columns, tripled, strict=True):
        if three:
            named = replace(column, group=column.name)
            columns += [replace(named, name=f"{column.name}, {short}", short=short) for short in (source, OURS)]
            columns.append(replace(named, name=f"{column.name}, difference", short="difference", is_difference=True))
        else:
            columns.append(column)
    rows = [_row(their, mine, tripled) for their, mine in _paired(theirs, ours)]
    note = f"Differences are ours minus {source}, and only between numbers over the same data."
    return replace(table, caption=f"{table.caption} {note}", columns=tuple(columns), rows=blockwise(rows))


def _paired(theirs: Sequence[Row], ours: Sequence[Row]) -> list[Pair]:
    """Their rows in their order, each with ours of the same system; then the rest of ours."""
    left = list(ours)
    counterparts = _counterparts([row.system for row in theirs], [row.system for row in ours])
    partners: dict[int, Row] = {}
    for with_units_alone in (False, True):
        for i, row in enumerate(theirs):
            for mine in left if i not in partners else ():
                untrained = with_units_alone and not (any(row.training) and any(mine.training))
                if mine.system == counterparts.get(row.system) and (mine.training == row.training or untrained):
                    partners[i] = mine
                    left.remove(mine)
                    break
    return [*((row, partners.get(i)) for i, row in enumerate(theirs)), *((None, mine) for mine in left)]


def _counterparts(theirs: Iterable[System], ours: Iterable[System]) -> dict[System, System]:
    """Their systems that we have, and what each is called in ours.

    It is called the same, or it is the only one of ours that it can be, and of theirs the only one that can be that:
    of Spin the paper prints no layer.
    """
    alike = {system: {mine for mine in ours if _may_be(system, mine)} for system in theirs}
    found = {}
    for system, candidates in alike.items():
        if system in candidates:
            found[system] = system
        elif len(candidates) == 1 and sum(candidates <= others for others in alike.values()) == 1:
            (found[system],) = candidates
    return found


def _may_be(one: System, other: System) -> bool:
    """Whether nothing that both tell is different."""
    return all(a == b or None in (a, b) for a, b in zip(one, other, strict=True))


def _row(their: Row | None, mine: Row | None, tripled: Sequence[bool]) -> Row:
    rows = [row for row in (their, mine) if row]
    labels = tuple(next(filter(None, told), "") for told in zip(*(row.labels for row in rows), strict=True))
    blanks: Cells = (None,) * len(tripled)
    cells: list[Estimate | None] = []
    for a, b, three in zip(their.cells if their else blanks, mine.cells if mine else blanks, tripled, strict=True):
        cells += [a, b, _difference(a, b)] if three else [b or a]
    return replace(rows[0], labels=labels, cells=tuple(cells), source="")


def _difference(their: Estimate | None, mine: Estimate | None) -> Estimate | None:
    if their is None or mine is None or their.over != mine.over:
        return None
    return Estimate(mine.value - their.value)
