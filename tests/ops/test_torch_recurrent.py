"""Recurrent layers against PyTorch: results, last states and every gradient, weights by the same names."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from netdsl.ir.types import NDArrayAny
from netdsl.onnx.export import to_proto
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore
from tests.autodiff.checking import as_float64, gradients
from tests.ops.harness import Case, graph_of

torch: Any = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

MODULES = {"rnn": "RNN", "lstm": "LSTM", "gru": "GRU"}
N, TIME, FEATURES, UNITS = 3, 6, 5, 4
TOLERANCE = 1e-5


def _case(cell: str, layers: int, both: bool, bias: bool) -> Case:
    count = layers * (2 if both else 1)
    states = "input h: float32[D, N, 4] input c: float32[D, N, 4]".replace("D", str(count))
    if cell != "lstm":
        states = states.partition(" input c")[0]
    state, last = ("(h, c)", "last[0]") if cell == "lstm" else ("h", "last")
    arguments = f"4, {layers}, {str(both).lower()}, bias={str(bias).lower()}, state={state}"
    ends = f"output end_h = {last} " + ("output end_c = last[1]" if cell == "lstm" else "")
    source = f"input x: float32[N, L, 5] {states} y, last = x -> {cell}({arguments}) output y {ends}"
    return Case(cell, source, {})


@pytest.mark.parametrize(
    ("cell", "layers", "both", "bias"), [*product(MODULES, (1, 2), (False, True), (True,)), ("gru", 2, True, False)]
)
def test_results_and_gradients(cell: str, layers: int, both: bool, bias: bool) -> None:
    graph = graph_of(_case(cell, layers, both, bias))
    store, rng = WeightStore(graph.parameters).perturbed(), np.random.default_rng(0)
    sizes = {"N": N, "L": TIME}
    arrays = {v.name: rng.normal(size=[sizes.get(str(d), d) for d in v.shape]).astype("f") for v in graph.inputs}
    module = getattr(torch.nn, MODULES[cell])(
        FEATURES, UNITS, layers, bias=bias, bidirectional=both, batch_first=True
    ).double()
    weights = {p.name.partition(".")[2]: np.asarray(store.array(p)) for p in graph.parameters}
    module.load_state_dict({name: torch.tensor(array, dtype=torch.float64) for name, array in weights.items()})
    given = {name: torch.tensor(a, dtype=torch.float64, requires_grad=True) for name, a in arrays.items()}
    states = (given["h"], given["c"]) if cell == "lstm" else given["h"]
    y, last = module(given["x"], states)
    expected = {"y": y, **dict(zip(("end_h", "end_c"), last if cell == "lstm" else (last,), strict=False))}
    found = Session(to_proto(graph, store).SerializeToString(), "cpu", threads=1).run(arrays)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value.detach().numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
    _compare_gradients(graph, arrays, weights, module, given, expected)


def _compare_gradients(
    graph: Any, arrays: dict[str, NDArrayAny], weights: dict[str, NDArrayAny], module: Any, given: Any, made: Any
) -> None:
    wide, rng = as_float64(graph), np.random.default_rng(1)
    factors = {name: rng.normal(size=tuple(value.shape)) for name, value in made.items()}
    sum(torch.sum(value * torch.tensor(factors[name])) for name, value in made.items()).backward()
    values: Any = {v: arrays[v.name].astype(np.float64) for v in wide.inputs}
    values |= {p.value: weights[p.name.partition(".")[2]].astype(np.float64) for p in wide.parameters}
    ends = {o.value: factors[o.name] for o in wide.outputs}
    found = gradients(wide, list(values), values, {"N": N, "L": TIME}, ends)
    theirs = {**{n: t.grad for n, t in given.items()}, **{n: p.grad for n, p in module.named_parameters()}}
    assert len(found) == len(theirs)
    for value, array in found.items():
        name = value.name if value in wide.inputs else value.name.partition(".")[2]
        np.testing.assert_allclose(array, theirs[name].numpy(), rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
