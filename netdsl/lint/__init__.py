"""Programs that are valid and most likely wrong: the warnings, one rule at a time.

Each module holds its rules, with their documentation, and a `check` that finds them: in a network's graph as the
program says it, before any rewrite, or in a file's tree. A rule speaks up only where it is sure: a warning that is
wrong costs more than one that is missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from netdsl.diagnostics import Diagnostic
from netdsl.lint import allow, batch_norm, case, classifier, dilation, losses, saturation, strides, unused
from netdsl.lint.subject import Subject
from netdsl.lint.table import RULES
from netdsl.syntax import tree

__all__ = ["RULES", "Subject", "check_file", "check_graph"]

_GRAPH_CHECKS = (
    batch_norm.check,
    losses.check,
    strides.check,
    classifier.check,
    dilation.check,
    saturation.check,
)


def check_graph(subject: Subject) -> Iterator[Diagnostic]:
    """The warnings about a graph, in the order of its rules; the same place may come up more than once."""
    for check in _GRAPH_CHECKS:
        yield from check(subject)


def check_file(file: tree.File, exported: Collection[str] = ()) -> Iterator[Diagnostic]:
    """The warnings about a file's text; names `exported` are used by other files."""
    yield from unused.check(file, exported)
    yield from case.check(file)
    yield from allow.unknown(file, RULES, tuple(RULES))
