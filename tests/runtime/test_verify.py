"""The interpreter, random inputs, and the comparison of graphs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from netdsl.elaborate import elaborate
from netdsl.ir.build import GraphBuilder
from netdsl.ir.graph import Graph, Output
from netdsl.ir.types import DType
from netdsl.onnx.precision import to_precision
from netdsl.ops.arithmetic import Add
from netdsl.ops.batch_norm import BatchNorm
from netdsl.passes.pipelines import optimize
from netdsl.runtime.interpret import interpret
from netdsl.runtime.samples import choose_symbols, random_inputs
from netdsl.runtime.verify import compare
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.elaborate.helpers import graph_of
from tests.onnx.graphs import Net, small_net, tensor


def without(graph: Graph, kind: type) -> Graph:
    """The graph with nodes of an operator taken out: a wrong rewrite."""
    dead = [n for n in graph.nodes if isinstance(n.op, kind)]
    stands = {n.output: n.inputs[0] for n in dead}
    nodes = tuple(replace(n, inputs=tuple(stands.get(v, v) for v in n.inputs)) for n in graph.nodes if n not in dead)
    return replace(graph, nodes=nodes)


@pytest.mark.parametrize("runtime", [True, False])
def test_equal_graphs(runtime):
    graph = small_net()
    found = compare(graph, graph, WeightStore(graph.parameters), runtime=runtime)
    assert found.ok
    assert found.worst.absolute == 0
    assert found.sizes["N"] == 2
    assert ("ONNX Runtime" if runtime else "the NumPy rules") in str(found)
    assert "tolerance 0.0001" in str(found)


def test_a_lost_batch_norm_is_seen_though_a_fresh_one_does_nothing():
    graph = small_net()
    wrong = without(graph, BatchNorm)
    image = random_inputs(graph, {"N": 1, "h": 1, "w": 1})
    store = WeightStore(graph.parameters)
    fresh, lost = (interpret(g, image, store)["logits"] for g in (graph, wrong))
    np.testing.assert_allclose(fresh, lost, rtol=1e-3, atol=1e-4)
    found = compare(graph, wrong, store)
    assert not found.ok
    assert found.worst.relative > 0.01


def amplifying(total: str) -> Graph:
    """What is left of rounding when terms cancel, times 10^7; `total` is x + 2."""
    return graph_of(f"network Net {{ input x: float32[N, 64]\noutput y = x + (({total}) - x - 2.0) * 1e7 }}")


def test_rounding_that_the_network_amplifies_is_told_from_a_wrong_rewrite():
    """Both graphs are far from each other in float32. In float64 one pair agrees."""
    before, after, wrong = map(amplifying, ("x + 1.7 + 0.3", "x + 0.3 + 1.7", "x + 0.3 + 1.7001"))
    found = compare(before, after, WeightStore(()))
    assert found.worst.relative > 1e-2 and found.ok
    assert "by rounding, which the network amplifies: in float64 by" in str(found)
    assert not compare(before, wrong, WeightStore(())).ok
    assert not compare(before, after, WeightStore(()), tolerance=1e-4).ok  # one's own tolerance is meant so


def test_a_rewrite_that_loses_digits_is_wrong_though_exact_in_float64():
    before, after = (
        graph_of(f"network Net {{ input x: float32[N, 64]\noutput y = {body} }}")
        for body in ("x * 1.5", "(x + 1e4) * 1.5 - 15000")
    )
    found = compare(before, after, WeightStore(()))
    assert not found.ok and found.worst.relative < 1e-2


def test_a_tolerance_of_ones_own():
    graph = small_net()
    assert compare(graph, without(graph, BatchNorm), WeightStore(graph.parameters), tolerance=10).ok


def test_not_a_number_counts():
    net = Net(x=tensor("float32", "N", 3))
    x = net.inputs[0]
    logs, plain = net("log", x), net("relu", x)
    graph = net.graph(y=logs)
    assert compare(graph, graph, WeightStore(())).ok  # NaN on both sides
    assert not compare(graph, replace(graph, outputs=(Output("y", plain),)), WeightStore(())).ok


def test_integers_must_be_equal():
    net = Net(x=tensor("int64", "N", 3))
    x = net.inputs[0]
    one = net("add", x, 1)
    graph = net.graph(y=one)
    other = replace(graph, outputs=(Output("y", x),))
    assert compare(graph, graph, WeightStore(())).ok
    assert not compare(graph, other, WeightStore(())).ok


def test_sizes_are_large_enough_for_every_layer():
    net = Net(x=tensor("float32", "N", 2, "H", "W"))
    x = net.inputs[0]
    for i in range(3):
        x = net("conv", x, 2, 3, stride=2, path=f"conv_{i}")
    graph = net.graph(y=x)
    env = choose_symbols([graph])
    assert env["N"] == 2
    assert env["H"] != env["W"]
    assert min(env["H"], env["W"]) >= 15
    assert compare(graph, graph, WeightStore(graph.parameters)).ok


def test_sizes_that_no_value_fits():
    net = Net(x=tensor("float32", "H - 1000"))
    with pytest.raises(ValueError, match="--set"):
        choose_symbols([net.graph(y=net.inputs[0])])


def test_random_inputs_are_of_the_inputs_types():
    net = Net(f=tensor("bfloat16", "N"), i=tensor("int8", 3), c=tensor("bool", 2, "N"), s=tensor("float32"))
    graph = net.graph(**{v.name + "_": v for v in net.inputs})
    found = random_inputs(graph, {"N": 4})
    assert {n: (str(a.dtype), a.shape) for n, a in found.items()} == {
        "f": ("bfloat16", (4,)),
        "i": ("int8", (3,)),
        "c": ("bool", (2, 4)),
        "s": ("float32", ()),
    }
    assert all(np.array_equal(a, random_inputs(graph, {"N": 4})[n]) for n, a in found.items())


def test_interpreter_drops_arrays_after_their_last_use():
    builder = GraphBuilder("g")
    x = value = builder.input("x", tensor("float32", 1 << 18))  # 1 MB
    for _ in range(50):
        value = builder.emit(Add(), value, x)
    builder.output("y", value)
    graph = builder.finish()
    array = np.ones(1 << 18, np.float32)
    tracemalloc.start()
    found = interpret(graph, {"x": array}, WeightStore(()))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["y"][0] == 51
    assert peak < 5 << 20


def test_interpreter_checks_its_inputs():
    graph = small_net()
    with pytest.raises(ValueError, match="missing input 'image'"):
        interpret(graph, {}, WeightStore(graph.parameters))


def test_float16_has_a_wider_tolerance():
    net = Net(x=tensor("float16", "N", 5))
    graph = net.graph(y=net("exp", net.inputs[0]))
    assert compare(graph, graph, WeightStore(())).worst.tolerance > 1e-3
    assert graph.outputs[0].value.dtype is DType.float16


def detector(scale: float) -> Graph:
    """Boxes kept by scores of which many are all but equal; `scale` changes them a little."""
    source = f"""network T {{
        input boxes: float32[1, 200, 4]
        input scores: float32[1, 1, 200]
        chosen = non_max_suppression(boxes, 1 + {scale} * scores)
        output kept = boxes[0] -> gather(chosen[:, 2])
    }}"""
    return elaborate(SourceFile("t.net", source)).graph


@pytest.mark.parametrize("runtime", [True, False])
def test_a_selection_may_hang_on_the_last_bit_of_a_score(runtime):
    one, other = detector(1e-6), detector(-1e-6)
    arrays = random_inputs(one, {})
    kept = [interpret(g, arrays, WeightStore(()))["kept"] for g in (one, other)]
    assert kept[0].shape != kept[1].shape or not np.allclose(*kept)
    found = compare(one, other, WeightStore(()), runtime=runtime)
    assert found.ok
    operands = [f"non_max_suppression/operand {i}" for i in (0, 1)]
    assert [d.output for d in found.differences] == ["kept", *operands]
    assert not compare(one, detector(1.0), WeightStore(()), runtime=runtime).ok


@pytest.mark.parametrize("runtime", [True, False])
def test_a_deep_network_stays_small_enough_to_compare(runtime):
    """Sums over 60 units grow by a factor of thousands with statistics that do not fit, and the exponential of that is
    infinite."""
    source = """network T {
        input x: float32[N, 4, 3, 5]
        repeat 60 { x = x + (x -> conv(4, 3, padding=1, bias=false) -> batch_norm) }
        output y = exp(x)
    }"""
    graph = elaborate(SourceFile("t.net", source)).graph
    store = WeightStore(graph.parameters)
    found = compare(graph, optimize(graph), store, runtime=runtime)
    assert found.ok
    assert np.isfinite(found.worst.absolute) and found.worst.relative > 0
    assert not compare(graph, without(graph, BatchNorm), store, runtime=runtime).ok


def test_a_selection_in_another_precision():
    graph = detector(1.0)
    narrow = to_precision(graph, DType.float16)
    store = WeightStore(graph.parameters)
    found = compare(graph, narrow, store, tolerance=2e-2)
    assert found.ok
    assert found.worst.relative > 1e-5
    assert not compare(graph, to_precision(detector(2.0), DType.float16), store, tolerance=2e-2).ok
