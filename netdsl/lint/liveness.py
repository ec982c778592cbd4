"""Bindings whose value nothing can read: the body is followed backwards, with the names that may still be read.

Where the answer would depend on which branch or how many turns are run, a value counts as read. A binding that only
some branches make hides nothing in front of the branches, and in a loop all that the body reads may be read by the next
turn. The work is linear in the program, times the depth of its loops.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass

from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import children, names_in, target_names

#: What kind of binding it is: the whole value of a statement, one item of several, a declaration by its keyword.
Kind = str


@dataclass(frozen=True, slots=True)
class Dead:
    """A binding whose value is never read. `again`: where the name is bound anew before anything reads it."""

    name: tree.Identifier
    kind: Kind
    again: Span | None


def dead_bindings(
    body: tree.Body, parameters: Iterable[tree.Parameter], after: Collection[str]
) -> tuple[list[Dead], list[Dead]]:
    """Those of a body, in the order of the text, and those of the parameters in front of it; names `after` are read
    behind the body's end."""
    found: list[Dead] = []
    parameters = list(parameters)
    read = names_in(body).union(after, *(names_in(p.default) for p in parameters if p.default is not None))
    scan = _Scan(found.append, {*after}, read)
    scan.body(body)
    inside, found = found[::-1], []
    scan.report = found.append
    for parameter in reversed(parameters):
        scan.bind(parameter.name, "parameter")
        if parameter.default is not None:
            scan.read(names_in(parameter.default))
    return inside, found[::-1]


class _Scan:
    """The state in front of the statement at hand: names that may be read, and, for the body and each branch or loop
    around it, those that are bound before that, with the place. `ever_read` are those that some expression reads: for
    others `x += 1` is no use of `x`."""

    def __init__(self, report: Callable[[Dead], None], live: set[str], ever_read: frozenset[str]) -> None:
        self.report = report
        self.live = live
        self.ever_read = ever_read
        self.bound: list[dict[str, Span]] = [{}]

    def read(self, names: Iterable[str]) -> None:
        for name in self.ever_read & set(names):
            self.live.add(name)
            for bound in self.bound:
                bound.pop(name, None)

    def bind(self, name: tree.Identifier, kind: Kind) -> None:
        again = next((bound[name.id] for bound in reversed(self.bound) if name.id in bound), None)
        if again is not None or name.id not in self.live:
            self.report(Dead(name, kind, again))
        self.bound[-1][name.id] = name.span

    def targets(self, targets: Iterable[tree.Target], kind: Kind) -> None:
        for target in targets:
            for name in target_names(target):
                self.bind(name, kind)

    def body(self, body: tree.Body) -> None:
        """What stands behind a `return` never runs, and is left out."""
        end = next((i + 1 for i, s in enumerate(body.statements) if isinstance(s, tree.Return)), None)
        for statement in reversed(body.statements[:end]):
            self.statement(statement)

    def branch(self, body: tree.Body, target: tree.Target | None = None) -> None:
        """A body that may run or not; `target` is bound before it."""
        self.bound.append({})
        self.body(body)
        if target is not None:
            self.targets([target], "turn")
        self.bound.pop()

    def statement(self, node: tree.Statement) -> None:
        match node:
            case tree.Assign(targets=(tree.Identifier() as name,)):
                self.bind(name, "value")
                self.read(names_in(node.value))
            case tree.Assign():
                self.targets(node.targets, "item")
                self.read(names_in(node.value))
            case tree.AugAssign():
                self.bind(node.target, "value")
                self.read({node.target.id, *names_in(node.value)})
            case tree.Input() | tree.ParamDecl() | tree.Shared():
                self.bind(node.name, "input" if isinstance(node, tree.Input) else _WORD[type(node)])
                self.read(names_in(node))
            case tree.For():
                self._loop(node.body, node.iterable, node.target)
            case tree.Repeat():
                self._loop(node.body, node.count)
            case tree.If():
                for body in (*(branch.body for branch in node.branches), node.otherwise):
                    if body is not None:
                        self.branch(body)
                for branch in node.branches:
                    self.read(names_in(branch.condition))
            case _:
                self.read(names_in(node))

    def _loop(self, body: tree.Body, header: tree.Expr, target: tree.Target | None = None) -> None:
        self.read(_read_by_next_turn(body))
        self.branch(body, target)
        self.read(names_in(header))


_WORD: dict[type[tree.Statement], Kind] = {tree.ParamDecl: "param", tree.Shared: "shared"}


def _read_by_next_turn(body: tree.Body) -> set[str]:
    """What a loop's body reads, the names that `+=` changes included."""
    changed = set[str]()
    pending: list[tree.Node] = [body]
    while pending:
        node = pending.pop()
        if isinstance(node, tree.AugAssign):
            changed.add(node.target.id)
        elif isinstance(node, tree.Body | tree.If | tree.For | tree.Repeat | tree.Branch):
            pending += children(node)
    return changed | names_in(body)
