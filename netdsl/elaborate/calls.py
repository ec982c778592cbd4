"""Calls and chains: arguments, holes, and what a call of each kind of callable does."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from netdsl.diagnostics import Note
from netdsl.elaborate.binding import BindError, bind_initializer, bind_operator, bind_setting
from netdsl.elaborate.builtins import OPERATOR_VALUES
from netdsl.elaborate.expressions import Expressions, merged, name_of
from netdsl.elaborate.faults import Fault, Refusal
from netdsl.elaborate.layers import LayerAt, ParameterSource, SharedMismatch
from netdsl.elaborate.scope import Frame
from netdsl.elaborate.values import (
    HOLE,
    Arguments,
    BlockValue,
    Given,
    InitializerFunction,
    NetworkValue,
    OperatorValue,
    Partial,
    PlainFunction,
    SettingFunction,
    SharedCallable,
    describe,
    is_callable,
    plural,
)
from netdsl.ir.graph import Value
from netdsl.ir.opdef import Operator, OpError, ShapeError
from netdsl.source import Span
from netdsl.syntax import tree


@dataclass(frozen=True, slots=True)
class Site:
    """Where a call stands. `span` is the function's name, underlined where no argument is to blame; `whole` the call.
    `label` is its `as` name; `path` the full path where that is fixed (`shared`)."""

    span: Span
    whole: Span
    label: str | None = None
    path: str | None = None


class Calls(Expressions):
    """Evaluates calls; the bodies of blocks and networks are the subclass's."""

    @abstractmethod
    def call_block(self, block: BlockValue, arguments: Arguments, site: Site, frame: Frame) -> Any: ...

    @abstractmethod
    def call_network(self, network: NetworkValue, arguments: Arguments, site: Site, frame: Frame) -> Any: ...

    # --- calls and chains as they are written -----------------------------------------------------------------------

    def call_node(self, node: tree.Call, frame: Frame) -> Any:
        return self._call(node, None, None, frame)

    def _call(self, node: tree.Call, front: Given | None, label: str | None, frame: Frame) -> Any:
        """A call; `front` is the value in front of its chain's step."""
        function = self.eval(node.function, frame)
        if not is_callable(function):
            raise self.not_callable(function, node.function, frame)
        arguments, holes = self._arguments(node, frame)
        if front is not None:
            _fill(arguments, front, holes)
        elif holes:
            return Partial(function, arguments)
        site = Site(_name_span(node.function), node.span, label)
        return self.call(function, arguments, site, frame)

    def _arguments(self, node: tree.Call, frame: Frame) -> tuple[Arguments, bool]:
        """The evaluated arguments, and whether there is a hole among them."""
        positional, named, spans, faults, holes = [], {}, {}, [], False
        for argument in node.arguments:
            expression = argument.value
            if type(expression) is tree.Hole:
                value, holes = HOLE, True
            else:
                try:
                    value = self.eval(expression, frame)
                except Fault as fault:
                    faults.append(fault)
                    continue
            given = Given(value, expression.span, expression.id if type(expression) is tree.Name else None)
            if argument.name is None:
                positional.append(given)
            else:
                named[argument.name] = given
                spans[argument.name] = argument.name_span or argument.span
        if faults:
            raise merged(faults)
        return Arguments(positional, named, spans), holes

    def chain(self, node: tree.Chain, frame: Frame) -> Any:
        value = self.eval(node.value, frame)
        name = name_of(node.value)
        for step in node.steps:
            label = step.label.id if step.label else None
            value = self._step(step.function, Given(value, None, name), label, frame)
            if step.label:
                frame.bind(step.label.id, value, step.label.span)
            name = label
        return value

    def _step(self, function: tree.Expr, front: Given, label: str | None, frame: Frame) -> Any:
        """`front -> function`: the first call along the postfix spine takes the value, or the function itself."""
        kind = type(function)
        if kind is tree.Call:
            first = _first_call(function)
            if first is function:
                self.budget.step()
                return self._call(first, front, label, frame)
        elif kind is tree.Index or kind is tree.Attribute:
            first = _first_call(function)
        else:
            first = None
        if first is None:
            value = self.eval(function, frame)
            if not is_callable(value):
                raise self._step_not_callable(value, function, frame)
            return self.call(value, Arguments([front]), Site(_name_span(function), function.span, label), frame)
        inner = self._call(first, front, label, frame)
        return self._rest(function, first, inner, frame)

    def _rest(self, node: tree.Expr, first: tree.Call, inner: Any, frame: Frame) -> Any:
        """What follows the first call of a step applies to its result."""
        if node is first:
            return inner
        if isinstance(node, tree.Call):
            function = self._rest(node.function, first, inner, frame)
            if not is_callable(function):
                raise self.not_callable(function, node.function, frame)
            arguments, holes = self._arguments(node, frame)
            site = Site(_name_span(node.function), node.span)
            return Partial(function, arguments) if holes else self.call(function, arguments, site, frame)
        if isinstance(node, tree.Index):
            return self.index_value(self._rest(node.value, first, inner, frame), node, frame)
        assert isinstance(node, tree.Attribute)
        return self.attribute_value(self._rest(node.value, first, inner, frame), node, frame)

    @abstractmethod
    def index_value(self, value: Any, node: tree.Index, frame: Frame) -> Any: ...

    @abstractmethod
    def attribute_value(self, value: Any, node: tree.Attribute, frame: Frame) -> Any: ...

    def _step_not_callable(self, value: Any, node: tree.Expr, frame: Frame) -> Fault:
        if isinstance(node, tree.Name) and node.id in OPERATOR_VALUES:
            return self.not_callable(value, node, frame)
        what = f"'{node.id}' is" if isinstance(node, tree.Name) else "found"
        message = f"'->' hands its value to a function, but {what} {describe(value)}"
        if what == "found":
            message = f"expected a function after '->', found {describe(value)}"
        return self.fault("not-callable", message, node.span)

    # --- what a call does -------------------------------------------------------------------------------------------

    def call(self, function: Any, arguments: Arguments, site: Site, frame: Frame) -> Any:
        try:
            match function:
                case OperatorValue():
                    return self._call_operator(function.op, arguments, site, frame)
                case BlockValue():
                    return self.call_block(function, arguments, site, frame)
                case Partial():
                    return self._call_partial(function, arguments, site, frame)
                case SharedCallable():
                    return self._call_shared(function, arguments, site, frame)
                case NetworkValue():
                    return self.call_network(function, arguments, site, frame)
                case PlainFunction():
                    return self._call_plain(function, arguments, site, frame)
                case SettingFunction():
                    return bind_setting(function, arguments, self.budget)
            assert isinstance(function, InitializerFunction)
            return bind_initializer(function, arguments)
        except BindError as error:
            span = error.span or (error.given.span if error.given else None) or site.span
            raise self.fault(error.name, error.message, span, help=error.help) from None
        except Refusal as refusal:
            raise self.refused(refusal, site.whole) from None

    def take_path(self, name: str, site: Site, frame: Frame) -> str:
        """The path of a new layer: its `as` name, else its own name."""
        if site.path is not None:
            return site.path
        assert frame.scope is not None
        return frame.scope.take(site.label or name)

    def layer(self, name: str, site: Site, frame: Frame) -> LayerAt:
        assert frame.source is not None
        path = self.take_path(name, site, frame)
        return LayerAt(self.builder, path, (frame.site or site.span).place, frame.frozen, frame.source)

    def _call_operator(self, op: type[Operator], arguments: Arguments, site: Site, frame: Frame) -> Any:
        self.budget.operator()
        bound = bind_operator(op, arguments, self.budget)
        self.require_layers(frame, f"'{op.name}'", site.span)
        layer = self.layer(op.name.rpartition(".")[2], site, frame)  # that of onnx.Elu is Elu
        try:
            result = op.call(layer, **bound.values)
        except OpError as error:
            given = bound.given.get(error.argument) if error.argument else None
            raise self.op_fault(error, bound.given, given, site) from None
        except ArithmeticError as error:  # a dimension that cannot be formed
            raise self.fault("invalid-argument", f"{op.name}: {error}", site.span) from None
        except Exception as error:  # a fault of ours; no program may end in a traceback
            raise self.internal(op.name, error, site.span) from error
        return self.made(result, site.whole)

    def op_fault(self, error: OpError, given: dict[str, Given], blamed: Given | None, site: Site) -> Fault:
        """An operator's refusal: underlines the argument at fault, and says where its tensors came from."""
        notes = []
        if isinstance(error, SharedMismatch):
            notes.append(Note("this is its first use", error.first))
        elif isinstance(error, ShapeError):
            notes = self._operand_notes(given)
        span = blamed.span if blamed and blamed.span else site.span
        if blamed is not None and error.within is not None and span.text[1:-1] == blamed.value:  # a string as it stands
            span = Span(span.file, span.start + 1 + error.within[0], span.start + 1 + error.within[1])
        return self.fault(error.name, error.message, span, notes=notes, help=error.help)

    def _operand_notes(self, given: dict[str, Given]) -> list[Note]:
        notes: dict[Value, Note] = {}
        for name, item in given.items():
            values = item.value if isinstance(item.value, list | tuple) else [item.value]
            for i, value in enumerate(values[:8]):
                if isinstance(value, Value) and value not in notes:
                    single = len(values) == 1
                    fallback = f"number {i + 1}"
                    if single:
                        fallback = "the input" if item.span is None else f"the argument '{name}'"
                    named = item.name if single else item.items[i].name if item.items else None
                    notes[value] = self.operand_note(value, named, fallback)
        return list(notes.values())

    def _call_partial(self, partial: Partial, arguments: Arguments, site: Site, frame: Frame) -> Any:
        """Fills the holes with the one argument; arguments by name come on top."""
        if len(arguments.positional) != 1:
            excess = arguments.positional[1].span if len(arguments.positional) > 1 else None
            message = f"{partial} takes one value, found {len(arguments.positional)}"
            raise BindError(message, span=excess, help=f"its holes are filled by one value: x -> {partial.name}(…)")
        known = partial.arguments
        filled = Arguments(
            list(known.positional), {**known.named, **arguments.named}, {**known.named_spans, **arguments.named_spans}
        )
        _fill(filled, arguments.positional[0], holes=True)
        return self.call(partial.function, filled, site, frame)

    def _call_shared(self, shared: SharedCallable, arguments: Arguments, site: Site, frame: Frame) -> Any:
        store = shared.store
        inside = replace_frame(frame, store, frame.frozen or shared.frozen)
        store.begin()
        result = self.call(shared.function, arguments, replace(site, label=None, path=store.path), inside)
        try:
            store.complete(site.whole)
        except SharedMismatch as error:
            raise self.op_fault(error, {}, None, site) from None
        return result

    def _call_plain(self, function: PlainFunction, arguments: Arguments, site: Site, frame: Frame) -> Any:
        values = [g.value for g in arguments.positional]
        if any(isinstance(g.value, Value) for g in arguments.given()):
            return self._plain_on_tensors(function, arguments, site, frame)
        if function.name == "sum" and len(values) == 1 and isinstance(values[0], list | tuple):
            items = list(values[0])
            if any(isinstance(v, Value) for v in items):
                return self._sum_of_tensors(items, site, frame)
        if arguments.named:
            if function.name == "enumerate" and list(arguments.named) == ["start"] and len(values) == 1:
                values.append(arguments.named["start"].value)
            else:
                name = next(iter(arguments.named))
                raise BindError(
                    f"{function.name} takes no arguments by name on plain values", span=arguments.named_spans[name]
                )
        if len(values) < function.low or (function.high is not None and len(values) > function.high):
            raise _wrong_count(function, arguments)
        return function.call(self.budget, *values)

    def _plain_on_tensors(self, function: PlainFunction, arguments: Arguments, site: Site, frame: Frame) -> Any:
        """`max(x)`: the operator of that name, where there is one."""
        if function.name in ("min", "max") and len(arguments.positional) > 1:
            second = arguments.positional[1]
            if isinstance(second.value, Value | float):
                names = ", ".join(g.span.text if g.span else "x" for g in arguments.positional)
                message = f"{function.name} of a tensor takes axes after it, found {describe(second.value)}"
                raise BindError(message, given=second, help=f"element by element: {function.name}imum({names})")
        operator = OPERATOR_VALUES.get(function.on_tensors or "")
        if operator is None:
            given = next(g for g in arguments.given() if isinstance(g.value, Value))
            if function.low == 1 and function.high == 1:
                function.call(self.budget, given.value)  # says what it takes
            helps = {
                "range": "a size of the tensor is x.shape[i]",
                "log2": "the natural logarithm of a tensor is log(x)",
            }
            message = f"{function.name} works on plain values, found {describe(given.value)}"
            raise BindError(message, given=given, help=helps.get(function.name, ()))
        return self._call_operator(operator.op, arguments, site, frame)

    def _sum_of_tensors(self, items: list[Any], site: Site, frame: Frame) -> Any:
        if len(items) == 1:
            return items[0]
        return self._call_operator(OPERATOR_VALUES["add"].op, Arguments([Given(items, site.whole)]), site, frame)


