"""Expressions: what each form of the tree means."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

from netdsl.diagnostics import Note
from netdsl.elaborate import arithmetic, compare
from netdsl.elaborate.builtins import BUILTINS, OPERATOR_VALUES
from netdsl.elaborate.core import Core
from netdsl.elaborate.faults import Fault, Refusal
from netdsl.elaborate.files import Imported, Module
from netdsl.elaborate.scope import Frame
from netdsl.elaborate.suggest import did_you_mean
from netdsl.elaborate.values import POISON, BlockValue, ModuleValue, NetworkValue, OnnxOperators, describe
from netdsl.ir.graph import Value
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bound_in

_MISSING: Any = object()
_ATOMS = (tree.Name, tree.Literal)


class Expressions(Core):
    """Evaluates expressions; calls, chains and tensors' own operations are the subclass's."""

    @abstractmethod
    def call_node(self, node: tree.Call, frame: Frame) -> Any: ...

    @abstractmethod
    def chain(self, node: tree.Chain, frame: Frame) -> Any: ...

    @abstractmethod
    def index(self, node: tree.Index, frame: Frame) -> Any: ...

    @abstractmethod
    def attribute(self, node: tree.Attribute, frame: Frame) -> Any: ...

    @abstractmethod
    def tensor_binary(
        self, op: str, left: Any, right: Any, nodes: tuple[tree.Expr | None, tree.Expr], span: Span, frame: Frame
    ) -> Any: ...

    @abstractmethod
    def tensor_negative(self, value: Value, span: Span, frame: Frame) -> Any: ...

    def eval(self, node: tree.Expr, frame: Frame) -> Any:
        """The value of an expression. Raises Fault; never returns POISON."""
        kind = type(node)
        if kind is tree.Name:
            return self.name(node, frame)  # type: ignore[arg-type]
        if kind is tree.Literal:
            return node.value  # type: ignore[attr-defined]
        budget = self.budget
        budget.step()
        budget.enter()
        result = _EVALUATE[kind](self, node, frame)
        budget.depth -= 1  # after a fault the statement that catches it sets the depth right
        return result

    def eval_all(self, nodes: Sequence[tree.Expr], frame: Frame) -> list[Any]:
        """All values; where several fail, the fault tells all of them."""
        values, faults = [], []
        for node in nodes:
            try:
                values.append(self.eval(node, frame))
            except Fault as fault:
                faults.append(fault)
        if faults:
            raise merged(faults)
        return values

    # --- names ------------------------------------------------------------------------------------------------------

    def name(self, node: tree.Name, frame: Frame) -> Any:
        value = frame.names.get(node.id, _MISSING)
        if value is _MISSING:
            value = self.outer_name(node.id, node.span, frame)
        if value is POISON:
            raise Fault
        return value

    def outer_name(self, name: str, span: Span, frame: Frame) -> Any:
        """A name that the body does not hold: the file's, or one that every file knows."""
        module = frame.module
        if name in module.entries:
            return self.definition(module, name, span)
        if name in BUILTINS:
            return BUILTINS[name]
        if name in module.lost:
            return POISON
        raise self._unknown(name, span, frame)

    def _unknown(self, name: str, span: Span, frame: Frame) -> Fault:
        owner = frame.owner
        later = bound_in(owner).get(name) if owner else None
        if later is None and isinstance(owner, tree.Block | tree.Network | tree.Train):
            later = next((p.name.span for p in owner.parameters if p.name.id == name), None)
        if later:
            where = "below" if later.start > span.start else "in a part that did not run"
            note = Note(f"it is bound only {where}", later)
            return self.fault("unbound-name", f"'{name}' has no value here", span, notes=[note])
        return self.fault("unknown-name", f"unknown name '{name}'", span, help=self.name_help(name, frame))

    def name_help(self, name: str, frame: Frame) -> tuple[str, ...]:
        """The nearest of the names that could be meant."""
        if self.reporter.full:
            return ()
        return did_you_mean(name, [*frame.names, *frame.module.names()], builtins=True)

    def definition(self, module: Module, name: str, span: Span) -> Any:
        """What a name of a file stands for; constants are evaluated at first use."""
        value = module.values.get(name, _MISSING)
        if value is not _MISSING:
            return value
        entry = module.entries[name]
        match entry:
            case tree.Block():
                value = BlockValue(module, entry)
            case tree.Network():
                value = NetworkValue(module, entry)
            case tree.Constant():
                value = self.constant(module, entry, span)
            case Imported():
                value = self.definition(entry.module, entry.name, span)
            case _:
                value = entry
        module.values[name] = value
        return value

    def constant(self, module: Module, node: tree.Constant, span: Span) -> Any:
        """A constant's value, POISON where it has none."""
        if any(constant is node for constant, _, _ in self.evaluating):
            names = [name for constant, name, _ in self.evaluating]
            cycle = " needs ".join([*names[names.index(node.name.id) :], node.name.id])
            raise self.fault("definition-cycle", f"'{node.name.id}' is defined by itself: {cycle}", span)
        self.evaluating.append((node, node.name.id, node.span))
        depth, stack, self.stack = self.budget.depth, self.stack, []
        try:
            return self.eval(node.value, Frame(module, None, None, node))
        except Fault as fault:
            self.report(fault)
        except Refusal as refusal:
            self.report(self.refused(refusal, node.value.span))
        finally:
            self.evaluating.pop()
            self.budget.depth, self.stack = depth, stack
        return POISON

    # --- operators --------------------------------------------------------------------------------------------------

    def _paren(self, node: tree.Paren, frame: Frame) -> Any:
        return self.eval(node.value, frame)

    def _tuple(self, node: tree.Tuple, frame: Frame) -> Any:
        return tuple(self.eval_all(node.items, frame))

    def _list(self, node: tree.List, frame: Frame) -> Any:
        values = self.eval_all(node.items, frame)
        self.budget.items(len(values))
        return values

    def _hole(self, node: tree.Hole, frame: Frame) -> Any:
        raise self.fault(
            "hole",
            "'_' is the hole of a call: it stands among a call's arguments only",
            node.span,
            help="a function of one argument is written f(_, 64); for more than one call write a block",
        )

    def _operation(self, node: tree.Operation, frame: Frame) -> Any:
        if node.ops[0] in ("and", "or"):
            return self._logic(node, frame)
        values = self.eval_all((node.first, *node.rest), frame)
        result, left = values[0], node.first
        for op, value, right, op_span in zip(node.ops, values[1:], node.rest, node.op_spans, strict=True):
            span = tree_span(node.first, right)
            result = self.binary(op, result, value, (left if left is node.first else None, right), span, op_span, frame)
            left = right
        return result

    def binary(
        self,
        op: str,
        left: Any,
        right: Any,
        nodes: tuple[tree.Expr | None, tree.Expr],
        span: Span,
        op_span: Span,
        frame: Frame,
    ) -> Any:
        """`left op right`; `nodes` are the operands as they are written, None for a result in between."""
        self.budget.step()
        if isinstance(left, Value) or isinstance(right, Value):
            return self.tensor_binary(op, left, right, nodes, op_span, frame)
        try:
            return arithmetic.binary(op, left, right, self.budget)
        except Refusal as refusal:
            raise self.refused(refusal, span) from None

    def _logic(self, node: tree.Operation, frame: Frame) -> Any:
        value = self.eval(node.first, frame)
        last = node.first
        for right in node.rest:
            if self.truth(value, last) is (node.ops[0] == "or"):
                return value
            value, last = self.eval(right, frame), right
        return value

    def truth(self, value: Any, node: tree.Expr) -> bool:
        """The truth of a condition's value."""
        try:
            return compare.truth(value)
        except Refusal as refusal:
            notes = []
            if isinstance(value, Value) and self.origins.get(value) != node.span:
                notes.append(self.operand_note(value, name_of(node), "this"))
            raise self.refused(refusal, node.span, notes) from None

    def condition(self, node: tree.Expr, frame: Frame) -> bool:
        return self.truth(self.eval(node, frame), node)

    def _power(self, node: tree.Power, frame: Frame) -> Any:
        left, right = self.eval_all((node.base, node.exponent), frame)
        return self.binary("**", left, right, (node.base, node.exponent), node.span, node.span, frame)

    def _unary(self, node: tree.Unary, frame: Frame) -> Any:
        value = self.eval(node.operand, frame)
        if node.op == "not":
            return not self.truth(value, node.operand)
        if isinstance(value, Value):
            return self.tensor_negative(value, node.span, frame)
        try:
            return arithmetic.negated(value)
        except Refusal as refusal:
            raise self.refused(refusal, node.span) from None

    def _compare(self, node: tree.Compare, frame: Frame) -> Any:
        left, right = self.eval_all((node.left, node.right), frame)
        tensors = isinstance(left, Value) or isinstance(right, Value)
        if tensors and node.op not in ("in", "not in"):
            if node.op in ("==", "!=") and (left is None or right is None):
                return node.op == "!="
            return self.tensor_binary(node.op, left, right, (node.left, node.right), node.span, frame)
        try:
            return compare.compare(node.op, left, right, self.budget)
        except Refusal as refusal:
            raise self.refused(refusal, node.span) from None

    def _conditional(self, node: tree.Conditional, frame: Frame) -> Any:
        return self.eval(node.value if self.condition(node.condition, frame) else node.otherwise, frame)

    def not_callable(self, value: Any, node: tree.Expr, frame: Frame) -> Fault:
        """The fault of calling what is no callable; says so where the name hides an operator."""
        span = node.span
        if isinstance(node, tree.Name) and node.id in frame.bound and node.id in OPERATOR_VALUES:
            note = Note(f"'{node.id}' is bound here", frame.bound[node.id])
            line = frame.bound[node.id].line
            message = f"'{node.id}' is {describe(value)} here, bound in line {line}, and hides the operator '{node.id}'"
            return self.fault("hidden-operator", message, span, notes=[note], help="give the value another name")
        what = f"'{node.id}' is" if isinstance(node, tree.Name) else "this is"
        help: str | tuple[str, ...] = ()
        if isinstance(value, ModuleValue):
            help = f"name one of its blocks: {value.name}.Name(…)"
        elif isinstance(value, OnnxOperators):
            help = "name one of them: onnx.Name(…)"
        elif isinstance(value, Value):
            help = "'->' hands a value to the function on its right: x -> f(…)"
        return self.fault("not-callable", f"{what} {describe(value)}, which cannot be called", span, help=help)


def merged(faults: Sequence[Fault]) -> Fault:
    return faults[0] if len(faults) == 1 else Fault(d for fault in faults for d in fault.diagnostics)


def tree_span(first: tree.Expr, last: tree.Expr) -> Span:
    return first.span.to(last.span)


def name_of(node: tree.Expr | None) -> str | None:
    """The name that an expression is, without parentheses."""
    while isinstance(node, tree.Paren):
        node = node.value
    return node.id if isinstance(node, tree.Name) else None


_EVALUATE: dict[type[tree.Expr], Any] = {
    tree.Paren: Expressions._paren,
    tree.Tuple: Expressions._tuple,
    tree.List: Expressions._list,
    tree.Hole: Expressions._hole,
    tree.Operation: Expressions._operation,
    tree.Power: Expressions._power,
    tree.Unary: Expressions._unary,
    tree.Compare: Expressions._compare,
    tree.Conditional: Expressions._conditional,
    tree.Call: lambda self, node, frame: self.call_node(node, frame),
    tree.Chain: lambda self, node, frame: self.chain(node, frame),
    tree.Index: lambda self, node, frame: self.index(node, frame),
    tree.Attribute: lambda self, node, frame: self.attribute(node, frame),
}
