"""Compares two graphs on random inputs: what a rewrite must not change.

A graph before its rewrites and after them runs with the same weights and inputs, in ONNX Runtime with its own
optimisations off, or by the operators' NumPy rules where there is no runtime. For each output the largest difference
is stated, absolute and relative to the output's largest magnitude; the relative one must stay within the tolerance of
the element type. Integers and booleans must be equal.

Which boxes a suppression keeps may hang on the last bit of a score. So its operands are compared instead, and the graph
behind it runs on what the first graph has selected.

A network may amplify rounding beyond any tolerance: gates that multiply maps which nothing keeps in bounds do, with
weights that no training has tamed. Where a float32 output differs too much, both graphs run again in float64 by the
NumPy rules. A rewrite is right if they agree there, which no wrong one does, and if its float32 result is as near to
the exact one as that of the graph before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from netdsl.ir.graph import Graph, Node, Output, Value
from netdsl.ir.types import DType, NDArrayAny, dtype_of
from netdsl.onnx.export import OPSET, write_model
from netdsl.ops.constant import Cast
from netdsl.runtime.calibrate import calibrated
from netdsl.runtime.interpret import interpret
from netdsl.runtime.samples import choose_symbols, random_inputs
from netdsl.runtime.session import Session, available
from netdsl.weights import WeightStore

Arrays = Mapping[str, NDArrayAny]

#: largest difference relative to the output's largest magnitude
TOLERANCES = {DType.float64: 1e-9, DType.float32: 1e-4, DType.float16: 2e-2, DType.bfloat16: 1e-1}
SHRINKS = 1e-2  # what float64 leaves at most of a difference that is rounding (constants such as epsilons stay
#                 float32's numbers); of a wrong rewrite's it leaves all
NEARNESS = 8.0  # how much farther from the exact result a rewritten graph's may be: roundings are drawn by chance


@dataclass(frozen=True)
class Difference:
    """The difference of one output: `absolute` the largest, `relative` that over the largest magnitude. `exact` is the
    relative difference in float64 where that settled the matter."""

    output: str
    absolute: float
    relative: float
    tolerance: float
    exact: float | None = None

    @property
    def ok(self) -> bool:
        return self.relative <= self.tolerance or self.exact is not None

    def __str__(self) -> str:
        text = (
            f"{self.output} differs by at most {self.absolute:.2g}, {self.relative:.2g} of its largest value"
            f" (tolerance {self.tolerance:g})"
        )
        if self.exact is None:
            return text
        return f"{text}, by rounding, which the network amplifies: in float64 by {self.exact:.2g} of it"


@dataclass(frozen=True)
class Comparison:
    """The differences of all outputs; `by` is what ran the graphs, `sizes` the symbols' values."""

    differences: tuple[Difference, ...]
    by: str
    sizes: Mapping[str, int]

    @property
    def ok(self) -> bool:
        return all(d.ok for d in self.differences)

    @property
    def worst(self) -> Difference:
        """The difference that is largest against its tolerance."""
        return max(self.differences, key=lambda d: (not d.ok, d.relative / max(d.tolerance, 1e-30)))

    def __str__(self) -> str:
        sizes = ", ".join(f"{name}={size}" for name, size in self.sizes.items())
        return f"{self.worst}; run by {self.by} on random inputs{' with ' + sizes if sizes else ''}"


def compare(
    before: Graph,
    after: Graph,
    store: WeightStore,
    *,
    tolerance: float | None = None,
    opset: int = OPSET,
    seed: int = 0,
    runtime: bool | None = None,
) -> Comparison:
    """Runs both graphs on the same random inputs.

    Without a checkpoint, what would start as a constant (biases, running statistics) is drawn for both: a fresh batch
    norm does nothing. `tolerance` overrides those by element type; `runtime` false runs the NumPy rules (None: where
    ONNX Runtime is missing). Raises ValueError where no sizes of symbols are found that the graphs accept.
    """
    env = choose_symbols([before, after])
    inputs = random_inputs(before, env, seed)
    use_runtime = available() if runtime is None else runtime

    def plain(graph: Graph, arrays: Arrays, weights: WeightStore) -> Arrays:
        return _run_onnx(graph, arrays, weights, opset) if use_runtime else interpret(graph, arrays, weights)

    weights = store
    if store.checkpoint is None:
        drawn = store.perturbed()
        weights = calibrated(before, drawn, lambda statistics: plain(statistics, inputs, drawn))
    shown, resumed, selected = _with_selections(before, after)

    def both(run: Callable[[Graph, Arrays, WeightStore], Arrays]) -> tuple[Arrays, Arrays]:
        expected = run(shown, inputs, weights)
        given = {name: expected[output] for name, output in selected.items()}
        return expected, run(resumed, {**inputs, **given}, weights)

    results = both(plain)
    compared = [name for name in results[0] if name in results[1]]
    differences = tuple(_difference(n, results[0][n], results[1][n], tolerance) for n in compared)
    if tolerance is None and any(not d.ok and dtype_of(results[0][d.output]) is DType.float32 for d in differences):
        exact = both(lambda *arguments: interpret(*arguments, wide=True))
        differences = tuple(d if d.ok else _judged(d, results, exact) for d in differences)
    return Comparison(differences, "ONNX Runtime" if use_runtime else "the NumPy rules", env)


