"""What the signs of the language mean on tensors: arithmetic, comparisons, subscripts, attributes."""

from __future__ import annotations

from collections.abc import Callable
from types import EllipsisType
from typing import Any

from netdsl.elaborate.builtins import OPERATOR_VALUES
from netdsl.elaborate.calls import Calls, Site
from netdsl.elaborate.expressions import name_of
from netdsl.elaborate.faults import Fault, Refusal
from netdsl.elaborate.files import unknown_member_help
from netdsl.elaborate.layers import LayerAt
from netdsl.elaborate.scope import Frame
from netdsl.elaborate.suggest import did_you_mean, suggest
from netdsl.elaborate.values import (
    POISON,
    Given,
    ModuleValue,
    OnnxOperators,
    OperatorValue,
    Results,
    describe,
    describe_kind,
    is_callable,
    listed,
    plural,
)
from netdsl.ir.dims import Expr
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Operator, OpError
from netdsl.ops.arithmetic import INFIX, binary, negate
from netdsl.ops.indexing import index
from netdsl.ops.onnx_node import onnx_operator
from netdsl.source import Span
from netdsl.syntax import tree

#: The attributes of a tensor: how many axes it needs, and the value.
ATTRIBUTES: dict[str, tuple[int, Callable[[Value], Any]]] = {
    "shape": (0, lambda x: x.shape),
    "rank": (0, lambda x: x.rank),
    "dtype": (0, lambda x: x.dtype),
    "channels": (2, lambda x: x.shape[1]),
    "width": (1, lambda x: x.shape[-1]),
    "height": (2, lambda x: x.shape[-2]),
    "depth": (3, lambda x: x.shape[-3]),
    "length": (3, lambda x: x.shape[2]),
}
_MUTATORS = {"append": "{x} + [{v}]", "extend": "{x} + {v}", "insert": "[{v}] + {x}", "add": "{x} + [{v}]"}


