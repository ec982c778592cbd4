"""Text → tree: runs the grammar's tables over the tokens and goes on after an error."""

from __future__ import annotations

import gc
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

from netdsl.diagnostics import Diagnostic
from netdsl.source import SourceFile
from netdsl.syntax.build import SyntaxFault
from netdsl.syntax.build_file import FileBuilder
from netdsl.syntax.context import Context
from netdsl.syntax.explain import explain
from netdsl.syntax.lalr import Machine, load
from netdsl.syntax.lex import FAULT, GRAMMAR, Lexed, lex
from netdsl.syntax.recover import definition_starts, match_brackets
from netdsl.syntax.tree import Definition, File


def parse(source: SourceFile) -> tuple[File, tuple[Diagnostic, ...]]:
    """The tree of a file and what is wrong with its syntax, in the order of the text. Raises for nothing in the file.

    A definition with an error that breaks its structure is left out of the tree; the parser resumes at the next one.
    """
    with _collector_paused():
        lexed = lex(source)
        parser = _Parser(lexed)
        definitions = parser.run()
    found = [*lexed.diagnostics, *lexed.faults.values(), *parser.builder.diagnostics]
    found.sort(key=lambda diagnostic: diagnostic.span.start if diagnostic.span else 0)
    return File(source, definitions, tuple(lexed.comments)), tuple(found)


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Nothing made here is cyclic garbage: the collector would only walk the growing tree, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _Parser:
    def __init__(self, lexed: Lexed) -> None:
        self.source, self.tokens = lexed.source, lexed.tokens
        self.builder = FileBuilder(lexed.source, [])
        self.machine = Machine(load(GRAMMAR), self.builder)
        self.starts: list[int] = []
        self.first = 0  # the token at which the parser took up last
        self.recovered = False

    def run(self) -> tuple[Definition, ...]:
        feed, tokens = self.machine.feed, self.tokens
        index = 0
        while index < len(tokens):
            try:
                while feed(tokens[index]):
                    index += 1
                    if index == len(tokens):
                        break
                else:
                    self._refused(index)
                    index = self._resume(index)
            except SyntaxFault as fault:
                self.builder.diagnostics.append(fault.diagnostic)
                index = self._resume(index)
        result = self.machine.values[-1]
        assert isinstance(result, tuple)
        return result

    def _refused(self, index: int) -> None:
        """Reports a token that cannot stand where it does; a FAULT was reported by the lexer."""
        if self.tokens[index].type != FAULT:
            context = self._context(index)
            # Behind an error, what stands outside of every definition is the rest of one that was given up.
            if not (self.recovered and context.at_top_level):
                self.builder.diagnostics.append(explain(context))
        self.machine.settle()

    def _next_start(self, index: int) -> int:
        """Where the next definition starts: at the refused token, the one before it, or a later one, or at the end."""
        if not self.starts:
            self.starts = [*definition_starts(self.source, self.tokens), len(self.tokens) - 1]
        return self.starts[min(bisect_left(self.starts, max(index - 1, self.first + 1)), len(self.starts) - 1)]

    def _context(self, index: int) -> Context:
        following = self._next_start(index)
        brackets = match_brackets(self.source, self.tokens, self.first, following)
        return Context(self.source, self.tokens, index, self.machine, brackets, following)

    def _resume(self, index: int) -> int:
        self.first = self._next_start(index)
        self.recovered = True
        self.machine.restart()
        self.builder.nesting.clear()
        return self.first