def replace_frame(frame: Frame, source: ParameterSource, frozen: bool) -> Frame:
    """The caller's frame, with another source of parameters."""
    return Frame(frame.module, frame.scope, source, frame.owner, frozen, frame.site)


def _fill(arguments: Arguments, front: Given, holes: bool) -> None:
    """Puts the value in front into the holes, or before the other arguments."""
    if not holes:
        arguments.positional.insert(0, front)
        return
    arguments.positional = [_filled(given, front) for given in arguments.positional]
    arguments.named = {name: _filled(given, front) for name, given in arguments.named.items()}


def _filled(given: Given, front: Given) -> Given:
    return Given(front.value, front.span or given.span, front.name) if given.value is HOLE else given


def _first_call(node: tree.Expr) -> tree.Call | None:
    """The innermost call along a postfix spine; a parenthesis is a value of its own."""
    first = None
    while isinstance(node, tree.Call | tree.Index | tree.Attribute):
        if isinstance(node, tree.Call):
            first, node = node, node.function
        else:
            node = node.value
    return first


def _name_span(node: tree.Expr) -> Span:
    """The part of a function's expression that an error underlines."""
    return node.name_span if isinstance(node, tree.Attribute) else node.span


def _wrong_count(function: PlainFunction, arguments: Arguments) -> BindError:
    count = len(arguments.positional)
    if function.high is None:
        takes = f"{plural(function.low, 'argument')} or more"
    elif function.low == function.high:
        takes = plural(function.low, "argument")
    else:
        takes = f"{function.low} to {function.high} arguments"
    excess = arguments.positional[function.high] if function.high is not None and count > function.high else None
    return BindError(f"{function.name} takes {takes}, found {count}", given=excess)
