"""A report as JSON, CSV and Markdown. All forms state what MACs and FLOPs count."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from typing import Any

from netdsl.ir.dims import Dim, to_text
from netdsl.ir.graph import Parameter
from netdsl.ir.types import TensorType
from netdsl.report.compare import compared
from netdsl.report.model import CONVENTIONS, TOTALS, Report, Row
from netdsl.report.text import COLUMNS, cells, figure, number

NUMERIC = {"parameters", "MACs", "FLOPs"}


def as_object(report: Report, rows: Sequence[Row] | None = None) -> dict[str, Any]:
    """The object that `--format json` prints. A figure is an integer, or a string with the formula."""
    return {
        "network": report.network,
        "inputs": {name: _typed(type) for name, type in report.inputs.items()},
        "outputs": {name: _typed(type) for name, type in report.outputs.items()},
        "totals": {key: _dim(value) for key, value in report.totals.items()},
        "layers": [_layer(row) for row in (report.rows if rows is None else rows)],
        "state": [_state(parameter) for parameter in report.state],
        "conventions": dict(CONVENTIONS),
    }


def _dim(value: Dim) -> int | str:
    return value if isinstance(value, int) else to_text(value)


def _shape(type: TensorType) -> list[int | str]:
    return [_dim(d) for d in type.shape]


def _typed(type: TensorType) -> list[Any]:
    return [str(type.dtype), _shape(type)]


def _layer(row: Row) -> dict[str, Any]:
    made: dict[str, Any] = {
        "path": row.path,
        "op": row.op,
        "outputs": [_shape(t) for t in row.outputs],
        "parameters": row.parameters,
        "macs": _dim(row.macs),
        "flops": _dim(row.flops),
        "receptive_field": _field(row),
        "source": str(row.place) if row.place else None,
    }
    return made if row.layers == 1 else {**made, "layers": row.layers}


def _field(row: Row) -> dict[str, Any] | None:
    field = row.field
    if field is None:
        return None
    return {
        "size": [_dim(v) for v in field.size],
        "stride": [number(v) for v in field.stride],
        "offset": [number(v) for v in field.offset],
    }


def _state(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "shape": _shape(parameter.value.type),
        "dtype": str(parameter.value.dtype),
        "kind": parameter.kind,
        "trainable": parameter.kind == "parameter" and parameter.trainable,
        "initializer": str(parameter.initializer),
    }


def to_json(report: Report, rows: Sequence[Row], other: Report | None = None) -> str:
    made = as_object(report, rows)
    if other is not None:
        made["compare"] = {"network": other.network, "totals": {k: _dim(v) for k, v in other.totals.items()}}
    return "{\n" + ",\n".join(f"  {_text(key)}: {_lines(value)}" for key, value in made.items()) + "\n}"


def _lines(value: object) -> str:
    """A list with an item a line, everything else in one."""
    if not isinstance(value, list) or not value:
        return _text(value)
    return "[\n" + ",\n".join(f"    {_text(item)}" for item in value) + "\n  ]"


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def to_csv(report: Report, rows: Sequence[Row], other: Report | None = None) -> str:
    """One line a row and one of totals, whose `note` says what the columns count; with `other`, the totals of both."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    note = "; ".join(f"{key}: {text}" for key, text in CONVENTIONS.items())
    if other is not None:
        writer.writerow(["figure", report.network, other.network, "ratio", "note"])
        notes = CONVENTIONS
        for key in TOTALS:
            writer.writerow([key, *compared(report, other, key, _plain), notes.get(key, "")])
        return buffer.getvalue()
    writer.writerow(["path", "op", "outputs", "parameters", "macs", "flops", "receptive_field", "source", "note"])
    for row in rows:
        name, _, outputs, *_, field = cells(row)
        figures = [_plain(v) for v in (row.parameters, row.macs, row.flops)]
        writer.writerow([name, row.op, outputs, *figures, field, str(row.place or ""), ""])
    totals = [_plain(report.totals[key]) for key in ("parameters", "macs", "flops")]
    writer.writerow(["total", "", "", *totals, "", "", note])
    return buffer.getvalue()


def _plain(value: Dim) -> str:
    return to_text(value)


def to_markdown(report: Report, rows: Sequence[Row], other: Report | None = None) -> str:
    lines = [f"# {report.network}", "", *signature(report), ""]
    if other is None:
        lines += _md_row(COLUMNS) + _md_row(tuple("---:" if c in NUMERIC else "---" for c in COLUMNS))
        for row in rows:
            lines += _md_row(cells(row))
        lines += ["", *_md_row(("total", report.network)), *_md_row(("---", "---:"))]
        for key, words in TOTALS.items():
            lines += _md_row((words, figure(report.totals[key])))
    else:
        lines += _md_row(("total", report.network, other.network, "ratio")) + _md_row(("---", "---:", "---:", "---:"))
        for key, words in TOTALS.items():
            lines += _md_row((words, *compared(report, other, key, figure)))
    return "\n".join([*lines, "", *(f"- {line}" for line in conventions(report))])


def conventions(report: Report) -> list[str]:
    """What MACs and FLOPs count, a sentence each, and what they do not."""
    words = {"macs": "MACs", "flops": "FLOPs"}
    lines = [f"{words[key]}: {text}." for key, text in CONVENTIONS.items()]
    lines.append("Figures are for one item: a symbol that leads an input's shape counts as 1.")
    if report.uncounted:
        lines.append(f"Not counted, since netdsl does not know their work: {', '.join(report.uncounted)}.")
    return lines


def signature(report: Report) -> list[str]:
    kinds = (("input", report.inputs), ("output", report.outputs))
    return [f"- {kind} `{name}: {type}`" for kind, values in kinds for name, type in values.items()]


def _md_row(values: Sequence[str]) -> list[str]:
    return [f"| {' | '.join(v.replace('|', '&#124;').replace('*', '&#42;') for v in values)} |"]
