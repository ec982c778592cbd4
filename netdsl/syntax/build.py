"""The tree's making: one method per rule of the grammar, called as the rule is complete.

A method gets the start and end offsets of its text and its children: tokens (punctuation too) and what other methods
made. What is wrong with a construct as a whole (an argument given twice) is reported here and does not stop the parser.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from netdsl.diagnostics import Diagnostic, Note, error
from netdsl.source import SourceFile, Span
from netdsl.syntax import literals, tree
from netdsl.syntax.lalr import Token
from netdsl.syntax.lex import MAX_NESTING, nesting_error

PYTHON_CONSTANTS = {"True": "true", "False": "false", "None": "none"}
_POSTFIX = (tree.Call, tree.Attribute, tree.Index)


class SyntaxFault(Exception):
    """An error after which the definition cannot be kept."""

    def __init__(self, diagnostic: Diagnostic) -> None:
        super().__init__(diagnostic.message)
        self.diagnostic = diagnostic


class ExpressionBuilder:
    """Makes expressions. `diagnostics` collects what is wrong with them."""

    def __init__(self, source: SourceFile, diagnostics: list[Diagnostic]) -> None:
        self.source = source
        self.diagnostics = diagnostics
        # How deep constructs without brackets (`- - x`, `f()()`, powers, conditionals) nest in each expression that is
        # still at hand, by its identity; what nests by brackets was counted by the lexer.
        self.nesting: dict[int, int] = {}

    def report(self, message: str, span: Span, *, notes: tuple[Note, ...] = (), help: str | Sequence[str] = ()) -> None:
        self.diagnostics.append(error("syntax", message, span, notes=notes, help=help or ()))

    def span(self, start: int, end: int) -> Span:
        return Span(self.source, start, end)

    def token_span(self, token: Token) -> Span:
        return Span(self.source, token.start, token.end)

    def bound_name(self, token: Token) -> tree.Identifier:
        return tree.Identifier(Span(self.source, token.start, token.end), token.text)

    def _nests(self, node: tree.Expr, parts: list[tree.Expr], more: int, what: str) -> None:
        """Notes how deep `node` is, from its parts; one that is too deep is given up."""
        nesting = self.nesting
        if not nesting and not more:
            return
        depth = more + max([nesting.get(id(part), 0) for part in parts], default=0)
        if depth > MAX_NESTING:
            raise SyntaxFault(nesting_error(node.span, what))
        if depth:
            nesting[id(node)] = depth

    # --- atoms -------------------------------------------------------------------------------------------------------

    def name(self, start: int, end: int, c: list[Any]) -> tree.Name:
        text = c[0].text
        node = tree.Name(Span(self.source, start, end), text)
        if text in PYTHON_CONSTANTS:
            self.report(f"'{text}' is Python's spelling", node.span, help=f"write '{PYTHON_CONSTANTS[text]}'")
        return node

    def number(self, start: int, end: int, c: list[Any]) -> tree.Literal:
        value: int | float = 0
        try:
            value = literals.number(c[0].text)
        except literals.LiteralError as fault:
            self._literal_fault(fault, start)
        return tree.Literal(Span(self.source, start, end), value)

    def string(self, start: int, end: int, c: list[Any]) -> tree.Literal:
        return tree.Literal(Span(self.source, start, end), self.string_value(c[0]))

    def string_value(self, token: Token) -> str:
        try:
            return literals.string(token.text)
        except literals.LiteralError as fault:
            self._literal_fault(fault, token.start)
            return ""

    def _literal_fault(self, fault: literals.LiteralError, start: int) -> None:
        begin = start + fault.offset
        self.report(fault.message, self.span(begin, begin + fault.length), help=fault.help)

    def true(self, start: int, end: int, c: list[Any]) -> tree.Literal:
        return tree.Literal(self.span(start, end), True)

    def false(self, start: int, end: int, c: list[Any]) -> tree.Literal:
        return tree.Literal(self.span(start, end), False)

    def none(self, start: int, end: int, c: list[Any]) -> tree.Literal:
        return tree.Literal(self.span(start, end), None)

    def hole(self, start: int, end: int, c: list[Any]) -> tree.Hole:
        return tree.Hole(self.span(start, end))

    def paren(self, start: int, end: int, c: list[Any]) -> tree.Paren:
        node = tree.Paren(self.span(start, end), c[1])
        self._nests(node, [c[1]], 0, "")
        return node

    def tuple_(self, start: int, end: int, c: list[Any]) -> tree.Tuple:
        node = tree.Tuple(self.span(start, end), _items(c))
        self._nests(node, list(node.items), 0, "")
        return node

    def list_(self, start: int, end: int, c: list[Any]) -> tree.List:
        node = tree.List(self.span(start, end), _items(c))
        self._nests(node, [*node.items], 0, "")
        return node

    def values(self, start: int, end: int, c: list[Any]) -> tree.Expr:
        if len(c) == 1:
            return c[0]  # type: ignore[no-any-return]  # the children of this rule are expressions
        return self.tuple_(start, end, c)

    # --- calls, attributes, subscripts -------------------------------------------------------------------------------

    def argument(self, start: int, end: int, c: list[Any]) -> tree.Argument:
        return tree.Argument(Span(self.source, start, end), None, None, c[0])

    def keyword_argument(self, start: int, end: int, c: list[Any]) -> tree.Argument:
        return tree.Argument(Span(self.source, start, end), c[0].text, self.token_span(c[0]), c[2])

    def call(self, start: int, end: int, c: list[Any]) -> tree.Call:
        arguments = tuple(child for child in c if type(child) is tree.Argument)
        node = tree.Call(Span(self.source, start, end), c[0], arguments)
        self._check_arguments(arguments)
        if self.nesting or type(c[0]) in _POSTFIX:
            self._nests(node, [c[0], *(a.value for a in arguments)], type(c[0]) in _POSTFIX, "calls follow one another")
        return node

    def _check_arguments(self, arguments: tuple[tree.Argument, ...]) -> None:
        seen: dict[str, tree.Argument] = {}
        for argument in arguments:
            if argument.name is None:
                if seen:
                    first = next(iter(seen.values()))
                    note = Note("this argument is given by name", first.span)
                    help = f"move {_excerpt(argument.span)} before {_excerpt(first.span)}, or give it a name as well"
                    message = "an argument by position cannot follow one by name"
                    self.report(message, argument.span, notes=(note,), help=help)
            elif argument.name in seen:
                note = Note("it is given here already", seen[argument.name].span)
                self.report(f"the argument '{argument.name}' is given twice", argument.span, notes=(note,))
            else:
                seen[argument.name] = argument

    def attribute(self, start: int, end: int, c: list[Any]) -> tree.Attribute:
        node = tree.Attribute(self.span(start, end), c[0], c[2].text, self.token_span(c[2]))
        self._nests(node, [c[0]], type(c[0]) in _POSTFIX, "attributes follow one another")
        return node

    def index(self, start: int, end: int, c: list[Any]) -> tree.Index:
        items = tuple(child for child in c[2:] if type(child) is not Token)
        node = tree.Index(self.span(start, end), c[0], items)
        parts = [part for item in items for part in _index_parts(item)]
        self._nests(node, [c[0], *parts], type(c[0]) in _POSTFIX, "subscripts follow one another")
        return node

    def slice(self, start: int, end: int, c: list[Any]) -> tree.Slice:
        parts: list[tree.Expr | None] = [None]
        for child in c:
            if type(child) is Token:
                parts.append(None)
            else:
                parts[-1] = child
        return tree.Slice(self.span(start, end), *[*parts, None][:3])

    def ellipsis(self, start: int, end: int, c: list[Any]) -> tree.Ellipsis:
        return tree.Ellipsis(self.span(start, end))

    # --- operators ---------------------------------------------------------------------------------------------------

    def operation(self, start: int, end: int, c: list[Any]) -> tree.Operation:
        operators = c[1::2]
        node = tree.Operation(
            self.span(start, end),
            c[0],
            tuple(c[2::2]),
            tuple(token.text for token in operators),
            tuple(self.token_span(token) for token in operators),
        )
        self._nests(node, c[::2], 0, "")
        return node

    def power(self, start: int, end: int, c: list[Any]) -> tree.Power:
        node = tree.Power(self.span(start, end), c[0], c[2])
        self._nests(node, [c[0], c[2]], 1, "powers nest")
        return node

    def unary(self, start: int, end: int, c: list[Any]) -> tree.Unary:
        node = tree.Unary(self.span(start, end), c[0].text, c[1])
        self._nests(node, [c[1]], 1, f"'{c[0].text}' follows itself")
        return node

    def compare(self, start: int, end: int, c: list[Any]) -> tree.Compare:
        node = tree.Compare(self.span(start, end), c[1].text, c[0], c[2])
        self._nests(node, [c[0], c[2]], 0, "")
        return node

    def compare_not_in(self, start: int, end: int, c: list[Any]) -> tree.Compare:
        node = tree.Compare(self.span(start, end), "not in", c[0], c[3])
        self._nests(node, [c[0], c[3]], 0, "")
        return node

    def conditional(self, start: int, end: int, c: list[Any]) -> tree.Conditional:
        node = tree.Conditional(self.span(start, end), c[1], c[3], c[5])
        self._nests(node, [c[1], c[3], c[5]], 1, "conditionals nest")
        return node

    def step(self, start: int, end: int, c: list[Any]) -> tree.Step:
        label = self.bound_name(c[3]) if len(c) > 2 else None
        return tree.Step(Span(self.source, start, end), c[1], label)

    def chain(self, start: int, end: int, c: list[Any]) -> tree.Chain:
        node = tree.Chain(self.span(start, end), c[0], tuple(c[1:]))
        if self.nesting:
            self._nests(node, [c[0], *(step.function for step in node.steps)], 0, "")
        return node


def _items(children: list[Any]) -> tuple[Any, ...]:
    return tuple(child for child in children if type(child) is not Token)


def _index_parts(item: tree.Expr | tree.Slice | tree.Ellipsis) -> tuple[tree.Expr, ...]:
    if isinstance(item, tree.Slice):
        return tuple(part for part in (item.start, item.stop, item.step) if part)
    return (item,) if isinstance(item, tree.Expr) else ()


def _excerpt(span: Span) -> str:
    text = " ".join(span.text.split())
    return f"'{text}'" if len(text) <= 40 else f"'{text[:38]}…'"
