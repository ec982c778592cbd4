"""Columns of text. A report has a thousand rows, which a library for rich text takes a second to lay out."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from itertools import zip_longest
from textwrap import wrap

GAP = "   "
NARROWEST = 6  # characters below which no column is folded


def grid(
    columns: Sequence[str], rows: Sequence[Sequence[str]], numeric: Collection[str], width: int | None
) -> list[str]:
    """The header, a rule and the rows. `numeric` columns are right-aligned and never folded; the others are, from the
    widest on, where the whole is wider than `width` characters. None does not fold."""
    right = [column in numeric for column in columns]
    sizes = [max(map(len, column)) for column in zip(columns, *rows, strict=True)]
    if width is not None:
        _fit(sizes, right, width - 1 - len(GAP) * (len(columns) - 1))
    total = sum(sizes) + len(GAP) * (len(columns) - 1)
    lines = [_line(parts, sizes, right) for parts in _folded(columns, sizes, right)]
    lines.append(" " + "─" * total)
    for row in rows:
        lines += [_line(parts, sizes, right) for parts in _folded(row, sizes, right)]
    return lines


def _fit(sizes: list[int], right: Sequence[bool], available: int) -> None:
    """Takes characters from the widest columns that may fold until they fit, or none is left to take from."""
    foldable = [i for i, fixed in enumerate(right) if not fixed]
    while sum(sizes) > available:
        widest = max(foldable, key=lambda i: sizes[i], default=None)
        if widest is None or sizes[widest] <= NARROWEST:
            return
        sizes[widest] -= 1


def _folded(cells: Sequence[str], sizes: Sequence[int], right: Sequence[bool]) -> list[tuple[str, ...]]:
    """The lines of a row."""
    if all(len(cell) <= size for cell, size in zip(cells, sizes, strict=True)):
        return [tuple(cells)]
    parts = [
        [cell] if fixed else wrap(cell, size, break_on_hyphens=False) or [""]
        for cell, size, fixed in zip(cells, sizes, right, strict=True)
    ]
    return list(zip_longest(*parts, fillvalue=""))


def _line(parts: Sequence[str], sizes: Sequence[int], right: Sequence[bool]) -> str:
    aligned = (p.rjust(s) if r else p.ljust(s) for p, s, r in zip(parts, sizes, right, strict=True))
    return f" {GAP.join(aligned)}".rstrip()
