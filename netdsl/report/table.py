"""A report as a table for the terminal."""

from __future__ import annotations

import io
from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from netdsl.report.compare import compared
from netdsl.report.formats import NUMERIC, conventions
from netdsl.report.model import TOTALS, Report, Row
from netdsl.report.text import COLUMNS, cells, figure

UNLIMITED = 10_000  # columns where nothing limits the width: a file or a pipe


def to_table(
    report: Report, rows: Sequence[Row], other: Report | None = None, *, width: int | None = None, color: bool = False
) -> str:
    """The rows, the totals and what the figures count. `width` in characters; None does not fold."""
    console = Console(
        file=io.StringIO(),
        width=width or UNLIMITED,
        force_terminal=color,
        no_color=not color,
        highlight=False,
        legacy_windows=False,
    )
    console.print(Text(_title(report), style="bold"))
    if other is None:
        console.print(_layers(report, rows))
    console.print(_totals(report, other))
    for line in conventions(report):
        console.print(Text(line, style="dim"))
    file = console.file
    assert isinstance(file, io.StringIO)
    return "\n".join(line.rstrip() for line in file.getvalue().split("\n"))


def _title(report: Report) -> str:
    def typed(kind: str, values: Sequence[tuple[str, object]]) -> list[str]:
        return [f"  {kind} {name}: {type}" for name, type in values]

    lines = typed("input", list(report.inputs.items())) + typed("output", list(report.outputs.items()))
    return "\n".join([report.network, *lines])


def _table(columns: Sequence[str], numeric: set[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        right = column in numeric
        table.add_column(column, justify="right" if right else "left", no_wrap=right, overflow="fold")
    return table


def _layers(report: Report, rows: Sequence[Row]) -> Table:
    table = _table(COLUMNS, NUMERIC)
    for row in rows:
        table.add_row(*(Text(cell) for cell in cells(row)))
    return table


def _totals(report: Report, other: Report | None) -> Table:
    if other is None:
        table = _table(("total", report.network), {report.network})
        for key, words in TOTALS.items():
            table.add_row(words, figure(report.totals[key]))
        return table
    names = (report.network, other.network if other.network != report.network else f"{other.network} (other)")
    table = _table(("total", *names, "ratio"), {*names, "ratio"})
    for key, words in TOTALS.items():
        table.add_row(words, *compared(report, other, key, figure))
    return table
