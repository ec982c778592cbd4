"""Two reports side by side."""

from __future__ import annotations

from collections.abc import Callable

from netdsl.ir.dims import Dim
from netdsl.report.model import Report


def compared(one: Report, other: Report, key: str, text: Callable[[Dim], str]) -> tuple[str, str, str]:
    """A total of both, and the second over the first; no ratio where either is a formula or the first is 0."""
    a, b = one.totals[key], other.totals[key]
    ratio = f"{b / a:.3f}" if isinstance(a, int) and isinstance(b, int) and a else ""
    return text(a), text(b), ratio
