"""Runs a small program through every form that its operators have.

A `Case` is the body of a network and its inputs. `check_case` compares, for that program:
- every node's shape rule with the shape and element type that its NumPy rule gives;
- the ONNX form at each opset, run by ONNX Runtime with its optimisations off and on, with the NumPy rules.
Weights are random, running statistics included. Symbols are bound by the inputs' shapes.
"""

from __future__ import annotations

import importlib
import inspect
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import onnx

from netdsl.elaborate import elaborate
from netdsl.ir.dims import evaluate
from netdsl.ir.graph import Graph
from netdsl.ir.types import NDArrayAny, dtype_of
from netdsl.onnx.export import to_proto
from netdsl.runtime.bind import bind
from netdsl.runtime.interpret import run_node
from netdsl.runtime.session import Session
from netdsl.source import SourceFile
from netdsl.weights import ConstantEvaluator, WeightStore

CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Case:
    """`source` stands in `network T { … }`. An input is an array, or a shape to be filled with normal numbers (small
    integers, booleans). `rtol` and `atol` are NumPy's, for ONNX Runtime against the NumPy rules."""

    name: str
    source: str
    inputs: Mapping[str, tuple[int, ...] | NDArrayAny]
    opsets: tuple[int, ...] = (17, 21, 26)
    rtol: float = 1e-4
    atol: float = 1e-5


@cache
def all_cases() -> dict[str, Case]:
    """Every case of `cases/*.py` by `family-name`. Two of one name in a family are an error."""
    found: dict[str, Case] = {}
    for path in sorted(CASES.glob("*.py")):
        for case in importlib.import_module(f"tests.ops.cases.{path.stem}").CASES:
            key = f"{path.stem}-{case.name}"
            assert key not in found, f"{key} is there twice"
            found[key] = case
    return found


def graph_of(case: Case) -> Graph:
    """The graph of a case, as the language makes it."""
    return elaborate(SourceFile(f"{case.name}.net", f"network T {{ {case.source} }}")).graph


def inputs_of(case: Case, graph: Graph) -> dict[str, NDArrayAny]:
    """The arrays of a case, those given as shapes drawn from a seed that is the case's own."""
    random = np.random.default_rng(zlib.crc32(case.name.encode()))
    arrays: dict[str, NDArrayAny] = {}
    for value in graph.inputs:
        given = case.inputs[value.name]
        if not isinstance(given, tuple):
            arrays[value.name] = given
        elif value.dtype.is_float:
            arrays[value.name] = random.standard_normal(given).astype(value.dtype.numpy)
        else:
            arrays[value.name] = random.integers(0, 5 if value.dtype.is_integer else 2, given).astype(value.dtype.numpy)
    assert set(case.inputs) == set(arrays), "the case gives other inputs than the program has"
    return arrays


def check_case(case: Case) -> None:
    """Raises AssertionError where two forms of an operator disagree."""
    graph = graph_of(case)
    arrays = inputs_of(case, graph)
    store = WeightStore(graph.parameters).perturbed()
    expected = evaluated(graph, arrays, store)
    for opset in case.opsets:
        model = to_proto(graph, store, opset=opset)
        onnx.checker.check_model(model, full_check=True)
        data = model.SerializeToString()
        for optimise in (False, True):
            found = Session(data, "cpu", threads=1, optimise=optimise).run(arrays)
            for name, array in expected.items():
                where = (
                    f"{case.name}, output {name}, opset {opset}, ONNX Runtime {'optimised' if optimise else 'plain'}"
                )
                compare(array, found[name], case.rtol, case.atol, where)


def evaluated(graph: Graph, arrays: Mapping[str, NDArrayAny], store: WeightStore) -> dict[str, NDArrayAny]:
    """The outputs by the NumPy rules; checks each node's shape rule on the way."""
    env = bind({v.name: v.type for v in graph.inputs}, arrays)
    weights = ConstantEvaluator(graph, store)
    values = {v: arrays[v.name] for v in graph.inputs} | {p.value: weights.array(p.value) for p in graph.parameters}
    for node in graph.nodes:
        for value, array in zip(node.outputs, run_node(node, values, env), strict=True):
            assert array.shape == tuple(evaluate(d, env) for d in value.shape), f"{node!r} makes {array.shape}"
            assert dtype_of(array) is value.dtype, f"{node!r} makes {array.dtype}"
            values[value] = array
    return {o.name: values[o.value] for o in graph.outputs}


def compare(expected: NDArrayAny, found: NDArrayAny, rtol: float, atol: float, where: str) -> None:
    """Shapes and element types are equal, values within the tolerances."""
    assert found.dtype == expected.dtype, where
    assert found.shape == expected.shape, where
    np.testing.assert_allclose(
        found.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol, err_msg=where
    )


def call_names(call: object) -> tuple[list[str], bool]:
    """The names of the keyword arguments that an operator's `call` takes behind the context, and whether it takes any
    others too."""
    parameters = list(inspect.signature(call).parameters.values())[1:]  # type: ignore[arg-type]  # a method
    named = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return named, any(p.kind is p.VAR_KEYWORD for p in parameters)
