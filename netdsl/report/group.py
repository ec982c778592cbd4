"""Rows of a report put together: by block, by operator, or down to a depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from netdsl.report.model import Row

By = Literal["layer", "block", "op"]


def group_rows(rows: Sequence[Row], by: By = "layer", depth: int | None = None) -> tuple[Row, ...]:
    """The rows by `by`.

    "layer": one row a layer; with `depth` K, layers that stand deeper than K segments are put together.
    "block": one row for each path of K segments (1 unless given).
    "op": one row for each operator; `depth` plays no part.
    """
    if by == "op":
        return tuple(_merge(same, "", same[0].op) for same in _grouped(rows, lambda row: row.op))
    if by == "block" and depth is None:
        depth = 1
    if depth is None:
        return tuple(rows)
    segments = depth
    return tuple(
        same[0] if len(same) == 1 else _merge(same, prefix(same[0].path, segments), "block")
        for same in _grouped(rows, lambda row: prefix(row.path, segments))
    )


def prefix(path: str, depth: int) -> str:
    return ".".join(path.split(".")[:depth])


def _grouped(rows: Sequence[Row], key: Callable[[Row], str]) -> list[list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(key(row), []).append(row)
    return list(groups.values())


def _merge(rows: Sequence[Row], path: str, op: str) -> Row:
    """One row for several; a block's shape and receptive field are those of its last layer."""
    last = rows[-1]
    return Row(
        path=path,
        op=op,
        outputs=last.outputs if path else (),
        parameters=sum(row.parameters for row in rows),
        macs=sum((row.macs for row in rows), 0),
        flops=sum((row.flops for row in rows), 0),
        field=last.field if path else None,
        place=rows[0].place if path else None,
        layers=sum(row.layers for row in rows),
    )
