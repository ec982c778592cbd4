"""Reads the textual form of a graph (`grammar/ir.lark`)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from fractions import Fraction
from functools import cache
from typing import Any

import numpy as np
from lark import Lark, Token, Tree
from lark.exceptions import UnexpectedInput

from netdsl.ir.dims import Dim, DimError, parse_dim
from netdsl.ir.graph import Graph, Node, Output, Parameter, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import Array, DType, TensorType
from netdsl.resources import grammar_text
from netdsl.source import Place


class IRSyntaxError(ValueError):
    """Text that is no graph. The message begins with `line:column`."""


@cache
def _parser() -> Lark:
    return Lark(grammar_text("ir.lark"), parser="lalr", maybe_placeholders=True)


def parse_graph(text: str, primitives: Mapping[str, type[Primitive]]) -> Graph:
    """The graph that a text describes; `primitives` are the operators by name. Raises IRSyntaxError.

    Types are taken as they stand; `verify` compares them with what the operators infer.
    """
    try:
        tree = _parser().parse(text)
    except UnexpectedInput as error:
        line, column = getattr(error, "line", -1), getattr(error, "column", -1)
        raise IRSyntaxError(f"{line}:{column}: unexpected text\n{error.get_context(text)}") from None
    return _Reader(primitives).graph(tree)


class _Reader:
    def __init__(self, primitives: Mapping[str, type[Primitive]]) -> None:
        self._primitives = primitives
        self._values: dict[str, Value] = {}

    def graph(self, tree: Tree[Token]) -> Graph:
        name, *statements = tree.children
        parts: dict[str, list[Any]] = {"input": [], "parameter": [], "node": [], "output": []}
        for statement in statements:
            assert isinstance(statement, Tree)
            parts[statement.data].append(getattr(self, f"_{statement.data}")(*statement.children))
        inputs, outputs, nodes, parameters = (tuple(parts[k]) for k in ("input", "output", "node", "parameter"))
        return Graph(json.loads(_text(name)), inputs, outputs, nodes, parameters)

    def _input(self, name: Token, type: Token) -> Value:
        return self._define(name, type)

    def _parameter(
        self, kind: Token, name: Token, type: Token, init: Tree[Token], fans: Any, trainable: Token | None, place: Any
    ) -> Parameter:
        initializer = Initializer(
            str(init.children[0]), tuple(float(_value(a)) for a in init.children[1:] if a is not None)
        )
        if fans is not None:
            initializer = initializer.with_fans(*(int(f) for f in fans.children))
        trains = trainable == "trainable" if trainable is not None else kind == "param"
        value = self._define(name, type)
        return Parameter(value, initializer, "parameter" if kind == "param" else "buffer", trains, _place(place))

    def _node(self, results: Tree[Token], op: Token, operands: Tree[Token], fields: Any, path: Any, place: Any) -> Node:
        inputs = tuple(self._use(v) for v in operands.children if isinstance(v, Token))
        attributes = (
            {str(f.children[0]): _value(f.children[1]) for f in fields.children if f is not None}
            if fields is not None
            else {}
        )
        made = self._make(op, attributes)
        outputs = tuple(self._define(*r.children) for r in results.children)  # type: ignore[union-attr]  # `result` rules
        return Node(made, inputs, outputs, _name(path.children[0]) if path is not None else str(op), _place(place))

    def _output(self, name: Token, value: Token) -> Output:
        return Output(json.loads(name) if name.type == "STRING" else str(name), self._use(value))

    def _make(self, name: Token, attributes: dict[str, Any]) -> Primitive:
        found = self._primitives.get(str(name))
        if found is None:
            raise _error(name, f"no operator is called {name}")
        known = {f.name for f in fields(found)}
        if wrong := set(attributes) - known:
            raise _error(name, f"{name} has no attribute {min(wrong)}")
        try:
            return found(**attributes)
        except TypeError as error:
            raise _error(name, f"{name}: {error}") from None

    def _define(self, name: Token, type: Token) -> Value:
        text = _name(name)
        if text in self._values:
            raise _error(name, f"%{text} is defined twice")
        value = self._values[text] = Value(text, read_type(type))
        return value

    def _use(self, name: Token) -> Value:
        found = self._values.get(_name(name))
        if found is None:
            raise _error(name, f"{name} is used before it is defined")
        return found


def _error(at: Token, message: str) -> IRSyntaxError:
    return IRSyntaxError(f"{at.line}:{at.column}: {message}")


def _text(node: Any) -> str:
    return str(node)


def _name(token: Any) -> str:
    """The name behind the sigil `%` or `@`."""
    text = str(token)[1:]
    return json.loads(text) if text.startswith('"') else text


def _place(tree: Any) -> Place | None:
    if tree is None:
        return None
    path, line, column = tree.children
    return Place(json.loads(path), int(line), int(column))


def read_type(token: Token) -> TensorType:
    """`float32[N, 16*h]`. Raises IRSyntaxError."""
    dtype, _, dims = str(token)[:-1].partition("[")
    try:
        return TensorType(DType(dtype), tuple(_dim(part) for part in _split(dims)))
    except DimError as error:
        raise _error(token, str(error)) from None


def _dim(text: str) -> Dim:
    text = text.strip()
    return int(text) if text.isdigit() else parse_dim(text)


def _split(dims: str) -> list[str]:
    """The parts between commas that stand in no parenthesis."""
    parts, depth, start = [], 0, 0
    for at, c in enumerate(dims):
        depth += (c == "(") - (c == ")")
        if c == "," and depth == 0:
            parts.append(dims[start:at])
            start = at + 1
    return [*parts, dims[start:]] if dims.strip() else []


def _array(children: list[Any]) -> Array:
    type, data = read_type(children[0]), children[1]
    shape = tuple(int(d) for d in type.shape)  # type: ignore[arg-type]  # arrays have integer shapes
    if isinstance(data, Token):
        return Array(np.frombuffer(base64.b64decode(json.loads(data)), type.dtype.numpy).reshape(shape))
    values = [_value(v) for v in data.children if v is not None]
    wide = np.float64 if type.dtype.is_float else bool if type.dtype is DType.bool else np.int64
    return Array(np.array(values, wide).astype(type.dtype.numpy).reshape(shape))


_VALUES: dict[str, Callable[[list[Any]], Any]] = {
    "int": lambda c: int(c[0]),
    "float": lambda c: float(c[0]),
    "fraction": lambda c: Fraction(c[0]),
    "bool": lambda c: c[0] == "true",
    "none": lambda c: None,
    "string": lambda c: json.loads(c[0]),
    "dim": lambda c: parse_dim(c[0][1:-1]),
    "dtype": lambda c: DType(str(c[0])),
    "tuple": lambda c: tuple(_value(v) for v in c if v is not None),
    "array": _array,
}


def _value(tree: Any) -> Any:
    """An attribute's value."""
    return _VALUES[tree.data](tree.children)
