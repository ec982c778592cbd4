"""Bindings whose value nothing can read: the body is followed backwards, with the names that may still be read.

Where the answer would depend on which branch or how many turns are run, a value counts as read. A binding that only
some branches make hides nothing in front of the branches, and in a loop all that the body reads may be read by the next
turn. The work is linear in the program, times the depth of its loops.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import Reads, target_names

#: What kind of binding it is: "value" of a statement, "item" of several, variable of a "turn", "input", "param",
#: "shared" (or frozen) function, "parameter".
Kind = str


@dataclass(frozen=True, slots=True)
class Dead:
    """A binding whose value is never read. `again`: where the name is bound anew before anything reads it."""

    name: tree.Identifier
    kind: Kind
    again: Span | None


def dead_bindings(
    body: tree.Body, parameters: Sequence[tree.Parameter], after: Collection[str], reads: Reads
) -> tuple[list[Dead], list[Dead]]:
    """Those of a body, in the order of the text, and those of the parameters in front of it; names `after` are read
    behind the body's end."""
    defaults = [reads.of(p.default) for p in parameters if p.default is not None]
    scan = _Scan({*after}, reads.of(body).union(after, *defaults), reads)
    scan.body(body)
    inside, scan.found = scan.found, []
    for parameter in reversed(parameters):
        scan.bind(parameter.name, "parameter")
        if parameter.default is not None:
            scan.read(reads.of(parameter.default))
    return inside[::-1], scan.found[::-1]


class _Scan:
    """The state in front of the statement at hand: names that may be read, and, for the body and each branch or loop
    around it, those that are bound before that, with the place. `ever_read` are those that some expression reads: for
    others `x += 1` is no use of `x`."""

    def __init__(self, live: set[str], ever_read: frozenset[str], reads: Reads) -> None:
        self.live = live
        self.ever_read = ever_read
        self.reads = reads
        self.bound: list[dict[str, Span]] = [{}]
        self.found: list[Dead] = []

    def read(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self.ever_read:
                self.live.add(name)
                for bound in self.bound:
                    bound.pop(name, None)

    def bind(self, name: tree.Identifier, kind: Kind) -> None:
        again = next((bound[name.id] for bound in reversed(self.bound) if name.id in bound), None)
        if again is not None or name.id not in self.live:
            self.found.append(Dead(name, kind, again))
        self.bound[-1][name.id] = name.span

    def targets(self, targets: Iterable[tree.Target], kind: Kind) -> None:
        for name in (name for target in targets for name in target_names(target)):
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
            case tree.For():
                self._loop(node.body, node.iterable, node.target)
                return
            case tree.Repeat():
                self._loop(node.body, node.count)
                return
            case tree.If():
                self._if(node)
                return
            case tree.Assign(targets=(tree.Identifier() as name,)) | tree.AugAssign(target=name):
                self.bind(name, "value")
            case tree.Assign():
                self.targets(node.targets, "item")
            case tree.Input() | tree.ParamDecl() | tree.Shared():
                self.bind(node.name, _KINDS[type(node)])
            case _:
                pass
        self.read(self.reads.with_changed(node))

    def _if(self, node: tree.If) -> None:
        for body in (*(branch.body for branch in node.branches), node.otherwise):
            if body is not None:
                self.branch(body)
        for branch in node.branches:
            self.read(self.reads.of(branch.condition))

    def _loop(self, body: tree.Body, header: tree.Expr, target: tree.Target | None = None) -> None:
        self.read(self.reads.with_changed(body))  # by the next turn
        self.branch(body, target)
        self.read(self.reads.of(header))


_KINDS: dict[type[tree.Statement], Kind] = {tree.Input: "input", tree.ParamDecl: "param", tree.Shared: "shared"}
