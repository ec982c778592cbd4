"""What a pass is.

A pass is a frozen dataclass with a name and the names of the passes that must have run before it. `run` returns the
same object when nothing changed. Most passes are `Peephole`s: `match` looks at one node and returns what it found, a
refusal with its reason, or None; `rewrite` is then a pure construction.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.passes.log import Refusal, Rewrite, RewriteLog
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class Pass(ABC):
    """A rewrite of graphs that changes no output."""

    name: ClassVar[str]
    after: ClassVar[tuple[str, ...]] = ()
    late: ClassVar[bool] = False  #: runs only when the others have nothing left to do

    @abstractmethod
    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        """The rewritten graph, or `graph` itself."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A match that is not rewritten, and why (a clause: "its output has a second user")."""

    reason: str


@dataclass(frozen=True, slots=True)
class Done:
    """Values that stand for the node's outputs, and what happened (a clause: "folded into conv1")."""

    values: Sequence[Value]
    what: str


Match = TypeVar("Match")


class Peephole(Pass, Generic[Match]):
    """A pass that looks at nodes of some operators one by one. A `Match` is whatever `rewrite` has to know."""

    targets: ClassVar[tuple[type[Primitive], ...]]

    @abstractmethod
    def match(self, rw: Rewriter, node: Node) -> Match | Refused | None:
        """The parts of the pattern that ends in `node`; None if it is not there."""

    @abstractmethod
    def rewrite(self, rw: Rewriter, node: Node, parts: Match) -> Done:
        """Emits what stands for `node`."""

    def run(self, graph: Graph, log: RewriteLog) -> Graph:
        constants = graph.constants
        if not any(isinstance(n.op, self.targets) and n.outputs[0] not in constants for n in graph.nodes):
            return graph
        rw = Rewriter(graph)
        what = ""

        def rule(node: Node) -> Sequence[Value] | None:
            nonlocal what
            if not isinstance(node.op, self.targets):
                return None
            parts = self.match(rw, node)
            if parts is None:
                return None
            if isinstance(parts, Refused):
                log.add(Refusal(self.name, node.path, node.place, parts.reason))
                return None
            done = self.rewrite(rw, node, parts)
            what = done.what
            return done.values

        def after(node: Node) -> None:
            log.add(Rewrite(self.name, node.path, node.place, what, rw.saved))

        rw.sweep(rule, after)
        return rw.finish()