class Tensors(Calls):
    """Evaluates the operations on tensors, subscripts and attributes."""

    # --- arithmetic -------------------------------------------------------------------------------------------------

    def tensor_binary(
        self, op: str, left: Any, right: Any, nodes: tuple[tree.Expr | None, tree.Expr], span: Span, frame: Frame
    ) -> Any:
        for side, other, node in ((left, right, nodes[0]), (right, left, nodes[1])):
            if not isinstance(side, Value | int | float | Expr):
                raise self._no_operand(op, side, other, nodes, node.span if node else span)
        self.budget_operator(span)
        names = [name_of(node) for node in nodes]
        given = {
            side: Given(v, None, name) for side, v, name in zip(("left", "right"), (left, right), names, strict=True)
        }
        if op == "@":
            matmul = OPERATOR_VALUES["matmul"].op
            for side, node in ((left, nodes[0]), (right, nodes[1])):
                if not isinstance(side, Value):
                    message = f"'@' is the product of two tensors, found {describe(side)}"
                    raise self.fault(
                        "argument", message, node.span if node else span, help="a plain number multiplies by *"
                    )
            return self._emit(matmul.name, lambda cx: matmul.call(cx, a=left, b=right), given, span, frame)
        return self._emit(_infix_name(op), lambda cx: binary(cx, op, left, right), given, span, frame)

    def tensor_negative(self, value: Value, span: Span, frame: Frame) -> Any:
        self.budget_operator(span)
        return self._emit("neg", lambda cx: negate(cx, value), {"x": Given(value)}, span, frame)

    def budget_operator(self, span: Span) -> None:
        try:
            self.budget.operator()
        except Refusal as refusal:
            raise self.refused(refusal, span) from None

    def _emit(
        self, name: str, make: Callable[[LayerAt], Any], given: dict[str, Given], span: Span, frame: Frame
    ) -> Any:
        """A layer that no call stands for."""
        site = Site(span, span)
        self.require_layers(frame, f"'{name}'", span)
        layer = self.layer(name, site, frame)
        try:
            return self.made(make(layer), span)
        except OpError as error:
            raise self.op_fault(error, given, None, site) from None
        except ArithmeticError as error:
            raise self.fault("invalid-argument", f"{name}: {error}", span) from None
        except Exception as error:
            raise self.internal(name, error, span) from error

    def _no_operand(
        self, op: str, side: Any, other: Any, nodes: tuple[tree.Expr | None, tree.Expr], span: Span
    ) -> Fault:
        texts = [_short_text(node) or default for node, default in zip(nodes, ("items", "x"), strict=True)]
        message = f"'{op}' does not take a tensor and {describe(side)}"
        help: str | tuple[str, ...] = ()
        if isinstance(side, list) and op == "+":
            left, right = texts
            message = "'+' joins lists or adds tensors; it does not mix a list and a tensor"
            help = f"write {left} + [{right}]" if isinstance(other, Value) and side is not other else ()
            if nodes[0] is not None and isinstance(other, Value) and span == nodes[1].span:
                help = f"write [{texts[0]}] + {texts[1]}"
        elif is_callable(side):
            help = f"call it first: x -> {side.name}"
        elif isinstance(side, tuple) and side and all(isinstance(v, Value) for v in side):
            help = "take one of its values: [0], or unpack it: a, b = …"
        elif isinstance(side, list | tuple):
            help = "tensor([…]) makes a tensor of a list of numbers"
        return self.fault("argument", message, span, help=help)

    # --- subscripts -------------------------------------------------------------------------------------------------

    def index(self, node: tree.Index, frame: Frame) -> Any:
        return self.index_value(self.eval(node.value, frame), node, frame)

    def index_value(self, value: Any, node: tree.Index, frame: Frame) -> Any:
        items = [self._item(item, frame) for item in node.items]
        if isinstance(value, Value):
            return self._index_tensor(value, items, node, frame)
        if not isinstance(value, list | tuple | str):
            message = f"{describe(value)} cannot be indexed"
            raise self.fault("index", message, node.value.span)
        if len(items) > 1 or items[0] is Ellipsis:
            message = f"{describe_kind(value)} takes one index, found {plural(len(items), 'position')}"
            raise self.fault("index", message, _items_span(node), help="index again: a[0][1]" if len(items) > 1 else ())
        return self._index_plain(value, items[0], node)

    def _item(self, item: tree.Expr | tree.Slice | tree.Ellipsis, frame: Frame) -> Any:
        if isinstance(item, tree.Ellipsis):
            return Ellipsis
        if isinstance(item, tree.Slice):
            start, stop, step = (self.eval(p, frame) if p else None for p in (item.start, item.stop, item.step))
            return slice(start, stop, step)
        return self.eval(item, frame)

    def _index_tensor(self, value: Value, items: list[Any], node: tree.Index, frame: Frame) -> Any:
        for item, place in zip(items, node.items, strict=True):
            parts = (item.start, item.stop, item.step) if isinstance(item, slice) else (item,)
            for part in parts:
                if not _fits_index(part, isinstance(item, slice)):
                    helps = "gather(x, indices, axis) takes a tensor of positions" if isinstance(part, Value) else ()
                    if isinstance(part, float):
                        helps = "divide with // to get an integer"
                    message = f"expected an integer, a dimension, a slice or ... as index, found {describe(part)}"
                    raise self.fault("index", message, place.span, help=helps)
        self.budget_operator(node.span)
        given = {"x": Given(value, None, name_of(node.value))}
        return self._emit("slice", lambda cx: index(cx, value, items), given, node.span, frame)

    def _index_plain(self, value: Any, item: Any, node: tree.Index) -> Any:
        span = _items_span(node)
        parts = (item.start, item.stop, item.step) if isinstance(item, slice) else (item,)
        for part in parts:
            if isinstance(part, bool) or not (isinstance(part, int) or (part is None and isinstance(item, slice))):
                help = "divide with // to get an integer" if isinstance(part, float) else ()
                if isinstance(part, Expr):
                    help = "give the symbol a value with --set"
                raise self.fault("index", f"expected an integer as index, found {describe(part)}", span, help=help)
        try:
            if isinstance(item, slice):
                if item.step == 0:
                    raise self.fault("index", "the step of a slice is an integer other than 0", span)
                result = value[item]
                self.budget.items(len(result))
            else:
                result = value[item]
        except IndexError:
            length = len(value)
            have = f"it has {plural(length, 'item')}" + (f", 0 to {length - 1}" if length else "")
            raise self.fault("index", f"index {item} is out of range: {have}", span) from None
        except Refusal as refusal:
            raise self.refused(refusal, node.span) from None
        if result is POISON:
            raise Fault
        return result

    # --- attributes -------------------------------------------------------------------------------------------------

    def attribute(self, node: tree.Attribute, frame: Frame) -> Any:
        return self.attribute_value(self.eval(node.value, frame), node, frame)

    def attribute_value(self, value: Any, node: tree.Attribute, frame: Frame) -> Any:
        name = node.name
        if isinstance(value, Value):
            return self._tensor_attribute(value, node)
        if isinstance(value, ModuleValue):
            return self._module_attribute(value, node)
        if isinstance(value, OnnxOperators):
            return self._onnx_operator(node)
        if isinstance(value, Results):
            if name in value.names:
                result = value[value.names.index(name)]
                if result is POISON:
                    raise Fault
                return result
            message = f"these results have no '{name}': they are {listed(value.names)}"
            raise self.fault("attribute", message, node.name_span, help=did_you_mean(name, value.names))
        text = node.value.span.text if len(node.value.span.text) < 40 and "\n" not in node.value.span.text else "x"
        message = f"{describe_kind(value)} has no attribute '{name}'"
        helps: list[str] = []
        if name in _MUTATORS and isinstance(value, list | tuple):
            helps = [f"values are immutable: write {text} = {_MUTATORS[name].format(x=text, v='value')}"]
        elif isinstance(value, list | tuple) and name in ("shape", "size", "length", "count", "ndim"):
            helps = [f"the length of a list is len({text})"]
        elif isinstance(value, tuple) and any(isinstance(v, Value) for v in value):
            helps = [f"take one of its values first: {text}[0].{name}"]
        raise self.fault("attribute", message, node.name_span, help=helps)

    def _tensor_attribute(self, value: Value, node: tree.Attribute) -> Any:
        name = node.name
        if name not in ATTRIBUTES:
            near = {"size": "shape", "ndim": "rank", "type": "dtype"}.get(name) or suggest(name, ATTRIBUTES)
            text = name_of(node.value) or "x"
            helps = [f"did you mean '{near}'?"] if near else [f"it has {listed(list(ATTRIBUTES))}"]
            if name in OPERATOR_VALUES:
                helps = [f"'{name}' is an operator: write {text} -> {name}"]
            raise self.fault("attribute", f"a tensor has no attribute '{name}'", node.name_span, help=helps)
        low, get = ATTRIBUTES[name]
        if value.rank < low or (name == "length" and value.rank != 3):
            wanted = "3" if name == "length" else f"{low} or more"
            message = f"'{name}' needs a tensor of rank {wanted}, found {value.type} of rank {value.rank}"
            notes = [self.operand_note(value, name_of(node.value), "this")]
            raise self.fault("attribute", message, node.name_span, notes=notes)
        return get(value)

    def _onnx_operator(self, node: tree.Attribute) -> OperatorValue:
        try:
            return OperatorValue(onnx_operator(node.name))
        except OpError as error:
            raise self.fault("unknown-name", error.message, node.name_span, help=error.help) from None

    def _module_attribute(self, value: ModuleValue, node: tree.Attribute) -> Any:
        module, name = value.module, node.name
        if name in module.entries:
            result = self.definition(module, name, node.name_span)
            if result is POISON:
                raise Fault
            return result
        if name in module.lost:
            raise Fault
        help = unknown_member_help(module, name)
        message = f"the file '{value.name}' defines no '{name}'"
        raise self.fault("unknown-name", message, node.name_span, help=help)


def _infix_name(op: str) -> str:
    made: type[Operator] = INFIX[op]
    return made.name


def _fits_index(part: Any, in_slice: bool) -> bool:
    if part is None:
        return in_slice
    return isinstance(part, EllipsisType | Expr) or (isinstance(part, int) and not isinstance(part, bool))


def _short_text(node: tree.Expr | None) -> str | None:
    """An operand as it is written, where that is short enough to be repeated."""
    text = node.span.text if node else ""
    return text if 0 < len(text) <= 30 and "\n" not in text else None


def _items_span(node: tree.Index) -> Span:
    return node.items[0].span.to(node.items[-1].span)
