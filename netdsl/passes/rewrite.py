"""Rebuilds a graph front to back, with use counts, so that one sweep sees what it has itself rewritten.

A pass looks at each node in turn, upwards through `producer`, and returns None to keep it or the values that stand for
its outputs. Chains of rewrites (Conv -> BN -> BN) finish in one sweep; every step is constant time, a sweep is linear.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from netdsl.cost import node_cost
from netdsl.ir.build import NameSpace, infer_types
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Graph, Node, Output, Value, is_symbolic
from netdsl.ir.opdef import Primitive
from netdsl.passes.log import Savings
from netdsl.source import Place

Rule = Callable[[Node], Sequence[Value] | None]


class Rewriter:
    """One sweep over a graph.

    New nodes keep the path and place of those that they replace: rules pass these to `emit`. Values of new nodes get
    their names in `finish`, when the names of what died are free again.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.changed = False
        self._made: dict[Value, Node] = {}
        self._order: list[Node] = []
        self._new: dict[Value, Value] = {}
        self._uses: dict[Value, int] = {}
        self._runs: dict[Value, int] = {}  # how many running (not constant) nodes and outputs read a constant
        self._constants: set[Value] = set()
        self._fresh: dict[Value, str] = {}
        self._saved = Savings()
        self._count()

    def _count(self) -> None:
        """Counts readers: all of them, and those that run."""
        constants, uses, runs = self.graph.constants, self._uses, self._runs
        for node in self.graph.nodes:
            running = node.outputs[0] not in constants
            for value in node.inputs:
                uses[value] = uses.get(value, 0) + 1
                if running:
                    runs[value] = runs.get(value, 0) + 1
        for value in self.graph.counters.values():  # of use to nodes that do not read it; dead code goes later
            uses[value] = uses.get(value, 0) + 1
        for output in self.graph.outputs:
            uses[output.value] = uses.get(output.value, 0) + 1
            runs[output.value] = runs.get(output.value, 0) + 1

    # Questions that rules ask ------------------------------------------------------------------------------------

    def producer(self, value: Value) -> Node | None:
        """The node that makes a value in the graph as rewritten so far; None for inputs and parameters."""
        return self._made.get(value) or self.graph.producers.get(value)

    def is_constant(self, value: Value) -> bool:
        """Whether a value is computed from parameters and constants alone."""
        return value in self._constants or value in self.graph.constants

    def uses(self, value: Value) -> int:
        """How many operands and outputs read a value, those still to be visited included."""
        return self._uses.get(value, 0)

    def single_use(self, value: Value) -> bool:
        return self.uses(value) == 1

    def runs(self, value: Value) -> int:
        """How many operands of running nodes (and outputs) read a constant: above 1, the weight is shared."""
        return self._runs.get(value, 0)

    # Changes -----------------------------------------------------------------------------------------------------

    def emit(self, op: Primitive, *inputs: Value, path: str, place: Place | None = None) -> Value:
        """A new node with one output."""
        (value,) = self.emit_all(op, *inputs, path=path, place=place)
        return value

    def emit_all(
        self,
        op: Primitive,
        *inputs: Value,
        path: str,
        place: Place | None = None,
        names: Sequence[str] | None = None,
    ) -> tuple[Value, ...]:
        """A new node, its outputs named after its path or by `names`. Raises ShapeError where the operands do not fit,
        which is a fault of the pass."""
        types = infer_types(op, inputs)
        outputs = tuple(Value("", t) for t in types)
        node = Node(op, inputs, outputs, path, place)
        if op.foldable and all(self.is_constant(v) for v in inputs) and not is_symbolic(node):
            self._constants.update(outputs)
        own = [path] if len(outputs) == 1 else [f"{path}.{i}" for i in range(len(outputs))]
        self._fresh.update(zip(outputs, names or own, strict=True))
        self._append(node)
        for value in inputs:
            self._uses[value] = self._uses.get(value, 0) + 1
        self._account(node, -1)
        return outputs

    def sweep(self, rule: Rule, after: Callable[[Node], None] = lambda node: None, *, constants: bool = False) -> None:
        """Visits every node that runs, with its operands as rewritten so far; with `constants`, weight arithmetic
        before them. `after` is called with each node that was replaced, when `saved` is known."""
        known = self.graph.constants
        weights = [n for n in self.graph.nodes if n.outputs[0] in known]
        for node in weights:
            if constants:
                self._visit(node, rule, after)
            else:
                self._append(node)
        for node in self.graph.nodes:
            if node.outputs[0] not in known:
                self._visit(node, rule, after)

    @property
    def saved(self) -> Savings:
        """What the last rewritten node saved."""
        return self._saved

    def finish(self) -> Graph:
        """The new graph, dead nodes and parameters dropped; the old one itself if nothing changed."""
        if not self.changed:
            return self.graph
        outputs = tuple(Output(o.name, self._current(o.value)) for o in self.graph.outputs)
        nodes = self._live((*(o.value for o in outputs), *map(self._current, self.graph.counters.values())))
        self._name(nodes)
        read = {v for n in nodes for v in n.inputs} | {o.value for o in outputs}
        parameters = tuple(p for p in self.graph.parameters if p.value in read)
        return Graph(self.graph.name, self.graph.inputs, outputs, tuple(nodes), parameters)

    # Inside ------------------------------------------------------------------------------------------------------

    def _visit(self, old: Node, rule: Rule, after: Callable[[Node], None]) -> None:
        node = old
        if self._new:
            inputs = tuple(self._current(v) for v in old.inputs)
            if any(a is not b for a, b in zip(inputs, old.inputs, strict=True)):
                node = replace(old, inputs=inputs)
        values = self._apply(node, rule, after)
        if values is None:
            self._append(node)
            return
        # What was just made may match again: a chain in front of a layer folds into it link by link.
        while len(values) == 1 and values[0] in self._fresh and (made := self._made.get(values[0])) is not None:
            again = self._apply(made, rule, after)
            if again is None:
                return
            values = again

    def _apply(self, node: Node, rule: Rule, after: Callable[[Node], None]) -> Sequence[Value] | None:
        """Puts what the rule returns, if anything, in the place of a node."""
        self._saved = Savings()
        values = rule(node)
        if values is None:
            return None
        self.changed = True
        for before, value in zip(node.outputs, values, strict=True):
            self._redirect(before, value)
        self._remove(node)
        after(node)
        return values

    def _redirect(self, before: Value, after: Value) -> None:
        self._new[before] = after
        self._uses[after] = self._uses.get(after, 0) + self._uses.pop(before, 0)
        runs = self._runs.pop(before, 0)
        if runs and self.is_constant(before):
            self._saved += Savings(bytes=before.type.bytes)
        if runs and self.is_constant(after):
            self._change_runs(after, runs)

    def _current(self, value: Value) -> Value:
        """What stands for an old value now; later replacements of replacements are followed and remembered."""
        found = self._new.get(value)
        if found is None:
            return value
        seen = [value]
        while (next := self._new.get(found)) is not None:
            seen.append(found)
            found = next
        for v in seen:
            self._new[v] = found
        return found

    def _append(self, node: Node) -> None:
        self._order.append(node)
        for value in node.outputs:
            self._made[value] = node

    def _remove(self, node: Node) -> None:
        """Takes a node out, and what it alone read with it."""
        stack = [node]
        while stack:
            dead = stack.pop()
            self._account(dead, 1)
            for value in dead.outputs:
                self._made.pop(value, None)
            makers: dict[Node, None] = {}
            for value in dead.inputs:
                self._uses[value] -= 1
                if not self._uses[value] and (maker := self._made.get(value)) is not None:
                    makers[maker] = None
            for maker in makers:  # each looked at once, and from its end: a split may have thousands of outputs
                if not any(self._uses.get(v, 0) for v in reversed(maker.outputs)):
                    for v in maker.outputs:
                        self._made.pop(v)
                    stack.append(maker)

    def _is_constant_node(self, node: Node) -> bool:
        return self.is_constant(node.outputs[0])

    def _change_runs(self, value: Value, by: int) -> None:
        """Bytes of a constant are in the file while anything that runs reads it."""
        before = self._runs.get(value, 0)
        self._runs[value] = before + by
        if (before > 0) != (before + by > 0):
            size: Dim = value.type.bytes
            self._saved += Savings(bytes=size if before > 0 else -size)

    def _account(self, node: Node, sign: int) -> None:
        """Adds what a node that runs costs to the savings (`sign` 1: it is gone, -1: it is new)."""
        if self._is_constant_node(node):
            return
        cost = node_cost(node)
        self._saved += Savings(sign * cost.macs, sign * cost.flops, sign)
        for value in node.inputs:
            if self.is_constant(value):
                self._change_runs(value, -sign)

    def _live(self, wanted: Iterable[Value]) -> list[Node]:
        """Nodes that outputs need, each where it was made, constants right before their first reader."""
        needed = self._needed(wanted)
        done: set[Node] = set()
        result: list[Node] = []
        late = [n for n in self._order if not self._is_constant_node(n)] + self._order
        for root in late:
            if root not in needed or root in done:
                continue
            stack = [(root, iter(root.inputs))]
            while stack:
                node, inputs = stack[-1]
                before = next((m for v in inputs if (m := self._made.get(v)) is not None and m not in done), None)
                if before is not None:
                    stack.append((before, iter(before.inputs)))
                else:
                    stack.pop()
                    done.add(node)
                    result.append(node)
        return result

    def _needed(self, wanted: Iterable[Value]) -> set[Node]:
        stack = [m for v in wanted if (m := self._made.get(v)) is not None]
        needed = set(stack)
        while stack:
            for value in stack.pop().inputs:
                maker = self._made.get(value)
                if maker is not None and maker not in needed:
                    needed.add(maker)
                    stack.append(maker)
        return needed

    def _name(self, nodes: Sequence[Node]) -> None:
        """Names for the values of new nodes; those of nodes that died are free."""
        kept = [v.name for n in nodes for v in n.outputs if v not in self._fresh]
        names = NameSpace([v.name for v in self.graph.inputs] + [p.name for p in self.graph.parameters] + kept)
        for node in nodes:
            for value in node.outputs:
                if value in self._fresh:
                    value.name = names.take(self._fresh[value])
