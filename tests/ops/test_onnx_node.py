"""Operators of ONNX that pass through: types, ONNX Runtime against ONNX's own reference, text, refusals."""

from __future__ import annotations

import numpy as np
import pytest

from netdsl.autodiff.backward import backward
from netdsl.autodiff.extend import Extension
from netdsl.diagnostics import DiagnosticError
from netdsl.elaborate import elaborate
from netdsl.ir.graph import Graph
from netdsl.ir.text import graphs_equal, parse_graph, print_graph
from netdsl.ir.types import DType
from netdsl.ir.verify import verify
from netdsl.onnx.export import to_proto
from netdsl.onnx.precision import to_precision
from netdsl.ops import PRIMITIVES
from netdsl.ops.onnx_schema import OPERATORS_ON_GRAPHS, definition, operator_names
from netdsl.passes.common import CommonSubexpressions
from netdsl.passes.log import RewriteLog
from netdsl.report.formats import conventions
from netdsl.report.model import analyse
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.ops.harness import Case, check_case

X = "input x: float32[N, 3, H, 8*w] "
ALL = (17, 21, 26)

#: what a program says, the opsets, and the type of the result
CALLS: dict[str, tuple[str, tuple[int, ...], str]] = {
    "elementwise": ("x -> onnx.HardSwish", ALL, "float32[N, 3, H, 8*w]"),
    "attribute": ("x -> onnx.Celu(alpha=2.0)", ALL, "float32[N, 3, H, 8*w]"),
    "window": (
        "onnx.MaxPool(x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])",
        ALL,
        "float32[N, 3, (H + 1)//2, 4*w]",
    ),
    "dilated": ("onnx.LpPool(x, kernel_shape=[3, 2])", ALL, "float32[N, 3, H - 2, 8*w - 1]"),
    "several_outputs": ("onnx.TopK(x, [2], axis=1)[1]", ALL, "int64[N, 2, H, 8*w]"),
    "more_outputs": ("onnx.Dropout(x, outputs=2)[1]", ALL, "bool[N, 3, H, 8*w]"),
    "absent_input": ("onnx.Clip(x, none, 0.5)", ALL, "float32[N, 3, H, 8*w]"),
    "type_of_the_operand": ("onnx.Mod(cast(x, float64), 2, fmod=1)", ALL, "float64[N, 3, H, 8*w]"),
    "constant_shape": ("onnx.Reshape(x, tensor([0, -1], dtype=int64))", ALL, "float32[N, 24*H*w]"),
    "to_a_scalar": ("onnx.Reshape(onnx.ReduceSum(x), [])", ALL, "float32[]"),
    "slice": ("onnx.Slice(x, [1], [-2], [3], [3])", ALL, "float32[N, 3, H, 3*w - w//3 - 1]"),
    "resize": ("onnx.Resize(x, none, [1, 1, 2, 0.5])", ALL, "float32[N, 3, 2*H, 4*w]"),
    "element_type": ("onnx.Cast(x, to=int32)", ALL, "int32[N, 3, H, 8*w]"),
    "tensor_attribute": ("x + onnx.ConstantOfShape([3, 1, 1], value=[1.5])", ALL, "float32[N, 3, H, 8*w]"),
    "variadic": ("onnx.Concat(x, x * 2, axis=2)", ALL, "float32[N, 3, 2*H, 8*w]"),
    "split": ("onnx.Split(x, [1, 2], axis=1)[1]", ALL, "float32[N, 2, H, 8*w]"),
    "split_evenly": ("onnx.Split(x, axis=3, num_outputs=2)[0]", (18, 26), "float32[N, 3, H, 4*w]"),
    "newer": ("onnx.RMSNormalization(x, [2.0], axis=-1)", (23, 26), "float32[N, 3, H, 8*w]"),
}


def _graph(body: str) -> Graph:
    return elaborate(SourceFile("t.net", f"network T {{ {body} }}")).graph


@pytest.mark.parametrize("name", CALLS)
def test_runs_as_onnx_says(name: str) -> None:
    call, opsets, type = CALLS[name]
    source = f"{X} output y = {call}"
    assert str(_graph(source).outputs[0].value.type) == type
    check_case(Case(name, source, {"x": (2, 3, 7, 16)}, opsets=opsets))


