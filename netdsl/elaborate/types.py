"""Element types and shapes as a program writes them, and the symbols that they bring in."""

from __future__ import annotations

from typing import Any

from netdsl.elaborate.builtins import BUILTINS
from netdsl.elaborate.faults import UsageError
from netdsl.elaborate.scope import Frame
from netdsl.elaborate.suggest import suggest
from netdsl.elaborate.tensors import Tensors
from netdsl.elaborate.values import describe
from netdsl.ir.dims import Dim, Expr, decide, substitute, symbol, to_text
from netdsl.ir.types import DType, TensorType
from netdsl.lint.evaluation import NEW_SYMBOL
from netdsl.syntax import tree

_PATTERN = "'"  # ends the names of a called network's own symbols, which no program can write


class Types(Tensors):
    """Evaluates types."""

    def dtype(self, node: tree.TypeExpr, frame: Frame) -> DType:
        name = node.dtype.id
        value: Any = BUILTINS.get(name)
        if name in frame.names or name in frame.module.entries:
            value = self.name(tree.Name(node.dtype.span, name), frame)
        if isinstance(value, DType):
            return value
        known = [d.value for d in DType]
        near = _DTYPE_SLIPS.get(name) or suggest(name, known)
        help = f"did you mean '{near}'?" if near else f"element types are {', '.join(known)}"
        raise self.fault("unknown-type", f"unknown element type '{name}'", node.dtype.span, help=help)

    def static_type(self, node: tree.TypeExpr, frame: Frame) -> TensorType:
        """A type of integers alone, as a parameter's is."""
        dtype, dims = self.dtype(node, frame), []
        for part, value in zip(node.dims, self.eval_all(node.dims, frame), strict=True):
            if isinstance(value, Expr):
                message = f"the shape of a parameter is made of integers, found the symbolic dimension {to_text(value)}"
                help = f"give the symbol a value, as with --set {min(value.symbols)}=…, or write a number"
                raise self.fault("symbolic-parameter", message, part.span, help=help)
            dims.append(self._dim(value, part))
        return TensorType(dtype, tuple(dims))

    def input_type(self, node: tree.TypeExpr, frame: Frame) -> TensorType:
        """A type whose unbound names become symbols."""
        dtype = self.dtype(node, frame)
        for name in dim_names(node):
            self._new_symbol(name, frame)
        values = self.eval_all(node.dims, frame)
        return TensorType(dtype, tuple(self._dim(v, part) for v, part in zip(values, node.dims, strict=True)))

    def _dim(self, value: Any, node: tree.Expr) -> Dim:
        if isinstance(value, bool) or not isinstance(value, int | Expr):
            help = "divide with // to get an integer" if isinstance(value, float) else ()
            raise self.fault(
                "dimension",
                f"a dimension is an integer or an expression of symbols, found {describe(value)}",
                node.span,
                help=help,
            )
        if decide(">=", value, 1) is False:
            never = "" if isinstance(value, int) else ", which is never positive"
            raise self.fault("dimension", f"a dimension is 1 or more, found {to_text(value)}{never}", node.span)
        return value

    def _new_symbol(self, node: tree.Name, frame: Frame) -> None:
        """Binds a name that nothing binds to a symbol, or to the value that it is set to."""
        run = frame.network
        assert run is not None
        name = node.id
        if name in frame.names or name in frame.module.entries or name in frame.module.lost:
            return
        if run.arguments is not None:
            frame.bind(name, symbol(name + _PATTERN), node.span)
            return
        self._warn_of_slip(node, frame)
        value: Any = symbol(name)
        if name in run.settings:
            value = run.settings[name]
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise UsageError(f"the symbol '{name}' takes a positive integer, found {describe(value)}")
        run.symbols[name] = value
        frame.bind(name, value, node.span)

    def _warn_of_slip(self, node: tree.Name, frame: Frame) -> None:
        known = [*frame.names, *frame.module.entries]
        meant = next((other for other in known if one_letter_apart(node.id, other)), None)
        if meant:
            message = f"'{node.id}' becomes a new symbol; it is one letter away from '{meant}'"
            self.reporter.report(NEW_SYMBOL.warn(message, node.span, help=f"did you mean '{meant}'?"))

    def settle_symbols(
        self, pattern: TensorType, actual: TensorType, frame: Frame, solved: dict[str, Dim]
    ) -> TensorType:
        """The pattern with what was solved put in; names bound to pattern symbols get their values."""
        for name, value in list(frame.names.items()):
            if isinstance(value, Expr) and not solved.keys().isdisjoint(value.symbols):
                frame.names[name] = substitute(value, solved)
        return TensorType(pattern.dtype, tuple(substitute(d, solved) for d in pattern.shape))


def is_pattern(name: str) -> bool:
    """Whether a symbol is one of a called network's own."""
    return name.endswith(_PATTERN)


def shown_pattern(dim: Dim) -> str:
    return to_text(dim).replace(_PATTERN, "")


def dim_names(node: tree.TypeExpr) -> list[tree.Name]:
    """The names in a type's dimensions, those of called functions aside."""
    found: list[tree.Name] = []
    pending: list[Any] = list(reversed(node.dims))
    while pending:
        part = pending.pop()
        match part:
            case tree.Name():
                found.append(part)
            case tree.Paren(value=value) | tree.Unary(operand=value):
                pending.append(value)
            case tree.Operation(first=first, rest=rest):
                pending += [*reversed(rest), first]
            case tree.Power(base=base, exponent=exponent):
                pending += [exponent, base]
            case tree.Conditional(condition=condition, value=value, otherwise=otherwise):
                pending += [otherwise, value, condition]
            case tree.Compare(left=left, right=right):
                pending += [right, left]
            case tree.Call(arguments=arguments):
                pending += [a.value for a in reversed(arguments)]
            case tree.Tuple(items=items) | tree.List(items=items):
                pending += reversed(items)
            case tree.Index(value=value):
                pending.append(value)
    return found


def one_letter_apart(a: str, b: str) -> bool:
    """Whether two names of three letters or more differ by one letter: exchanged, left out, or swapped with the next.

    Digits at the end tell names apart on purpose (`size1`, `size2`).
    """
    if a == b or max(len(a), len(b)) < 3 or abs(len(a) - len(b)) > 1 or min(len(a), len(b)) < 2:
        return False
    if a.rstrip("0123456789") == b.rstrip("0123456789"):
        return False
    start = 0
    while start < min(len(a), len(b)) and a[start] == b[start]:
        start += 1
    rest_a, rest_b = a[start:], b[start:]
    if len(rest_a) == len(rest_b):
        return rest_a[1:] == rest_b[1:] or (rest_a[:2] == rest_b[1::-1] and rest_a[2:] == rest_b[2:])
    return rest_a[1:] == rest_b or rest_a == rest_b[1:]


_DTYPE_SLIPS = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "int": "int64",
    "long": "int64",
    "f32": "float32",
    "f16": "float16",
    "bf16": "bfloat16",
    "fp32": "float32",
    "fp16": "float16",
    "i64": "int64",
    "i32": "int32",
    "byte": "uint8",
    "boolean": "bool",
    "Tensor": "float32",
    "tensor": "float32",
}