def _with_selections(before: Graph, after: Graph) -> tuple[Graph, Graph, dict[str, str]]:
    """The first graph with the operands and results of nodes that find counts as outputs too; the second with these
    results as inputs, and the operands, in the first one's element types, as outputs; for each such input the output
    that it is."""
    others = {node.op.counts: node for node in after.nodes if node.op.counts}
    pairs = [(node, others[node.op.counts]) for node in before.nodes if node.op.counts in others]
    operands, results, again = list[Output](), list[Output](), list[Output]()
    selected: dict[str, str] = {}
    nodes = [n for n in after.nodes if n not in {other for _, other in pairs}]
    for node, other in pairs:
        for i, (value, same) in enumerate(zip(node.inputs, other.inputs, strict=True)):
            operands.append(Output(f"{node.path}/operand {i}", value))
            if same.dtype is not value.dtype:  # in another precision
                wide = Value(f"{operands[-1].name} as {value.dtype}", value.type)
                nodes.append(Node(Cast(value.dtype), (same,), (wide,), node.path))
                same = wide
            again.append(Output(operands[-1].name, same))
        for i, (value, same) in enumerate(zip(node.outputs, other.outputs, strict=True)):
            results.append(Output(f"{node.path}/result {i}", value))
            selected[same.name] = results[-1].name
    if not pairs:
        return before, after, {}
    given = (v for _, other in pairs for v in other.outputs)
    shown = replace(before, outputs=(*before.outputs, *operands, *results))
    resumed = Graph(after.name, (*after.inputs, *given), (*after.outputs, *again), tuple(nodes), after.parameters)
    return shown, resumed, selected


def _run_onnx(graph: Graph, inputs: Mapping[str, NDArrayAny], store: WeightStore, opset: int) -> dict[str, NDArrayAny]:
    """Through a file: models may be larger than memory holds twice."""
    with tempfile.TemporaryDirectory(prefix="netdsl-") as folder:
        path = Path(folder) / "model.onnx"
        write_model(graph, store, path, opset=opset)
        return Session(path, "cpu", optimise=False).run(inputs)


def _judged(found: Difference, results: Sequence[Arrays], exact: Sequence[Arrays]) -> Difference:
    """The difference, settled by what both graphs give in float64 if that shows it to be rounding."""
    name = found.output
    if dtype_of(results[0][name]) is not DType.float32:
        return found
    apart = _relative(exact[0][name], exact[1][name])
    before, after = (_relative(exact[0][name], r[name]) for r in results)
    return replace(found, exact=apart) if apart <= SHRINKS * found.relative and after <= NEARNESS * before else found


def _difference(name: str, expected: NDArrayAny, found: NDArrayAny, tolerance: float | None) -> Difference:
    """NaNs and infinities count as equal where both have them; elsewhere the difference is infinite."""
    dtype = dtype_of(expected)
    allowed = (TOLERANCES[dtype] if dtype.is_float else 0.0) if tolerance is None else tolerance
    if expected.dtype != found.dtype or expected.shape != found.shape:
        return Difference(name, np.inf, np.inf, allowed)
    absolute, scale = _distance(expected, found)
    return Difference(name, absolute, absolute / scale if scale else absolute, allowed)


def _relative(expected: NDArrayAny, found: NDArrayAny) -> float:
    absolute, scale = _distance(expected, found)
    return absolute / scale if scale else absolute


def _distance(expected: NDArrayAny, found: NDArrayAny) -> tuple[float, float]:
    """The largest difference and the largest magnitude of what was expected."""
    a, b = _wide(expected), _wide(found)
    with np.errstate(invalid="ignore"):
        apart = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
    apart = np.where(np.isnan(apart), np.inf, apart)
    return float(apart.max(initial=0.0)), float(np.abs(a[np.isfinite(a)]).max(initial=0.0))


def _wide(array: NDArrayAny) -> Any:
    return array.astype(np.float64)