@pytest.mark.parametrize("name", CALLS)
def test_text_reads_back(name: str) -> None:
    graph = _graph(f"{X} output y = {CALLS[name][0]}")
    again = parse_graph(print_graph(graph), PRIMITIVES)
    assert graphs_equal(graph, again)
    verify(again, PRIMITIVES)


@pytest.mark.parametrize("name", operator_names())
def test_every_operator_has_a_signature_or_a_reason(name: str) -> None:
    try:
        found = definition(name)
    except Exception as reason:
        assert name in OPERATORS_ON_GRAPHS or "deprecated" in str(reason) or "of opset" in str(reason), reason
        return
    names = [p.name for p in found.signature]
    assert len(set(names)) == len(names)


def test_random_operators_stay_two() -> None:
    graph = _graph(
        f"{X} output y = onnx.RandomNormalLike(x) - onnx.RandomNormalLike(x) output z = onnx.Elu(x) + onnx.Elu(x)"
    )
    merged = CommonSubexpressions().run(graph, RewriteLog())
    kinds = [n.op.title for n in merged.nodes]
    assert kinds.count("onnx.RandomNormalLike") == 2
    assert kinds.count("onnx.Elu") == 1
    model = to_proto(graph, WeightStore(()), opset=21)
    assert [n.op_type for n in model.graph.node].count("RandomNormalLike") == 2


def test_paths_are_as_of_other_operators() -> None:
    graph = _graph(f"{X} output y = x -> onnx.Elu -> onnx.Elu -> onnx.Celu as last")
    assert [n.path for n in graph.nodes] == ["Elu", "Elu_2", "last"]


def test_an_opset_without_it_is_refused_with_the_one_that_has_it() -> None:
    for call, opset, words in (
        ("onnx.RMSNormalization(x, [2.0])", 22, ("opset 22 has no operator RMSNormalization", "--opset 23")),
        ("onnx.ReduceMean(x, [1])", 17, ("in opset 17 it takes 1 inputs, not 2", "--opset 18")),
        ('onnx.Cast(x, to=int32, round_mode="up")', 21, ("in opset 21 it has no attribute round_mode", "--opset")),
    ):
        graph = _graph(f"{X} output y = {call}")
        with pytest.raises(DiagnosticError) as caught:
            to_proto(graph, WeightStore(()), opset=opset)
        (found,) = caught.value.diagnostics
        assert found.span is not None
        assert words[0] in found.message
        assert words[1] in found.help[0]


def test_no_gradient() -> None:
    graph = _graph("input x: float32[N, 3] output y = x -> dense(2) -> onnx.Celu")
    extension = Extension(graph)
    seed = extension.constant(np.float32(1), DType.float32)
    with pytest.raises(DiagnosticError) as caught:
        backward(extension, graph.nodes, {graph.outputs[0].value: seed}, [p.value for p in graph.parameters])
    assert caught.value.diagnostics[0].message.startswith("onnx.Celu has no gradient, but the loss depends")


def test_the_report_says_what_it_does_not_count() -> None:
    report = analyse(_graph(f"{X} output y = x -> conv(4, 1) -> onnx.Celu"))
    assert report.rows[-1].op == "onnx.Celu"
    assert conventions(report)[-1] == "Not counted, since netdsl does not know their work: onnx.Celu."


def test_types_stay_in_a_model_of_16_bits() -> None:
    graph = _graph("input x: float32[N, 4] output y = x -> dense(4) -> onnx.Celu -> dense(2)")
    store = WeightStore(graph.parameters)
    model = to_proto(to_precision(graph, DType.float16), store, opset=21)
    x = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    found = Session(model.SerializeToString(), "cpu", threads=1).run({"x": x})["y"]
    np.testing.assert_allclose(found, interpret(graph, {"x": x}, store)["y"], atol=2e-2)


def test_numbers_must_fit_the_operand() -> None:
    with pytest.raises(DiagnosticError) as caught:
        _graph("input x: uint8[N] output y = onnx.Add(x, 300)")
    assert "B is uint8, which does not hold the numbers" in caught.value.diagnostics[0].message
