"""A report as a table for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from netdsl.report.compare import compared
from netdsl.report.formats import NUMERIC, conventions
from netdsl.report.grid import grid
from netdsl.report.model import TOTALS, Report, Row
from netdsl.report.text import COLUMNS, cells, figure

BOLD, DIM, PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def to_table(
    report: Report, rows: Sequence[Row], other: Report | None = None, *, width: int | None = None, color: bool = False
) -> str:
    """The rows, the totals and what the figures count. `width` in characters; None does not fold."""

    def styled(style: str, lines: Sequence[str]) -> list[str]:
        return [f"{style}{line}{PLAIN}" for line in lines] if color else list(lines)

    lines = styled(BOLD, _wrapped(_title(report), width))
    if other is None:
        head, *body = grid(COLUMNS, [cells(row) for row in rows], NUMERIC, width)
        lines += ["", *styled(BOLD, [head]), *body, ""]
    columns, totals = _totals(report, other)
    head, *body = grid(columns, totals, columns[1:], width)
    lines += ["", *styled(BOLD, [head]), *body, "", *styled(DIM, _wrapped(conventions(report), width))]
    return "\n".join(lines) + "\n"


def _wrapped(lines: Sequence[str], width: int | None) -> list[str]:
    if width is None:
        return list(lines)
    return [part for line in lines for part in wrap(line, width, subsequent_indent="  ", break_on_hyphens=False)]


def _title(report: Report) -> list[str]:
    def typed(kind: str, values: Sequence[tuple[str, object]]) -> list[str]:
        return [f"  {kind} {name}: {type}" for name, type in values]

    return [report.network, *typed("input", [*report.inputs.items()]), *typed("output", [*report.outputs.items()])]


def _totals(report: Report, other: Report | None) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the totals, of one report or of two beside each other."""
    if other is None:
        return ("total", report.network), [(words, figure(report.totals[key])) for key, words in TOTALS.items()]
    second = other.network if other.network != report.network else f"{other.network} (other)"
    rows: list[tuple[str, ...]] = [(words, *compared(report, other, key, figure)) for key, words in TOTALS.items()]
    return ("total", report.network, second, "ratio"), rows
