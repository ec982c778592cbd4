"""Arguments of a call put to parameters: of operators by the kinds of their signatures, of blocks by name alone.

A `BindError` says what is wrong and with which argument; the caller knows where that stands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netdsl.elaborate.budget import Budget
from netdsl.elaborate.compare import MAX_NESTED
from netdsl.elaborate.faults import Limit
from netdsl.elaborate.suggest import did_you_mean
from netdsl.elaborate.values import (
    Arguments,
    Given,
    InitializerFunction,
    PlainFunction,
    SettingFunction,
    describe,
    listed,
    plural,
)
from netdsl.ir.arguments import ArgumentError, Axes, ElementType, InitializerKind, Kind, Param, Shape
from netdsl.ir.dims import Expr
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Operator
from netdsl.ir.types import DType
from netdsl.source import Span


class BindError(Exception):
    """`given` is the argument at fault, or `span` its name; neither where one is missing."""

    def __init__(
        self,
        message: str,
        *,
        given: Given | None = None,
        span: Span | None = None,
        help: str | Sequence[str] = (),
        name: str = "argument",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.given = given
        self.span = span
        self.help = (help,) if isinstance(help, str) else tuple(help)
        self.name = name


@dataclass(frozen=True, slots=True)
class Bound:
    """An operator's arguments: `values` for its `call`, `given` as they were written."""

    values: dict[str, Any]
    given: dict[str, Given]


Signed = type[Operator] | SettingFunction  #: what has a name and a signature

_LAYOUTS: dict[Signed, tuple[dict[str, Param], tuple[str, ...]]] = {}


def _layout(op: Signed) -> tuple[dict[str, Param], tuple[str, ...]]:
    """The signature by name, and the names in order."""
    found = _LAYOUTS.get(op)
    if found is None:
        found = _LAYOUTS[op] = {p.name: p for p in op.signature}, tuple(p.name for p in op.signature)
    return found


def bind_operator(op: Signed, arguments: Arguments, budget: Budget) -> Bound:
    """Raises BindError."""
    params, names = _layout(op)
    given = _by_name(op, params, names, arguments)
    values: dict[str, Any] = {}
    for name, param in params.items():
        found = given.get(name)
        if found is not None:
            values[name] = _converted(op, param, found, given, arguments, budget)
        elif param.default_from is not None:
            values[name] = values[param.default_from]
        elif param.required:
            raise _missing(op, param, arguments)
        else:
            values[name] = param.default
    return Bound(values, given)


def _by_name(op: Signed, params: dict[str, Param], names: tuple[str, ...], arguments: Arguments) -> dict[str, Given]:
    given: dict[str, Given] = {}
    positional = arguments.positional
    for index, item in enumerate(positional):
        if index >= len(names):
            raise _too_many(op, names, positional)
        param = params[names[index]]
        if param.kind.variadic and len(positional) > index + 1 and not _is_list(item, positional[index + 1]):
            rest = positional[index:]
            given[param.name] = Given([g.value for g in rest], item.span, None, rest)
            break
        given[param.name] = item
    for name, item in arguments.named.items():
        if name not in params:
            raise _unknown(op.name, name, names, arguments.named_spans[name])
        if name in given:
            raise _twice(op.name, name, arguments.named_spans[name])
        given[name] = item
    return given


def _is_list(item: Given, following: Given) -> bool:
    """Whether a joining operator's first argument is its one list, so that what follows are other arguments."""
    if not isinstance(item.value, list | tuple):
        return False
    if isinstance(following.value, Value):
        text = item.name or "items"
        other = following.name or "x"
        raise BindError(
            f"a list and tensors do not mix: found {describe(item.value)} before a tensor",
            given=following,
            help=f"join them first: {text} + [{other}]",
        )
    return True


def _converted(
    op: Signed, param: Param, found: Given, given: dict[str, Given], arguments: Arguments, budget: Budget
) -> Any:
    value = found.value
    if isinstance(value, InitializerFunction) and value.default is not None:
        value = value.default
    if isinstance(value, list | tuple):
        _check_size(value, budget)
        if param.kind.variadic:
            budget.operator(max(0, len(value) - 1))
    try:
        return param.kind.convert(value)
    except ArgumentError as error:
        raise _wrong_kind(op, param, found, error, given, arguments) from None


