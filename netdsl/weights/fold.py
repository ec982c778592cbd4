"""Weight arithmetic: evaluates the values of a graph that depend on parameters and constants alone.

Everything is computed in float64, whatever the element type, and rounded once, where a value leaves: the folded weight
is the nearest float32 to the exact one. The rounding of a conversion to float32 in the middle is left out for the same
reason; one to a 16-bit type is the program's wish and is kept. (Very large results are rounded when they are made, see
`blocks`.)

Arrays are made one after the other, parameters drawn ahead on the store's threads up to `AHEAD` bytes, and dropped
after their last use.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from netdsl.ir.graph import Graph, Node, Parameter, Value
from netdsl.ir.types import DType, NDArrayAny
from netdsl.ops.constant import Cast
from netdsl.ops.joining import Concat, Split
from netdsl.ops.shape import Expand, Reshape, Transpose
from netdsl.weights.blocks import evaluate_in_blocks, worth_blocks
from netdsl.weights.sizes import byte_count
from netdsl.weights.store import Pending, WeightStore

MOVES = (Concat, Expand, Reshape, Split, Transpose)  # do no arithmetic, so that their operands need no widening
AHEAD = 64 << 20  # bytes of parameters that may be in the making ahead of the one needed


class ConstantEvaluator:
    """The constants of one graph with the weights of one store. `wide` leaves floats in float64, unrounded."""

    def __init__(self, graph: Graph, store: WeightStore, *, wide: bool = False) -> None:
        self._graph = graph
        self._store = store
        self._wide = wide

    def array(self, value: Value) -> NDArrayAny:
        """One constant, in its element type or `wide`. Raises KeyError for a value that is no constant of the graph."""
        ((_, array),) = self.stream([value])
        return array

    def stream(self, wanted: Sequence[Value]) -> Iterator[tuple[Value, NDArrayAny]]:
        """Each wanted constant with its array, in order; what the next needs is drawn meanwhile. Arithmetic that
        several of them share is done once. Do not write to the arrays."""
        plan = _Plan.of(self._graph, wanted)
        run = _Run(self._store, plan, self._wide)
        for step in plan.steps:
            if isinstance(step, Node):
                run.evaluate(step)
            elif isinstance(step, Parameter):
                run.load(step)
            else:
                yield step, run.leave(step)


@dataclass(frozen=True)
class _Plan:
    """What to do in which order: load a parameter, evaluate a node, let a value leave; and how often each is read."""

    steps: list[Parameter | Node | Value]
    reads: dict[Value, int]

    @staticmethod
    def of(graph: Graph, wanted: Sequence[Value]) -> _Plan:
        plan = _Plan([], dict.fromkeys(wanted, 1))
        done: set[Value] = set()
        for value in dict.fromkeys(wanted):
            if value not in graph.constants:
                raise KeyError(f"{value!r} is no constant of the graph")
            plan._require(graph, value, done)
            plan.steps.append(value)
        return plan

    def _require(self, graph: Graph, value: Value, done: set[Value]) -> None:
        """Steps that make a value, operands first; without recursion, for chains may be long."""
        stack = [value]
        while stack:
            needed = stack[-1]
            if needed in done:
                stack.pop()
                continue
            node = graph.producers.get(needed)
            if node is None:
                self.steps.append(graph.parameter_of[needed])
                done.add(needed)
            elif missing := [v for v in node.inputs if v not in done]:
                stack.extend(reversed(missing))
                continue
            else:
                self.steps.append(node)
                done.update(node.outputs)
                for v in dict.fromkeys(node.inputs):
                    self.reads[v] = self.reads.get(v, 0) + 1
            stack.pop()


class _Run:
    """Arrays that are alive while a plan is carried out."""

    def __init__(self, store: WeightStore, plan: _Plan, wide: bool) -> None:
        self._store = store
        self._wide = wide
        self._reads = dict(plan.reads)
        self._wanted = {s for s in plan.steps if isinstance(s, Value)}
        self._live: dict[Value, NDArrayAny] = {}
        self._queue = [s for s in plan.steps if isinstance(s, Parameter)]
        self._started: dict[Parameter, Pending] = {}
        self._next = 0
        self._ahead = 0

    def load(self, parameter: Parameter) -> None:
        self._start_ahead()
        self._ahead -= byte_count(parameter.value)
        self._live[parameter.value] = self._started.pop(parameter).result()
        self._start_ahead()

    def _start_ahead(self) -> None:
        while self._next < len(self._queue):
            parameter = self._queue[self._next]
            if self._started and self._ahead + byte_count(parameter.value) > AHEAD:
                return
            self._started[parameter] = self._store.start(parameter)
            self._ahead += byte_count(parameter.value)
            self._next += 1

    def evaluate(self, node: Node) -> None:
        if not self._wide and worth_blocks(node, node.outputs[0] in self._wanted and self._reads[node.outputs[0]] == 1):
            arrays = {v: self._take(v) for v in dict.fromkeys(node.inputs)}
            self._live[node.output] = evaluate_in_blocks(node, arrays)
            return
        wide = (lambda array: array) if isinstance(node.op, MOVES) else widened
        results = _evaluated(node, {v: wide(self._take(v)) for v in dict.fromkeys(node.inputs)})
        for value, array in zip(node.outputs, results, strict=True):
            if self._reads.get(value):
                self._live[value] = array

    def leave(self, value: Value) -> NDArrayAny:
        array = self._take(value)
        return widened(array) if self._wide else narrowed(array, value.dtype)

    def _take(self, value: Value) -> NDArrayAny:
        """An array for one of its readers; the last one takes it away."""
        self._reads[value] -= 1
        return self._live[value] if self._reads[value] else self._live.pop(value)


def _evaluated(node: Node, arrays: dict[Value, NDArrayAny]) -> tuple[NDArrayAny, ...]:
    if isinstance(node.op, Cast) and node.op.dtype.is_float:
        array = arrays[node.inputs[0]]
        return (widened(narrowed(array, node.op.dtype) if node.op.dtype.size == 2 else array),)
    with np.errstate(all="ignore"):
        results = node.op.evaluate(*(arrays[v] for v in node.inputs))
    return results if isinstance(results, tuple) else (results,)


def widened(array: NDArrayAny) -> NDArrayAny:
    """Floats as float64."""
    return array.astype(np.float64, copy=False) if array.dtype.kind in "fV" else array


def narrowed(array: NDArrayAny, dtype: DType) -> NDArrayAny:
    """Rounded to an element type; infinite where it is too large for it."""
    with np.errstate(over="ignore"):
        return array.astype(dtype.numpy, copy=False)
