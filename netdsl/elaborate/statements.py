"""Statements: a body is run in one frame; a statement that fails poisons its names and the next one goes on."""

from __future__ import annotations

from typing import Any

from netdsl.elaborate.declarations import Declarations
from netdsl.elaborate.faults import Fault, Refusal
from netdsl.elaborate.plain import text_of
from netdsl.elaborate.scope import Frame, LayerScope
from netdsl.elaborate.values import POISON, describe, plural
from netdsl.ir.dims import Expr
from netdsl.ir.graph import Value
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bindings_of, target_names


class Statements(Declarations):
    """Runs bodies."""

    def run(self, body: tree.Body, frame: Frame) -> bool:
        """Runs a body; whether it returned. The result is then the frame's."""
        budget = self.budget
        for statement in body.statements:
            depth, calls = budget.depth, len(self.stack)
            try:
                budget.step()
                budget.enter()
                if self.statement(statement, frame):
                    budget.depth = depth
                    return True
            except Fault as fault:
                self.report(fault)
            except Refusal as refusal:
                self.report(self.refused(refusal, _header(statement)))
            else:
                budget.depth = depth
                continue
            budget.depth = depth
            del self.stack[calls:]
            if self._poison(statement, frame):
                return True
        return False

    def statement(self, node: tree.Statement, frame: Frame) -> bool:
        """Runs one statement; whether it returned. Raises Fault, Refusal."""
        returned: bool = _RUN[type(node)](self, node, frame)
        return returned

    def _poison(self, statement: tree.Node, frame: Frame) -> bool:
        """Gives the names that a failed statement should have bound no value; whether it might have returned."""
        found = bindings_of(statement)
        for name, span in found.names.items():
            frame.bind(name, POISON, span)
        if frame.network:
            for output in found.outputs:
                frame.network.outputs.setdefault(output.id, POISON)
        if found.returns:
            frame.result = POISON
        return found.returns

    # --- values -----------------------------------------------------------------------------------------------------

    def _assign(self, node: tree.Assign, frame: Frame) -> bool:
        value = self.eval(node.value, frame)
        if len(node.targets) == 1:
            target = node.targets[0]
            if isinstance(target, tree.Identifier):
                frame.bind(target.id, value, target.span)
            elif isinstance(target, tree.TargetTuple):
                self._unpack(target.items, value, target.span, frame)
        else:
            self._unpack(node.targets, value, node.targets[0].span.to(node.targets[-1].span), frame)
        return False

    def _unpack(self, targets: tuple[tree.Target, ...], value: Any, span: Span, frame: Frame) -> None:
        if not isinstance(value, list | tuple):
            message = f"expected {len(targets)} values to unpack, found {describe(value)}"
            help = "split(x, n) cuts a tensor into parts" if isinstance(value, Value) else ()
            raise self.fault("unpack", message, span, help=help)
        if len(value) != len(targets):
            help = "'_' takes a value that is not needed" if len(value) > len(targets) else ()
            message = f"expected {plural(len(targets), 'value')} to unpack, found {len(value)}"
            raise self.fault("unpack", message, span, help=help)
        for target, item in zip(targets, value, strict=True):
            self._bind_target(target, item, frame)

    def _bind_target(self, target: tree.Target, value: Any, frame: Frame) -> None:
        if isinstance(target, tree.Identifier):
            frame.bind(target.id, value, target.span)
        elif isinstance(target, tree.TargetTuple):
            if value is POISON:
                for name in target_names(target):
                    frame.bind(name.id, POISON, name.span)
            else:
                self._unpack(target.items, value, target.span, frame)

    def _aug_assign(self, node: tree.AugAssign, frame: Frame) -> bool:
        name = tree.Name(node.target.span, node.target.id)
        if node.target.id not in frame.names:
            raise self.fault(
                "unbound-name",
                f"'{node.target.id}' has no value yet, so '{node.op}=' cannot change it",
                node.target.span,
                help=f"bind it first: {node.target.id} = …",
            )
        left, right = self.eval_all((name, node.value), frame)
        span = node.target.span.to(node.value.span)
        value = self.binary(node.op, left, right, (name, node.value), span, span, frame)
        frame.bind(node.target.id, value, node.target.span)
        return False

    def _assert(self, node: tree.Assert, frame: Frame) -> bool:
        if self.condition(node.condition, frame):
            return False
        text = " ".join(node.condition.span.text.split())
        if node.message is None:
            raise self.fault("assertion", f"assertion failed: {text}", node.condition.span)
        message = text_of(self.eval(node.message, frame), self.budget)
        raise self.fault("assertion", message[:2000], node.condition.span)

    def _return(self, node: tree.Return, frame: Frame) -> bool:
        frame.result = self.eval(node.value, frame)
        return True

    # --- flow -------------------------------------------------------------------------------------------------------

    def _if(self, node: tree.If, frame: Frame) -> bool:
        for branch in node.branches:
            if self.condition(branch.condition, frame):
                return self.run(branch.body, frame)
        return self.run(node.otherwise, frame) if node.otherwise else False

    def _for(self, node: tree.For, frame: Frame) -> bool:
        items = self.eval(node.iterable, frame)
        if not isinstance(items, list | tuple):
            raise self._not_a_list(items, node)
        self._check_turns(len(items), node.iterable.span)
        for item in items:
            self._turn(node.iterable.span)
            try:
                self._bind_target(node.target, item, frame)
            except Fault as fault:
                self.report(fault)
                for name in target_names(node.target):
                    frame.bind(name.id, POISON, name.span)
            if self._run_turn(node.label, node.body, frame):
                return True
        return False

    def _not_a_list(self, items: Any, node: tree.For) -> Fault:
        help: str | tuple[str, ...] = ()
        if isinstance(items, int) and not isinstance(items, bool):
            help = f"write 'for {node.target.span.text} in range({node.iterable.span.text})', or 'repeat'"
        elif isinstance(items, Value):
            help = "a loop over its slices: for i in range(n) { … x[i] … }"
        elif isinstance(items, Expr):
            help = "give the symbol a value with --set"
        elif isinstance(items, str):
            help = "loops run over lists and tuples"
        return self.fault(
            "not-a-list", f"expected a list to loop over, found {describe(items)}", node.iterable.span, help=help
        )

    def _repeat(self, node: tree.Repeat, frame: Frame) -> bool:
        count = self.eval(node.count, frame)
        span = node.count.span
        if isinstance(count, bool) or not isinstance(count, int):
            help: str | tuple[str, ...] = "divide with // to get an integer" if isinstance(count, float) else ()
            if isinstance(count, Expr):
                help = "a symbol has no value at compile time; give it one with --set"
            raise self.fault("repeat", f"repeat takes an integer, found {describe(count)}", span, help=help)
        if count < 0:
            raise self.fault("repeat", f"repeat takes 0 or more, found {describe(count)}", span)
        self._check_turns(count, span)
        for _ in range(count):
            self._turn(span)
            if self._run_turn(node.label, node.body, frame):
                return True
        return False

    def _check_turns(self, count: int, span: Span) -> None:
        try:
            self.budget.turns(count)
        except Refusal as refusal:
            raise self.refused(refusal, span) from None

    def _turn(self, span: Span) -> None:
        try:
            self.budget.operator()
        except Refusal as refusal:
            raise self.refused(refusal, span) from None

    def _run_turn(self, label: tree.Identifier | None, body: tree.Body, frame: Frame) -> bool:
        """One turn; `as` opens a scope of layers for it."""
        outer = frame.scope
        if label is None or outer is None:
            return self.run(body, frame)
        frame.scope = LayerScope(outer.take(label.id))
        try:
            return self.run(body, frame)
        finally:
            frame.scope = outer

    def _misplaced(self, node: tree.Statement, frame: Frame) -> bool:
        raise Fault  # the check of names said so


def _header(statement: tree.Statement) -> Span:
    """The part of a statement that an error underlines which has no better place."""
    match statement:
        case tree.For(iterable=part) | tree.Repeat(count=part) | tree.Assign(value=part) | tree.Return(value=part):
            return part.span
        case _:
            return statement.span


_RUN: dict[type[tree.Statement], Any] = {
    tree.Assign: Statements._assign,
    tree.AugAssign: Statements._aug_assign,
    tree.Assert: Statements._assert,
    tree.Return: Statements._return,
    tree.If: Statements._if,
    tree.For: Statements._for,
    tree.Repeat: Statements._repeat,
    tree.Input: Statements.input,
    tree.Output: Statements.output,
    tree.ParamDecl: Statements.parameter,
    tree.Shared: Statements.shared,
    tree.Metric: Statements._misplaced,
    tree.Labelled: Statements._misplaced,
}