def _check_size(value: list[Any] | tuple[Any, ...], budget: Budget, depth: int = 0) -> None:
    """Pays for every item of a list that an operator is going to walk. Raises Limit."""
    budget.step(len(value))
    if depth > MAX_NESTED:
        raise Limit(f"this list nests more than {MAX_NESTED} deep")
    for item in value:
        if isinstance(item, list | tuple):
            _check_size(item, budget, depth + 1)


# --- what can be wrong ----------------------------------------------------------------------------------------------


def _wrong_kind(
    op: Signed, param: Param, found: Given, error: ArgumentError, given: dict[str, Given], arguments: Arguments
) -> BindError:
    helps: Sequence[str] = [error.help] if error.help else []
    value = found.value
    if param.kind.is_tensor and param is op.signature[0] and not isinstance(value, Value):
        helps = _tensor_help(op, arguments, found) or helps
    elif isinstance(value, Value) and not param.kind.is_tensor:
        helps = _value_help(op, param, found) or helps
    if isinstance(value, InitializerFunction) and isinstance(param.kind, InitializerKind):
        first = Initializer.SIGNATURES[value.name][0][0]
        helps = [f"write {value.name}({first})"]
    if isinstance(param.kind, ElementType) and isinstance(value, PlainFunction):
        near = {"float": DType.float32, "int": DType.int64}.get(value.name)
        helps = [f"did you mean '{near}'?"] if near else []
    found_text = _found(value, param.kind)
    message = f"{op.name}: expected {error.expected} for '{param.name}', found {found_text}"
    if "," in error.expected:
        message = f"{op.name}: '{param.name}' takes {error.expected}; found {found_text}"
    return BindError(message, given=found, help=helps)


def _found(value: Any, kind: Kind) -> str:
    """A value, or the item of a list that is the matter."""
    if isinstance(value, list | tuple) and kind.variadic:
        for item in value:
            if not isinstance(item, Value):
                return f"{describe(item)} among {plural(len(value), 'value')}" if len(value) > 1 else describe(item)
    return describe(value)


def _tensor_help(op: Signed, arguments: Arguments, found: Given) -> list[str]:
    """The input is missing, or does not come first."""
    written = [g.span.text for g in arguments.positional if g.span]
    if isinstance(found.value, tuple) and found.value and isinstance(found.value[0], Value):
        one = found.span.text if found.span and "\n" not in found.span.text else "x -> f(…)"
        return [f"it returned several values; take one of them: {one}[0]"]
    if any("\n" in text or len(text) > 40 for text in written) or len(written) < len(arguments.positional):
        return []
    written += [f"{name}={g.span.text}" for name, g in arguments.named.items() if g.span and "\n" not in g.span.text]
    if isinstance(found.value, list) and found.value and all(isinstance(v, Value) for v in found.value):
        return [f"take one of them: {written[0]}[0]"]
    later = next((g for g in arguments.positional[1:] if isinstance(g.value, Value)), None)
    if later and later.span:
        rest = [text for text in written if text != later.span.text]
        return [f"the tensor comes first: {op.name}({', '.join([later.span.text, *rest])})"]
    if len(written) >= len(op.signature) or not isinstance(found.value, int | float):
        return []
    inner = ", ".join(written)
    return [f"write {op.name}(_, {inner}) for a function, or x -> {op.name}({inner}) to give it an input"]


def _value_help(op: Signed, param: Param, found: Given) -> list[str]:
    if found.span is None:
        return []
    if any(p.kind.variadic for p in op.signature):
        return []
    first = op.signature[0]
    if first.kind.is_tensor and found.span:
        return [f"a value known at compile time belongs here; a size of the tensor is {found.name or 'x'}.shape[i]"]
    return []


