"""The warnings of one run: what the rules find in its files and graphs, and what comments silence of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from netdsl.diagnostics import Diagnostic, Severity
from netdsl.elaborate.core import Reporter
from netdsl.elaborate.files import Imported, Module
from netdsl.ir.graph import Graph, Value
from netdsl.lint import Subject, check_file, check_graph
from netdsl.lint.allow import Allowance, allowances, unused, without_allowed
from netdsl.lint.table import GRAPH_RULES, TEXT_RULES
from netdsl.source import Span
from netdsl.syntax import tree

_OF_GRAPHS = frozenset(rule.name for rule in GRAPH_RULES)
_OF_TEXT = frozenset(rule.name for rule in TEXT_RULES)


class Lints:
    """Warnings are said only where the program has no error: much of what looks unused then is an error's doing. Those
    about the library's own files are not the user's."""

    def __init__(self, modules: Sequence[Module], reporter: Reporter) -> None:
        self.modules = modules
        self.reporter = reporter
        self.allowed = [a for m in modules for a in allowances(m.file)]
        self._library = {id(m.file.source) for m in modules if m.library}
        self._of_graphs: list[Diagnostic] = []
        self._layers: set[int] = set()  # offsets of the layers in the checked file that a graph holds

    def graph(self, graph: Graph, origins: Mapping[Value, Span]) -> None:
        """Looks at a graph that was made without an error."""
        if self.reporter.failed:
            return
        self._of_graphs += check_graph(Subject(graph, origins))
        main = self.modules[0].file.source
        places = (node.place.span for node in graph.nodes if node.place)
        self._layers.update(span.start for span in places if span and span.file is main)

    def files(self) -> None:
        """Looks at the files, and reports what was found in them and in the graphs."""
        if self.reporter.failed:
            return
        for module in self.modules:
            if not module.library:
                self._report(check_file(module.file, self._exported(module)))
        self._report(self._of_graphs)

    def _report(self, diagnostics: Any) -> None:
        for diagnostic in diagnostics:
            self.reporter.report(diagnostic)

    def _exported(self, module: Module) -> set[str]:
        """Names of a file that other files of the run import from it."""
        entries = (entry for other in self.modules for entry in other.entries.values())
        return {e.name for e in entries if isinstance(e, Imported) and e.module is module}

    def shown(self, diagnostics: Sequence[Diagnostic]) -> list[Diagnostic]:
        """What the user sees: all but warnings that comments allow and those about the library."""
        return without_allowed([d for d in diagnostics if not self._is_librarys(d)], self.allowed)[0]

    def _is_librarys(self, diagnostic: Diagnostic) -> bool:
        span = diagnostic.span
        return diagnostic.severity is Severity.WARNING and span is not None and id(span.file) in self._library

    def unused_allowances(self, looked_at: Callable[[tree.Definition], bool]) -> list[Diagnostic]:
        """The checked file's comments that silence nothing; `looked_at` says whether a check evaluates a definition."""
        if self.reporter.failed:
            return []
        file = self.modules[0].file
        everything = all(map(looked_at, file.definitions))

        def judged(allowance: Allowance) -> bool:
            owner = allowance.owner
            if allowance.name in _OF_TEXT or allowance.name not in _OF_GRAPHS:
                return allowance.name in _OF_TEXT
            if isinstance(owner, tree.Block):
                return everything and any(owner.span.start < at < owner.span.end for at in self._layers)
            return everything if owner is None else looked_at(owner)

        _, used = without_allowed(self.reporter.diagnostics, self.allowed)
        return list(unused([a for a in self.allowed if a.span.file is file.source], used, judged))
