"""Recurrent layers: parameters, figures, the nodes that they become, and steps of training at any length."""

from __future__ import annotations

from collections import Counter

import numpy as np
import onnx
import pytest

from netdsl.elaborate import elaborate
from netdsl.ir.graph import Graph
from netdsl.ir.types import DType
from netdsl.onnx.export import to_proto
from netdsl.passes.log import RewriteLog
from netdsl.passes.pipelines import TRAINING, run_passes
from netdsl.report.model import analyse
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.autodiff.stepping import Arrays, Runner, step_of

GATES = {"rnn": 1, "gru": 3, "lstm": 4}
CELLS = pytest.mark.parametrize("cell", GATES)


def graph(body: str, types: str = "input x: float32[N, 9, 5]") -> Graph:
    return elaborate(SourceFile("t.net", f"network Net {{ {types} {body} }}")).graph


@CELLS
def test_parameters_are_pytorchs(cell: str) -> None:
    made = graph(f"output y = x -> {cell}(7, layers=2, bidirectional=true)[0] as name").parameters
    rows = GATES[cell] * 7
    ends = [f"_l{layer}{way}" for layer in (0, 1) for way in ("", "_reverse")]
    assert [p.name for p in made] == [
        f"name.{kind}{end}" for end in ends for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    shapes = {p.name.removeprefix("name."): p.value.shape for p in made}
    assert (shapes["weight_ih_l0"], shapes["weight_ih_l1"]) == ((rows, 5), (rows, 14))
    assert (shapes["weight_hh_l1_reverse"], shapes["bias_hh_l1"]) == ((rows, 7), (rows,))
    initializers = {p.name.partition("_")[0].removeprefix("name."): str(p.initializer) for p in made}
    assert initializers == {"weight": "xavier_uniform", "bias": "zeros"}


@CELLS
def test_initializers_are_the_arguments(cell: str) -> None:
    made = graph(f"output y = x -> {cell}(7, weight_init=orthogonal, bias_init=constant(1))[0]").parameters
    assert {str(p.initializer) for p in made} == {"orthogonal(1)", "constant(1)"}


@CELLS
def test_macs_are_those_of_every_gate(cell: str) -> None:
    gates = GATES[cell]
    found = analyse(graph(f"output y = x -> {cell}(7, layers=2, bidirectional=true)[0]")).totals
    assert found["macs"] == 9 * 2 * gates * 7 * ((5 + 7) + (14 + 7))
    rest = found["flops"] - 2 * found["macs"]
    assert rest % (9 * 7 * 4) == 0 and 3 * gates < rest // (9 * 7 * 4) < 9 * gates


@CELLS
def test_rows_of_a_report_show_what_is_used(cell: str) -> None:
    (row,) = analyse(graph(f"output y = x -> {cell}(7, layers=2)[0]")).rows
    assert (row.op, [str(t) for t in row.outputs]) == (cell, ["float32[N, 9, 7]"])


@CELLS
def test_a_layer_in_one_direction_is_one_node(cell: str) -> None:
    made = graph(f"output y = x -> {cell}(7, layers=2, bidirectional=true)[0]")
    model = to_proto(made, WeightStore(made.parameters))
    kinds = Counter(n.op_type for n in model.graph.node)
    assert kinds[cell.upper()] == 4 and set(kinds) == {cell.upper(), "Transpose", "Squeeze", "Concat"}
    assert sorted(n.name for n in model.graph.node if n.op_type == cell.upper())[0] == f"{cell}/{cell.upper()}"


def program(cell: str, length: str = "L") -> str:
    return f"""
    network T {{
        input ids: int64[N, {length}]
        y, last = ids -> embedding(6, 5) -> {cell}(8, layers=2, bidirectional=true, dropout=0.1)
        output logits = y -> dense(6) as head
        output end = {"last[0] * last[1]" if cell == "lstm" else "last"}
    }}
    train T {{
        target next: int64[N, {length}]
        loss = cross_entropy(logits -> flatten(0, 1), next -> flatten(0)) + mean(end * end) * 0.01
        optimizer = adam(0.01)
    }}
    """


def counting(length: int, items: int = 6) -> Arrays:
    """Ids that count up from anywhere."""
    ids = (np.random.default_rng(0).integers(0, 6, (items, 1)) + np.arange(length + 1)) % 6
    return {"ids": ids[:, :-1], "next": ids[:, 1:]}


@CELLS
def test_training_is_scans_around_matrix_products(cell: str) -> None:
    step = run_passes(step_of(program(cell)).graph, TRAINING, RewriteLog())
    model = to_proto(step, WeightStore(()))
    onnx.checker.check_model(model, full_check=True)
    kinds = Counter(n.op_type for n in model.graph.node)
    assert kinds["Scan"] == 8 and kinds[cell.upper()] == 0


@CELLS
def test_learns_at_any_length(cell: str) -> None:
    """By ONNX Runtime; its first loss is that of the NumPy rules."""
    step = step_of(program(cell))
    runner, reference = Runner(runtime=True), Runner(runtime=False)
    one, two = (r.run(step, counting(5), rate=0.0)["loss"] for r in (runner, reference))
    np.testing.assert_allclose(one, two, rtol=1e-5)
    losses = [float(runner.run(step, counting(length), rate=0.02)["loss"]) for length in (5, 9, 1, 7) * 8]
    assert losses[-4] < 0.35 * losses[0]


@CELLS
@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_learns_in_16_bits(cell: str, precision: str) -> None:
    step = step_of(program(cell, "6"), precision=precision)
    inner = [n for n in step.graph.nodes if n.op.name == f"{cell}_steps"]
    assert inner and all(v.dtype is DType[precision] for n in inner for v in n.inputs)
    runner = Runner(runtime=True)
    losses = [float(runner.run(step, counting(6), rate=0.02)["loss"]) for _ in range(30)]
    assert losses[-1] < 0.35 * losses[0]
