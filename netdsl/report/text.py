"""How figures read: thousands separated, formulas as they are, shapes and receptive fields in short."""

from __future__ import annotations

from fractions import Fraction

from netdsl.ir.dims import Dim, to_text
from netdsl.report.model import Field, Row

COLUMNS = ("layer", "operator", "output", "parameters", "MACs", "FLOPs", "receptive field")


def figure(value: Dim) -> str:
    """`4,089,184,256`, or the formula."""
    return f"{value:,}" if isinstance(value, int) else to_text(value)


def field_text(field: Field | None) -> str:
    """`7×7`, with the step between neighbours where it is not 1: `11×11 / 4`."""
    if field is None:
        return ""
    size = "×".join(map(to_text, field.size))
    strides = field.stride if len(set(field.stride)) > 1 else field.stride[:1]
    return size if set(strides) <= {0, 1} else f"{size} / {'×'.join(map(str, strides))}"


def number(value: Fraction | int) -> int | float:
    """A position as JSON has it: an integer where it is one."""
    return int(value) if value == int(value) else float(value)


def cells(row: Row) -> tuple[str, ...]:
    """A row as text, in the order of `COLUMNS`; a group says how many layers it holds."""
    name = row.path or row.op
    op = row.op if row.layers == 1 else f"{row.layers} layers"
    outputs = " ".join(str(t) for t in row.outputs)
    return (name, op, outputs, figure(row.parameters), figure(row.macs), figure(row.flops), field_text(row.field))
