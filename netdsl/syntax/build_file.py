"""The making of statements and definitions: the rest of the grammar's rules."""

from __future__ import annotations

from typing import Any

from netdsl.diagnostics import Note
from netdsl.source import Span
from netdsl.syntax import advice, tree
from netdsl.syntax.build import ExpressionBuilder
from netdsl.syntax.lalr import Token


class FileBuilder(ExpressionBuilder):
    """Makes a file's definitions."""

    # --- statements --------------------------------------------------------------------------------------------------

    def identifier(self, start: int, end: int, c: list[Any]) -> tree.Identifier:
        return self.bound_name(c[0])

    def discard(self, start: int, end: int, c: list[Any]) -> tree.Discard:
        return tree.Discard(self.span(start, end))

    def target_group(self, start: int, end: int, c: list[Any]) -> tree.Target:
        inner: tree.Target = c[1]
        return tree.TargetTuple(self.span(start, end), inner.items) if isinstance(inner, tree.TargetTuple) else inner

    def targets(self, start: int, end: int, c: list[Any]) -> tree.Target:
        return c[0] if len(c) == 1 else tree.TargetTuple(self.span(start, end), tuple(c[::2]))

    def body(self, start: int, end: int, c: list[Any]) -> tree.Body:
        return tree.Body(self.span(start, end), tuple(c[1:-1]))

    def assign(self, start: int, end: int, c: list[Any]) -> tree.Assign:
        return tree.Assign(self.span(start, end), tuple(c[:-2:2]), c[-1])

    def aug_assign(self, start: int, end: int, c: list[Any]) -> tree.AugAssign:
        return tree.AugAssign(self.span(start, end), self.bound_name(c[0]), c[1].text[0], c[2])

    def type_(self, start: int, end: int, c: list[Any]) -> tree.TypeExpr:
        dims = tuple(child for child in c[2:-1] if type(child) is not Token)
        return tree.TypeExpr(self.span(start, end), self.bound_name(c[0]), dims)

    def input(self, start: int, end: int, c: list[Any]) -> tree.Input:
        return tree.Input(self.span(start, end), c[0].text, self.bound_name(c[1]), c[3])

    target = input

    def output(self, start: int, end: int, c: list[Any]) -> tree.Output:
        return tree.Output(self.span(start, end), (self.bound_name(c[1]),), c[3])

    def output_names(self, start: int, end: int, c: list[Any]) -> tree.Output:
        return tree.Output(self.span(start, end), tuple(self.bound_name(token) for token in c[1::2]), None)

    def return_(self, start: int, end: int, c: list[Any]) -> tree.Return:
        return tree.Return(self.span(start, end), c[1])

    def for_(self, start: int, end: int, c: list[Any]) -> tree.For:
        label = self.bound_name(c[5]) if len(c) > 5 else None
        return tree.For(self.span(start, end), c[1], c[3], label, c[-1])

    def repeat(self, start: int, end: int, c: list[Any]) -> tree.Repeat:
        label = self.bound_name(c[3]) if len(c) > 3 else None
        return tree.Repeat(self.span(start, end), c[1], label, c[-1])

    def if_(self, start: int, end: int, c: list[Any]) -> tree.If:
        branches, at = [], 0
        while at < len(c) and not (c[at].type == "ELSE" and isinstance(c[at + 1], tree.Body)):
            first = at if c[at].type == "IF" else at + 1  # `if`, or the `if` of `else if`
            condition, body = c[first + 1], c[first + 2]
            branches.append(tree.Branch(self.span(c[first].start, body.span.end), condition, body))
            at = first + 3
        return tree.If(self.span(start, end), tuple(branches), c[at + 1] if at < len(c) else None)

    def assert_(self, start: int, end: int, c: list[Any]) -> tree.Assert:
        return tree.Assert(self.span(start, end), c[1], c[3] if len(c) > 2 else None)

    def param_decl(self, start: int, end: int, c: list[Any]) -> tree.ParamDecl:
        return tree.ParamDecl(self.span(start, end), self.bound_name(c[1]), c[3], c[5] if len(c) > 4 else None)

    def shared(self, start: int, end: int, c: list[Any]) -> tree.Shared:
        return tree.Shared(self.span(start, end), c[0].text == "frozen", self.bound_name(c[1]), c[3])

    frozen = shared

    def metric(self, start: int, end: int, c: list[Any]) -> tree.Metric:
        return tree.Metric(self.span(start, end), self.bound_name(c[1]), c[3])

    def labelled(self, start: int, end: int, c: list[Any]) -> tree.Labelled:
        setting, name = self.bound_name(c[0]), self.bound_name(c[1])
        if setting.id != "augment":
            self._unknown_statement(setting, name)
        return tree.Labelled(self.span(start, end), setting, name, c[3])

    def _unknown_statement(self, word: tree.Identifier, name: tree.Identifier) -> None:
        if found := advice.slash_comment(self.source, word.span.start):
            self.report(advice.SLASHES_MESSAGE, found[0], help=f"write '# {found[1]}'")
        else:
            helps = advice.unknown_statement(word.id, f"{name.id} =")
            self.report(f"'{word.id}' starts no statement", word.span, help=helps)

    # --- definitions -------------------------------------------------------------------------------------------------

    def start(self, start: int, end: int, c: list[Any]) -> tuple[tree.Definition, ...]:
        return tuple(c)

    def import_(self, start: int, end: int, c: list[Any]) -> tree.Import:
        return tree.Import(self.span(start, end), self.string_value(c[1]), self.token_span(c[1]), self.bound_name(c[3]))

    def from_import(self, start: int, end: int, c: list[Any]) -> tree.FromImport:
        return tree.FromImport(self.span(start, end), self.string_value(c[1]), self.token_span(c[1]), tuple(c[3::2]))

    def imported_name(self, start: int, end: int, c: list[Any]) -> tree.ImportedName:
        alias = self.bound_name(c[2]) if len(c) > 1 else None
        return tree.ImportedName(self.span(start, end), self.bound_name(c[0]), alias)

    def constant(self, start: int, end: int, c: list[Any]) -> tree.Constant:
        return tree.Constant(self.span(start, end), self.bound_name(c[0]), c[2])

    def parameter(self, start: int, end: int, c: list[Any]) -> tree.Parameter:
        return tree.Parameter(self.span(start, end), self.bound_name(c[0]), c[2] if len(c) > 1 else None)

    def block(self, start: int, end: int, c: list[Any]) -> tree.Block:
        return tree.Block(self.span(start, end), self.bound_name(c[1]), self._parameters(c), c[-1])

    def network(self, start: int, end: int, c: list[Any]) -> tree.Network:
        return tree.Network(self.span(start, end), self.bound_name(c[1]), self._parameters(c), c[-1])

    def dotted(self, start: int, end: int, c: list[Any]) -> tree.Expr:
        node: tree.Expr = self.name(start, c[0].end, c)
        for token in c[2::2]:
            node = self.attribute(start, token.end, [node, None, token])
        return node

    def train(self, start: int, end: int, c: list[Any]) -> tree.Train:
        label = next((self.string_value(t) for t in c[2:3] if isinstance(t, Token) and t.type == "STRING"), None)
        return tree.Train(self.span(start, end), c[1], label, self._parameters(c), c[-1])

    def _parameters(self, children: list[Any]) -> tuple[tree.Parameter, ...]:
        parameters = tuple(child for child in children if isinstance(child, tree.Parameter))
        seen: dict[str, tree.Parameter] = {}
        defaulted: Span | None = None
        for parameter in parameters:
            name = parameter.name
            if name.id in seen:
                note = Note("it is declared here already", seen[name.id].name.span)
                self.report(f"the parameter '{name.id}' is declared twice", name.span, notes=(note,))
            elif parameter.default is None and defaulted:
                note = Note("this parameter has a default", defaulted)
                message = f"the parameter '{name.id}' without a default cannot follow one with a default"
                self.report(message, name.span, notes=(note,), help=f"give it a default, or move '{name.id}' forward")
            seen.setdefault(name.id, parameter)
            defaulted = parameter.span if parameter.default is not None else defaulted
        return parameters
