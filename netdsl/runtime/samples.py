"""Random inputs for a graph, of sizes that it accepts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from netdsl.ir.dims import Dim, DimError, Expr, evaluate
from netdsl.ir.graph import Graph, Node, Value
from netdsl.ir.types import NDArrayAny

BATCH = 2  # value of a symbol that leads an input's shape, if the graph accepts it
SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233, 377)  # tried for all other symbols, smallest first
ENOUGH = (
    8192  # elements of all inputs up to which larger sizes are preferred: layers need an inside beside their border
)
INTEGERS = 10  # integer inputs are below it, or below the size of the axis that they index


def choose_symbols(graphs: Sequence[Graph]) -> dict[str, int]:
    """Values of the symbols, small and where possible all different, with which every size in every graph is positive.
    Raises ValueError where none of the tried ones fits.
    """
    leading = {d for g in graphs for v in g.inputs for d in v.shape[:1] if isinstance(d, Expr)}
    dims = {d for g in graphs for d in _symbolic(g)}
    names = list(dict.fromkeys(name for g in graphs for name in g.symbols))
    batch = [n for n in names if any(d.symbols == {n} and str(d) == n for d in leading)]
    elements: Dim = sum((v.type.size for v in graphs[0].inputs), 0)
    for apart in (1, 0):  # different values first: a swapped axis must not go unseen
        best: dict[str, int] | None = None
        for size in SIZES:
            others = (n for n in names if n not in batch)
            env = dict.fromkeys(batch, BATCH) | {n: size + i * apart for i, n in enumerate(others)}
            if best is not None and evaluate(elements, env) > ENOUGH:
                break
            if _feasible(dims, env):
                best = env
        if best is not None:
            return best
    raise ValueError(
        f"no sizes were found that the graph accepts; give its symbols ({', '.join(names)}) values with --set"
    )


def _symbolic(graph: Graph) -> Iterable[Expr]:
    """The sizes that follow from the symbols."""
    for value in (*graph.inputs, *(v for n in graph.nodes for v in n.outputs)):
        for dim in value.shape:
            if isinstance(dim, Expr) and not dim.counts:
                yield dim


def _feasible(dims: Iterable[Expr], env: Mapping[str, int]) -> bool:
    try:
        return all(evaluate(d, env) >= 1 for d in dims)
    except (DimError, ZeroDivisionError):
        return False


def random_inputs(graph: Graph, env: Mapping[str, int], seed: int = 0) -> dict[str, NDArrayAny]:
    """An array for each input: normal floats, integers that may index what they index, random booleans."""
    random = np.random.default_rng(seed)
    return {v.name: _array(random, v, env, _limit(graph, v, env)) for v in graph.inputs}


def _array(random: np.random.Generator, value: Value, env: Mapping[str, int], limit: int) -> NDArrayAny:
    shape = tuple(evaluate(d, env) for d in value.shape)
    dtype = value.dtype
    if dtype.is_float:
        return random.standard_normal(shape).astype(dtype.numpy)
    return random.integers(0, limit if dtype.is_integer else 2, shape).astype(dtype.numpy)


def _limit(graph: Graph, value: Value, env: Mapping[str, int]) -> int:
    """What the values of an integer input stay below. Behind operators that index, any axis may be what is indexed."""
    indexed = [n for n in _reached(graph, value) if n.op.name in INDEXING]
    sizes: list[Dim] = [d for n in indexed for v in n.inputs if v.dtype.is_float for d in v.shape]
    known = [evaluate(d, env) for d in sizes if not isinstance(d, Expr) or d.symbols <= env.keys()]
    return max(1, min([INTEGERS, *known])) if indexed else INTEGERS


#: operators with an operand of indices
INDEXING = frozenset({"gather", "embedding", "one_hot", "cross_entropy", "max_unpool", "roi_align", "roi_pool"})


def _reached(graph: Graph, value: Value) -> list[Node]:
    """The nodes that read a value through integer tensors."""
    found: dict[Node, None] = {}
    stack = [value]
    while stack:
        for node in graph.users.get(stack.pop(), ()):
            if node not in found:
                found[node] = None
                stack.extend(v for v in node.outputs if v.dtype.is_integer)
    return list(found)