def _missing(op: Signed, param: Param, arguments: Arguments) -> BindError:
    signature = usage(op)
    if param is op.signature[0] and param.kind.is_tensor:
        inner = ", ".join(
            f"{name}={g.span.text}" for name, g in arguments.named.items() if g.span and "\n" not in g.span.text
        )
        help = f"write x -> {op.name}({inner})" + (f", or {op.name}(_, {inner}) for a function" if inner else "")
        if param.kind.variadic:
            help = f"write {op.name}(a, b) or, with a list, {op.name}(items)"
        return BindError(f"{op.name}: the input '{param.name}' is missing", help=help)
    return BindError(f"{op.name}: the argument '{param.name}' is missing", help=f"its arguments are {signature}")


def usage(op: Signed) -> str:
    """`conv(x, channels, kernel, stride=…)`: what must be given, and then what may be."""
    shown = [p.name if p.required else f"{p.name}=…" for p in op.signature]
    return f"{op.name}({', '.join(shown)})"


def _too_many(op: Signed, names: tuple[str, ...], positional: list[Given]) -> BindError:
    message = f"{op.name} takes {plural(len(names), 'argument')} at most, found {len(positional)}"
    help = f"its arguments are {usage(op)}"
    numbers = [g for g in positional if not isinstance(g.value, Value)]
    if all(isinstance(g.value, int | Expr) and g.span and "\n" not in g.span.text for g in numbers):
        items = ", ".join(g.span.text for g in numbers if g.span)
        if len(names) > 1 and isinstance(op.signature[1].kind, Shape | Axes):
            help = f"write {names[1]} as one list: {op.name}({names[0]}, [{items}])"
    return BindError(message, given=positional[len(names)], help=help)


def _unknown(callee: str, name: str, names: Sequence[str], span: Span) -> BindError:
    known = f"it takes {listed(list(names))}" if names else "it takes no arguments"
    return BindError(f"{callee} has no argument '{name}'", span=span, help=did_you_mean(name, names, known))


def _twice(callee: str, name: str, span: Span) -> BindError:
    return BindError(f"{callee}: the argument '{name}' is given twice: by position and by name", span=span)


def bind_names(callee: str, names: Sequence[str], arguments: Arguments) -> dict[str, Given]:
    """The arguments of a block or a network, by the names of its parameters; some may be missing. Raises BindError."""
    positional = arguments.positional
    if len(positional) > len(names):
        takes = f"takes {plural(len(names), 'argument')}" + (f" ({', '.join(names)})" if names else "")
        raise BindError(f"{callee} {takes}, found {len(positional)}", given=positional[len(names)])
    given = dict(zip(names, positional, strict=False))
    for name, item in arguments.named.items():
        if name not in names:
            raise _unknown(callee, name, names, arguments.named_spans[name])
        if name in given:
            raise _twice(callee, name, arguments.named_spans[name])
        given[name] = item
    return given


def bind_setting(function: SettingFunction, arguments: Arguments, budget: Budget) -> Any:
    """What a function of a recipe's setting makes: `sgd(lr=0.1)`. Raises BindError."""
    bound = bind_operator(function, arguments, budget)
    try:
        return function.make({name: bound.values[name] for name in bound.given})
    except ArgumentError as error:
        raise BindError(f"{function.name}: expected {error.expected}", help=error.help or ()) from None


def bind_initializer(function: InitializerFunction, arguments: Arguments) -> Initializer:
    """`normal(0, 0.02)`. Raises BindError."""
    signature = Initializer.SIGNATURES[function.name]
    given = bind_names(function.name, [name for name, _ in signature], arguments)
    values = []
    for name, default in signature:
        found = given.get(name)
        if found is None:
            if default is None:
                raise BindError(
                    f"{function.name}: the argument '{name}' is missing", help=f"write {function.name}({name})"
                )
            values.append(default)
            continue
        if isinstance(found.value, bool) or not isinstance(found.value, int | float) or not abs(found.value) < 1e308:
            raise BindError(
                f"{function.name}: expected a number for '{name}', found {describe(found.value)}", given=found
            )
        values.append(float(found.value))
    return Initializer(function.name, tuple(values))
