"""16-bit models: weights and arithmetic narrow, borders float32."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from netdsl.ir.initializer import Initializer
from netdsl.ir.types import Array, DType
from netdsl.ir.verify import verify
from netdsl.onnx.export import to_proto
from netdsl.onnx.precision import to_precision
from netdsl.ops.arithmetic import Add, Mul
from netdsl.ops.constant import Constant
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.weights import ConstantEvaluator, WeightStore
from tests.onnx.graphs import Net, small_net, tensor

NARROW = [DType.float16, DType.bfloat16]
IMAGE = np.random.default_rng(0).standard_normal((2, 3, 16, 8)).astype(np.float32)


@pytest.mark.parametrize("dtype", NARROW)
def test_borders_stay_and_weights_narrow(dtype):
    graph = small_net()
    narrow = to_precision(graph, dtype)
    verify(narrow)
    assert [v.type for v in narrow.inputs] == [v.type for v in graph.inputs]
    assert [o.value.type for o in narrow.outputs] == [o.value.type for o in graph.outputs]
    assert [p.name for p in narrow.parameters] == [p.name for p in graph.parameters]
    assert {p.value.dtype for p in narrow.parameters} == {dtype}
    model = to_proto(narrow, WeightStore(graph.parameters))
    onnx.checker.check_model(model, full_check=True)


def test_the_file_is_half_as_large():
    net = Net(x=tensor("float32", "N", 3, 8, 8))
    graph = net.graph(y=net("conv", net.inputs[0], 200, 5))
    store = WeightStore(graph.parameters)
    wide = to_proto(graph, store).ByteSize()
    for dtype in NARROW:
        narrow = to_proto(to_precision(graph, dtype), store)
        assert narrow.ByteSize() < 0.55 * wide
        assert next(t.name for t in narrow.graph.initializer) == "conv.weight"


@pytest.mark.parametrize(("dtype", "tolerance"), [(DType.float16, 5e-3), (DType.bfloat16, 5e-2)])
def test_computes_nearly_the_same(dtype, tolerance):
    graph = small_net()
    store = WeightStore(graph.parameters).perturbed()
    wide = interpret(graph, {"image": IMAGE}, store)["logits"]
    narrow = interpret(to_precision(graph, dtype), {"image": IMAGE}, store)["logits"]
    assert narrow.dtype == np.float32
    assert 0 < np.abs(narrow - wide).max() < tolerance * np.abs(wide).max()


def test_float16_runs_on_the_cpu():
    graph = small_net()
    store = WeightStore(graph.parameters).perturbed()
    model = to_proto(to_precision(graph, DType.float16), store)
    found = Session(model.SerializeToString(), "cpu").run({"image": IMAGE})["logits"]
    np.testing.assert_allclose(found, interpret(graph, {"image": IMAGE}, store)["logits"], atol=1e-2)


@pytest.mark.parametrize("dtype", NARROW)
def test_folded_weights_are_rounded_once(dtype):
    """The parameter stays float32 in the arithmetic; its sum is rounded to 16 bits, not its parts."""
    net = Net(x=tensor("float32", "N", 500))
    a, b = (net.builder.parameter(n, (500,), Initializer("normal")).value for n in "ab")
    product = net.builder.emit(Mul(), a, b, path="product")
    graph = net.graph(y=net.builder.emit(Add(), net.inputs[0], product), z=net.builder.emit(Add(), net.inputs[0], a))
    narrow = to_precision(graph, dtype)
    verify(narrow)
    store = WeightStore(graph.parameters)
    exact = store.array(graph.parameters[0]).astype(np.float64) * store.array(graph.parameters[1])
    (added,) = [n for n in narrow.nodes if n.path == "add" and "product" in n.inputs[1].name]
    found = ConstantEvaluator(narrow, store).array(added.inputs[1])
    assert np.array_equal(found, exact.astype(dtype.numpy))


def test_integers_booleans_and_doubles_are_left_alone():
    net = Net(i=tensor("int64", "N"), d=tensor("float64", "N"), c=tensor("bool", "N"))
    i, d, c = net.inputs
    two = net.builder.emit(Constant(Array(np.array(2.0))))
    graph = net.graph(a=net.builder.emit(Mul(), d, two), b=net("where", c, i, 1))
    narrow = to_precision(graph, DType.float16)
    verify(narrow)
    assert [n.op.name for n in narrow.nodes] == [n.op.name for n in graph.nodes]
    assert [o.value.type for o in narrow.outputs] == [o.value.type for o in graph.outputs]


def test_a_cast_to_float32_becomes_one_to_the_narrow_type():
    net = Net(i=tensor("int64", "N"))
    graph = net.graph(y=net("relu", net("cast", net.inputs[0], DType.float32)))
    narrow = to_precision(graph, DType.float16)
    verify(narrow)
    assert [str(n.outputs[0].dtype) for n in narrow.nodes] == ["float16", "float16", "float32"]


def test_outputs_that_are_inputs_or_weights_stay():
    net = Net(x=tensor("float32", "N"))
    weight = net.builder.parameter("w", (3,), Initializer("normal")).value
    graph = net.graph(a=net.inputs[0], b=weight)
    narrow = to_precision(graph, DType.bfloat16)
    assert [o.value.type for o in narrow.outputs] == [o.value.type for o in graph.outputs]


def test_float32_is_the_graph_itself_and_others_are_refused():
    graph = small_net()
    assert to_precision(graph, DType.float32) is graph
    with pytest.raises(ValueError, match="float16 or bfloat16"):
        to_precision(graph, DType.float64)
