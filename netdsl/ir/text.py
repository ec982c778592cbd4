"""The textual form of a graph: printing. `text_read` reads it back; `grammar/ir.lark` is its grammar.

    graph "Net" {
      input %x: float32[N, 3, 32, 32]
      param %conv.weight: float32[8, 3, 3, 3] = he_normal fans(27, 72) loc("net.net":3:14)
      %conv: float32[N, 8, 30, 30] = conv(%x, %conv.weight) {stride=(1, 1), …} @conv loc("net.net":3:14)
      output y = %conv
    }

Everything that a graph holds is printed, floats to their last bit, so that reading gives an equal graph. Names that are
not made of letters, digits, `_`, `.` and `#` stand in quotes; dimensions in attributes stand in backquotes.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import fields
from fractions import Fraction
from typing import Any

import numpy as np

from netdsl.ir.dims import Expr, to_text
from netdsl.ir.graph import Graph, Node, Parameter, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.text_read import IRSyntaxError, parse_graph
from netdsl.ir.types import Array, DType, TensorType, dtype_of
from netdsl.source import Place

__all__ = ["IRSyntaxError", "graphs_equal", "parse_graph", "print_graph", "print_node"]

MAX_ELEMENTS = 16  #: arrays of more elements are printed as base64

_PLAIN = re.compile(r"[A-Za-z0-9_.#]+\Z")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_.]*\Z")


def print_graph(graph: Graph) -> str:
    """The text of a graph, with a line break at its end."""
    lines = [f"graph {_string(graph.name)} {{"]
    lines += [f"  input {value_text(v)}: {v.type}" for v in graph.inputs]
    lines += [f"  {_parameter(p)}" for p in graph.parameters]
    lines += [f"  {print_node(n)}" for n in graph.nodes]
    lines += [
        f"  output {o.name if _IDENTIFIER.match(o.name) else _string(o.name)} = {value_text(o.value)}"
        for o in graph.outputs
    ]
    return "\n".join([*lines, "}", ""])


def print_node(node: Node) -> str:
    """The line of one node, without indentation."""
    results = ", ".join(f"{value_text(v)}: {v.type}" for v in node.outputs)
    operands = ", ".join(value_text(v) for v in node.inputs)
    attributes = ", ".join(f"{f.name}={field_text(getattr(node.op, f.name))}" for f in fields(node.op))
    text = f"{results} = {node.op.name}({operands})"
    return text + (f" {{{attributes}}}" if attributes else "") + f" @{_name(node.path)}" + _place(node.place)


def value_text(value: Value) -> str:
    """`%name`, in quotes where the name needs them."""
    return f"%{_name(value.name)}"


def field_text(value: Any) -> str:
    """One attribute. Raises TypeError for a kind of value that attributes cannot be."""
    match value:
        case None:
            return "none"
        case bool():
            return str(value).lower()
        case int():
            return str(value)
        case float():
            return _float(value)
        case str():
            return _string(value)
        case Expr():
            return f"`{to_text(value)}`"
        case DType():
            return str(value)
        case Fraction():
            return f"{value.numerator}/{value.denominator}"
        case Array():
            return _array(value)
        case tuple():
            items = ", ".join(field_text(v) for v in value)
            return f"({items},)" if len(value) == 1 else f"({items})"
        case _:
            raise TypeError(f"an attribute cannot be {value!r}")


def _parameter(parameter: Parameter) -> str:
    init = parameter.initializer
    kind = "param" if parameter.kind == "parameter" else "buffer"
    text = f"{kind} {value_text(parameter.value)}: {parameter.value.type} = {_initializer(init)}"
    if (init.fan_in, init.fan_out) != (1, 1):
        text += f" fans({init.fan_in}, {init.fan_out})"
    if parameter.trainable != (kind == "param"):
        text += " trainable" if parameter.trainable else " frozen"
    return text + _place(parameter.place)


def _initializer(init: Initializer) -> str:
    arguments = ", ".join(_float(float(a)) for a in init.arguments)
    return f"{init.name}({arguments})" if arguments else init.name


def _array(array: Array) -> str:
    data = array.data
    type = TensorType(dtype_of(data), data.shape)
    if data.size > MAX_ELEMENTS or (type.dtype.is_float and bool(np.isnan(data.astype(np.float64)).any())):
        return f'array({type}, "{base64.b64encode(data.tobytes()).decode()}")'
    return f"array({type}, [{', '.join(_element(v) for v in data.reshape(-1))}])"


def _element(value: Any) -> str:
    """One element: the shortest decimal that reads back as the same number of its own type."""
    if isinstance(value, np.bool_):
        return str(bool(value)).lower()
    if isinstance(value, np.integer):
        return str(int(value))
    short = _float(float(str(value)))
    return short if type(value)(float(short)) == value else _float(float(value))


def _float(value: float) -> str:
    text = repr(value)
    return text if math.isinf(value) or math.isnan(value) or "." in text or "e" in text else f"{text}.0"


def _place(place: Place | None) -> str:
    return f" loc({_string(place.path)}:{place.line}:{place.column})" if place else ""


def _string(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _name(name: str) -> str:
    return name if _PLAIN.match(name) else _string(name)


def graphs_equal(a: Graph, b: Graph) -> bool:
    """Whether two graphs hold the same: names, types, operators, parameters, places, in the same order."""
    return _facts(a) == _facts(b)


def _facts(graph: Graph) -> tuple[object, ...]:
    """A graph as plain values that compare, every value by its name and type."""

    def value(v: Value) -> tuple[object, ...]:
        return v.name, v.type

    return (
        graph.name,
        [value(v) for v in graph.inputs],
        [(o.name, value(o.value)) for o in graph.outputs],
        [(value(p.value), p.initializer, p.kind, p.trainable, p.place) for p in graph.parameters],
        [([value(v) for v in n.inputs], [value(v) for v in n.outputs], n.op, n.path, n.place) for n in graph.nodes],
    )
