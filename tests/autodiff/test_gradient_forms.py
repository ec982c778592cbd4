"""The ONNX forms of convolutions with trained weights and of gradients: each against the NumPy rule, and which is
picked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest

from netdsl.autodiff.backward import backward
from netdsl.autodiff.extend import Extension
from netdsl.autodiff.training_mode import to_training
from netdsl.elaborate import elaborate
from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim, symbol
from netdsl.ir.graph import Graph, Output, Value
from netdsl.ir.opdef import Primitive, ShapeError, Target
from netdsl.ir.types import Array, DType, NDArrayAny, TensorType
from netdsl.onnx.export import to_proto
from netdsl.ops import convolution, convolution_blocked, convolution_gradient, transposed
from netdsl.ops.arithmetic import Mul
from netdsl.ops.batch_statistics import BatchNormGradient, BatchNormTraining
from netdsl.ops.constant import Constant
from netdsl.ops.convolution import Conv
from netdsl.ops.convolution_cost import Form, Geometry, choose, geometry, seconds
from netdsl.ops.convolution_forms import FORWARD, INPUT
from netdsl.ops.convolution_gradient import ConvInputGradient, ConvWeightGradient
from netdsl.ops.convolution_weight_forms import WEIGHT
from netdsl.ops.gather import AddRows
from netdsl.ops.gelu_gradient import GeluGradient
from netdsl.ops.normalisation import LayerNormTraining
from netdsl.ops.pooling import MaxPool
from netdsl.ops.pooling_gradient import MaxPoolGradient
from netdsl.ops.rectifier import RectifierGradient
from netdsl.ops.shape import Reshape
from netdsl.ops.transposed import ConvTranspose
from netdsl.runtime.blocked_layout import channel_block
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.source import SourceFile
from netdsl.weights import WeightStore
from tests.autodiff.checking import as_float64, check_gradient, check_gradient_form

FORMS = {"forward": FORWARD, "input": INPUT, "weight": WEIGHT}

#: a session that netdsl opens itself, where ONNX Runtime has a layout of its own
OWN_LAYOUT = Target(block=channel_block())

#: size, kernel, stride, dilation, padding, channels, outputs, groups
GEOMETRIES: dict[str, tuple[Any, ...]] = {
    "plain": ((6, 7), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)), 4, 5, 1),
    "three": ((7, 6), (3, 3), (1, 1), (1, 1), ((1, 2), (0, 3)), 4, 5, 1),
    "three_far": ((2, 3), (3, 3), (1, 1), (1, 1), ((2, 0), (3, 4)), 2, 3, 1),
    "strided": ((7, 9), (3, 3), (2, 3), (1, 1), ((1, 1), (1, 1)), 3, 4, 1),
    "rest": ((8, 9), (3, 2), (2, 2), (1, 1), ((0, 1), (0, 0)), 3, 4, 1),
    "dilated": ((8, 9), (3, 2), (1, 2), (2, 3), ((2, 0), (1, 2)), 2, 3, 1),
    "pointwise": ((4, 5), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), 6, 3, 1),
    "skipping": ((5, 6), (1, 1), (2, 2), (1, 1), ((0, 0), (0, 0)), 3, 2, 1),
    "grouped": ((6, 5), (2, 3), (1, 1), (1, 1), ((1, 0), (1, 1)), 4, 6, 2),
    "depthwise": ((6, 7), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)), 5, 5, 5),
    "depthwise_strided": ((7, 8), (3, 3), (2, 3), (1, 1), ((1, 1), (1, 0)), 5, 5, 5),
    "depthwise_dilated": ((9, 8), (2, 3), (2, 1), (3, 2), ((0, 1), (2, 2)), 5, 5, 5),
    "depthwise_wide": ((5, 4), (3, 3), (1, 1), (1, 1), ((3, 4), (4, 3)), 5, 5, 5),
    "blocks": ((6, 7), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)), 20, 36, 1),
    "blocks_full": ((6, 7), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)), 16, 32, 1),
    "blocks_strided": ((7, 9), (3, 3), (2, 3), (1, 1), ((1, 1), (1, 0)), 32, 16, 1),
    "blocks_dilated": ((8, 9), (3, 2), (1, 1), (2, 3), ((2, 0), (1, 2)), 16, 20, 1),
    "blocks_of_few": ((6, 7), (3, 3), (1, 1), (1, 1), ((1, 1), (1, 1)), 3, 8, 1),
    "blocks_pointwise": ((4, 5), (1, 1), (1, 1), (1, 1), ((0, 0), (0, 0)), 24, 16, 1),
    "blocks_depthwise": ((6, 7), (3, 2), (1, 1), (1, 1), ((1, 1), (0, 1)), 20, 20, 20),
    "line": ((9,), (4,), (2,), (1,), ((1, 2),), 3, 4, 1),
    "volume": ((4, 5, 3), (2, 3, 2), (1, 2, 1), (1, 1, 1), ((1, 0), (1, 1), (0, 1)), 2, 3, 1),
}


def make(name: str, kind: str, batch: Dim = 3) -> tuple[Graph, Geometry]:
    """A graph of one convolution, or of one of its gradients, with all operands as inputs."""
    size, kernel, stride, dilation, padding, channels, outputs, groups = GEOMETRIES[name]
    op = Conv(stride, padding, dilation, groups)
    x = TensorType(DType.float32, (batch, channels, *size))
    w = TensorType(DType.float32, (outputs, channels // groups, *kernel))
    y = op.infer(x, w)
    builder = GraphBuilder(kind)
    ops: dict[str, tuple[Primitive, Sequence[tuple[str, TensorType]]]] = {
        "forward": (op, (("x", x), ("w", w))),
        "input": (ConvInputGradient(stride, padding, dilation, groups, size), (("dy", y), ("w", w))),
        "weight": (ConvWeightGradient(stride, padding, dilation, groups, kernel), (("x", x), ("dy", y))),
    }
    chosen, operands = ops[kind]
    builder.output("result", builder.emit(chosen, *(builder.input(n, t) for n, t in operands)))
    return builder.finish(), geometry(x, w, y, stride, padding, dilation, groups, OWN_LAYOUT)


def drawn(graph: Graph, batch: int = 3) -> dict[str, NDArrayAny]:
    rng = np.random.default_rng(0)
    shapes = {v.name: [d if isinstance(d, int) else batch for d in v.shape] for v in graph.inputs}
    return {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}


def run(
    graph: Graph,
    arrays: dict[str, NDArrayAny],
    opset: int = 21,
    target: Target = Target(),  # noqa: B008
    threads: int = 1,
) -> NDArrayAny:
    model = to_proto(graph, WeightStore([]), opset=opset, target=target)
    if not target.block:
        onnx.checker.check_model(model, full_check=True)
        assert {o.domain for o in model.opset_import} == {""}
    return Session(model.SerializeToString(), "cpu", threads=threads).run(arrays)["result"]


def force(monkeypatch: pytest.MonkeyPatch, form: Form) -> None:
    for module in (convolution, convolution_gradient, transposed):
        monkeypatch.setattr(module, "choose", lambda forms, g, target, others=None: form)


CASES = [(n, k, f) for n, k in product(GEOMETRIES, FORMS) for f in FORMS[k] if f.applies(make(n, k)[1])]


@pytest.mark.parametrize("name, kind, form", CASES, ids=[f"{n}-{k}-{f.name}" for n, k, f in CASES])
def test_form_equals_the_numpy_rule(monkeypatch: pytest.MonkeyPatch, name: str, kind: str, form: Form) -> None:
    force(monkeypatch, form)
    target = OWN_LAYOUT if form.name == "blocked" else Target()
    for batch, opset, threads in ((3, 21, 1), (symbol("N"), 17, 2), (symbol("N"), 26, 1)):
        graph, _ = make(name, kind, batch)
        arrays = drawn(graph)
        expected = interpret(graph, arrays, WeightStore([]))["result"]
        np.testing.assert_allclose(run(graph, arrays, opset, target, threads), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["blocks_full", "blocks_strided"])
@pytest.mark.parametrize("batch", [16, 17, 32])
def test_images_that_fill_blocks_and_images_that_do_not(monkeypatch: pytest.MonkeyPatch, name: str, batch: int) -> None:
    """The model finds out: the batch is a symbol in it."""
    if not OWN_LAYOUT.block:
        pytest.skip("ONNX Runtime has no layout of its own here")
    force(monkeypatch, next(form for form in WEIGHT if form.name == "blocked"))
    graph, _ = make(name, "weight", symbol("N"))
    arrays = drawn(graph, batch)
    expected = interpret(graph, arrays, WeightStore([]))["result"]
    np.testing.assert_allclose(run(graph, arrays, 21, OWN_LAYOUT), expected, rtol=1e-4, atol=2e-4)


LAST = [
    (name, form)
    for name, form in product(("plain", "strided", "blocks", "blocks_dilated"), WEIGHT)
    if form.name in {"last", "joined", "wide"} and form.applies(make(name, "weight")[1])
]


@pytest.mark.parametrize("kept", [0, 1 << 20], ids=["again", "kept"])
@pytest.mark.parametrize("name, form", LAST, ids=[f"{n}-{f.name}" for n, f in LAST])
def test_channels_go_last_by_way_of_blocks(monkeypatch: pytest.MonkeyPatch, name: str, form: Form, kept: int) -> None:
    """On several threads; with all channels in one block, with some, and where there is no way."""
    force(monkeypatch, form)
    monkeypatch.setattr(convolution_blocked, "KEPT", kept)
    graph, _ = make(name, "weight", symbol("N"))
    arrays = drawn(graph)
    expected = interpret(graph, arrays, WeightStore([]))["result"]
    target = replace(OWN_LAYOUT, threads=2)
    np.testing.assert_allclose(run(graph, arrays, 21, target, 2), expected, rtol=1e-4, atol=1e-4)


TRANSPOSED = {  # stride, padding, output padding, dilation
    "apart": ((2, 2), ((0, 0), (0, 0)), (0, 0), (1, 1)),
    "overlapping": ((1, 2), ((1, 0), (1, 1)), (0, 1), (2, 1)),
    "dense": ((1, 1), ((1, 0), (0, 1)), (0, 0), (1, 1)),
    "out of reach": ((1, 1), ((1, 0), (0, 1)), (1, 0), (2, 1)),
}
TRANSPOSED_CASES = [
    (name, form)
    for name, form in product(TRANSPOSED, INPUT)
    if form.name in {"native", "turned", "merged", "columns", "positions", "blocked"}
    and (form.name != "blocked" or OWN_LAYOUT.block)
    and (name, form.name) != ("out of reach", "native")  # ONNX Runtime's ConvTranspose does not take it
    and (form.name not in {"turned", "merged", "blocked"} or TRANSPOSED[name][0] == (1, 1))
]


@pytest.mark.parametrize("name, form", TRANSPOSED_CASES, ids=[f"{n}-{f.name}" for n, f in TRANSPOSED_CASES])
def test_transposed_convolution_with_a_trained_weight(monkeypatch: pytest.MonkeyPatch, name: str, form: Form) -> None:
    """The input's gradient of a convolution by another name, with a bias."""
    force(monkeypatch, form)
    builder = GraphBuilder("grow")
    x = builder.input("x", TensorType(DType.float32, (symbol("N"), 5, 3, 4)))
    w, b = (builder.input(n, TensorType(DType.float32, s)) for n, s in (("w", (5, 4, 2, 2)), ("b", (4,))))
    builder.output("result", builder.emit(ConvTranspose(*TRANSPOSED[name]), x, w, b))
    graph = builder.finish()
    arrays = drawn(graph)
    expected = interpret(graph, arrays, WeightStore([]))["result"]
    target = OWN_LAYOUT if form.name == "blocked" else Target()
    for opset in (17, 26):
        np.testing.assert_allclose(run(graph, arrays, opset, target), expected, rtol=1e-4, atol=1e-4)


def test_a_transposed_convolution_of_small_maps_reads_its_weight_once() -> None:
    """Where the weight is trained: a constant one stays with ConvTranspose."""

    def kinds(constant: bool) -> set[str]:
        builder = GraphBuilder("grow")
        x = builder.input("x", TensorType(DType.float32, (4, 512, 4, 4)))
        shape = (512, 256, 2, 2)
        constant_weight = builder.emit(convolution_constant(shape)) if constant else None
        w = constant_weight or builder.input("w", TensorType(DType.float32, shape))
        builder.output("result", builder.emit(ConvTranspose(*TRANSPOSED["apart"]), x, w))
        return {n.op_type for n in to_proto(builder.finish(), WeightStore([])).graph.node}

    assert kinds(constant=True) == {"ConvTranspose"}
    assert "ConvTranspose" not in kinds(constant=False)


def test_every_form_is_tried() -> None:
    tried = {(kind, form.name) for _, kind, form in CASES}
    every = {(kind, form.name) for kind, forms in FORMS.items() for form in forms}
    assert tried == {(kind, name) for kind, name in every if name != "blocked" or OWN_LAYOUT.block}


def of(
    channels: int, outputs: int, size: int, kernel: int, groups: int = 1, stride: int = 1, images: int = 32
) -> Geometry:
    pad = ((kernel // 2, kernel // 2),) * 2
    op = Conv((stride, stride), pad, (1, 1), groups)
    x = TensorType(DType.float32, (images, channels, size, size))
    w = TensorType(DType.float32, (outputs, channels // groups, kernel, kernel))
    return geometry(x, w, op.infer(x, w), op.stride, op.padding, op.dilation, groups, Target())


PICKED = {
    "depthwise, tiny maps": (of(960, 960, 2, 3, 960), ("band", "band", "band")),
    "depthwise, larger maps": (of(32, 32, 16, 3, 32), ("native", "turned", "tiled")),
    "depthwise, strided": (of(144, 144, 32, 3, 144, 2), ("native", "native", "tiled")),
    "dense": (of(32, 32, 16, 3), ("turned", "native", "wide")),
    "dense, many channels": (of(64, 64, 8, 3), ("winograd", "winograd", "winograd")),
    "few channels": (of(3, 16, 32, 3), ("native", "native", "wide")),
    "pointwise": (of(192, 32, 8, 1), ("native", "turned", "batched_left")),
    "large weight, tiny maps": (of(1024, 1024, 4, 3, images=4), ("columns", "columns", "columns")),
    "large weight, small maps": (of(512, 512, 8, 3, images=4), ("native", "positions", "wide")),
    "pointwise, small maps": (of(320, 1280, 4, 1), ("native", "turned", "last")),
    "pointwise, tiny maps": (of(960, 160, 2, 1), ("merged", "merged", "last")),
}


BLOCKS_PICKED = {
    "depthwise, larger maps": ("blocked", "blocked", "tiled"),
    "depthwise, strided": ("blocked", "native", "tiled"),
    "dense": ("blocked", "blocked", "blocked"),
    "few channels": ("blocked", "native", "wide"),
    "pointwise": ("native", "turned", "batched_left"),
    "large weight, tiny maps": ("columns", "columns", "columns"),
    "large weight, small maps": ("native", "positions", "wide"),
}


@pytest.mark.parametrize("name", BLOCKS_PICKED)
def test_the_layout_of_blocks_is_picked_where_it_is_fast(name: str) -> None:
    g = replace(PICKED[name][0], block=16)
    assert tuple(form.name for form in picked(g).values()) == BLOCKS_PICKED[name]


def picked(g: Geometry) -> dict[str, Form]:
    found = {kind: choose(FORMS[kind], g, Target()) for kind in ("forward", "input")}
    return {**found, "weight": choose(WEIGHT, g, Target(), found)}


@pytest.mark.parametrize("name", PICKED)
def test_the_model_picks_what_was_measured_to_be_fast(name: str) -> None:
    g, expected = PICKED[name]
    assert tuple(form.name for form in picked(g).values()) == expected


@pytest.mark.parametrize("form", [f for f in WEIGHT if f.name in {"swapped", "wide", "volume"}], ids=lambda f: f.name)
def test_padding_behind_the_last_window_is_left_out(monkeypatch: pytest.MonkeyPatch, form: Form) -> None:
    """Else each axis of the kernel would be found one longer, and cut."""
    force(monkeypatch, form)
    builder = GraphBuilder("strided")
    x = builder.input("x", TensorType(DType.float32, (2, 3, 8, 8)))
    dy = builder.input("dy", TensorType(DType.float32, (2, 4, 4, 4)))
    gradient = ConvWeightGradient((2, 2), ((1, 1), (1, 1)), (1, 1), 1, (3, 3))
    builder.output("result", builder.emit(gradient, x, dy))
    assert "Slice" not in {n.op_type for n in to_proto(builder.finish(), WeightStore([])).graph.node}


def test_tiles_are_for_maps_whose_mask_is_small() -> None:
    (tiled,) = (form for form in WEIGHT if form.name == "tiled")
    assert tiled.applies(of(32, 32, 112, 3, 32)) and not tiled.applies(of(32, 32, 224, 3, 32))


def test_a_gpu_takes_the_native_operators() -> None:
    g = of(960, 960, 2, 3, 960)
    assert [choose(f, g, Target("cuda")).name for f in (FORWARD, INPUT)] == ["native", "native"]


def test_threads_share_the_work_but_not_the_nodes() -> None:
    work = WEIGHT[0].work(of(64, 64, 8, 3))
    one, two = (seconds(work, Target(threads=n)) for n in (1, 2))
    assert one / 2 < two < one


def test_a_constant_weight_stays_with_conv() -> None:
    builder = GraphBuilder("constant")
    x = builder.input("x", TensorType(DType.float32, (32, 960, 2, 2)))
    w = builder.emit(convolution_constant((960, 1, 3, 3)))
    builder.output("result", builder.emit(Conv((1, 1), ((1, 1), (1, 1)), (1, 1), 960), x, w))
    model = to_proto(builder.finish(), WeightStore([]))
    assert [n.op_type for n in model.graph.node] == ["Conv"]


def convolution_constant(shape: tuple[int, ...]) -> Primitive:
    return Constant(Array(np.ones(shape, np.float32)))


def test_both_gradients_share_what_they_compute_alike() -> None:
    """The forward and the input's gradient use one matrix, both gradients one transposed result's gradient."""
    builder = GraphBuilder("both")
    op = Conv((1, 1), ((1, 1), (1, 1)), (1, 1), 960)
    x = builder.input("x", TensorType(DType.float32, (32, 960, 2, 2)))
    w = builder.input("w", TensorType(DType.float32, (960, 1, 3, 3)))
    dy = builder.input("dy", x.type)
    builder.output("y", builder.emit(op, x, w))
    window = (op.stride, op.padding, op.dilation, op.groups)
    builder.output("dx", builder.emit(ConvInputGradient(*window, (2, 2)), dy, w))
    builder.output("dw", builder.emit(ConvWeightGradient(*window, (3, 3)), x, dy))
    nodes = to_proto(builder.finish(), WeightStore([])).graph.node
    for name in ("x", "dy", "w"):
        assert [n.op_type for n in nodes if name in n.input] == ["Reshape"]
    keys = [(n.op_type, tuple(n.input), tuple(a.SerializeToString() for a in n.attribute)) for n in nodes]
    assert len(keys) == len(set(keys))


@pytest.mark.parametrize("kind", ["input", "weight"])
@pytest.mark.parametrize("name", ["strided", "grouped", "dilated", "line"])
def test_gradients_of_gradients(name: str, kind: str) -> None:
    graph, _ = make(name, kind)
    check_gradient(graph, {v.name: [int(d) for d in v.shape] for v in graph.inputs})  # type: ignore[arg-type]


TIES = np.array(
    [[1, 1, 0, 2, 9], [1, 1, 2, 2, 9], [0, 0, 3, 1, 9], [0, 0, 1, 3, 9], [9, 9, 9, 9, 9]], np.float32
)  # of a window's largest elements the first in reading order counts
FIRST = np.array([[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [1, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]], np.float32)


@pytest.mark.parametrize("dims", [(5, 5), (symbol("H"), symbol("W"))], ids=["static", "symbolic"])
def test_max_pool_gives_ties_to_the_first(dims: tuple[Dim, Dim]) -> None:
    window = ((2, 2), (2, 2), ((0, 0), (0, 0)), (1, 1))
    builder = GraphBuilder("ties")
    x = builder.input("x", TensorType(DType.float32, (1, 1, *dims)))
    y = builder.emit(MaxPool(*window), x)
    dy = builder.input("dy", y.type)
    builder.output("result", builder.emit(MaxPoolGradient(*window), x, y, dy))
    graph = builder.finish()
    arrays: dict[str, NDArrayAny] = {"x": TIES[None, None], "dy": np.arange(1, 5, dtype=np.float32).reshape(1, 1, 2, 2)}
    scale = np.zeros((5, 5), np.float32)
    scale[:4, :4] = np.repeat(np.repeat(arrays["dy"][0, 0], 2, 0), 2, 1)
    for found in (run(graph, arrays), interpret(graph, arrays, WeightStore([]))["result"]):
        np.testing.assert_array_equal(found[0, 0], FIRST * scale)
    assert "ScatterElements" not in {n.op_type for n in to_proto(graph, WeightStore([])).graph.node}


@pytest.mark.parametrize("shape", [(4, 3, 5, 2), (6, 3), (4, 3, 2, 3, 2)])
def test_batch_norm_by_batch_statistics(shape: tuple[int, ...]) -> None:
    """The gradients of all three results by finite differences."""
    builder = GraphBuilder("norm")
    x = builder.input("x", TensorType(DType.float32, (symbol("N"), *shape[1:])))
    w, b = (builder.input(n, TensorType(DType.float32, (3,))) for n in "wb")
    for number, value in enumerate(builder.node(BatchNormTraining(1e-3), x, w, b).outputs):
        builder.output(f"y{number}", value)
    check_gradient(builder.finish(), {"x": shape, "w": (3,), "b": (3,)})


@pytest.mark.parametrize("axes", [(2,), (1, 2)])
def test_layer_norm_that_keeps_its_statistics(axes: tuple[int, ...]) -> None:
    """Its gradient by finite differences, its ONNX form, and that training takes it."""
    builder = GraphBuilder("norm")
    x = builder.input("x", TensorType(DType.float32, (symbol("N"), 3, 4)))
    sizes = tuple(x.shape[a] for a in axes)
    w, b = (builder.input(n, TensorType(DType.float32, sizes)) for n in "wb")
    outputs = builder.node(LayerNormTraining(axes, 1e-3), x, w, b).outputs
    builder.output("y", outputs[0])
    shapes = {"x": (2, 3, 4), "w": sizes, "b": sizes}
    graph = builder.finish()
    check_gradient(graph, shapes)  # type: ignore[arg-type]  # integers
    rng = np.random.default_rng(1)
    arrays = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}  # type: ignore[arg-type]  # integers
    for opset in (17, 26):
        check_gradient_form(graph, arrays, opset=opset, rtol=1e-4, atol=1e-5)
    program = "network T { input x: float32[N, 3, 4] output y = layer_norm(x, AXES) }".replace("AXES", str(list(axes)))
    source = elaborate(SourceFile("t.net", program)).graph
    extension = Extension(source)
    to_training(extension, source.nodes, Value("seed", TensorType(DType.int64, ())), frozenset())
    assert [n.op.name for n in extension.nodes] == ["layer_norm_training"]


ROWS = [(5, 2), (8, 9), (17, 16)]  #: below, between and above the limits of `batch_rows`


@pytest.mark.parametrize("threads", [1, 4])
@pytest.mark.parametrize("opset", [17, 26])
@pytest.mark.parametrize("size", ROWS)
def test_batch_norm_forms(threads: int, opset: int, size: tuple[int, int]) -> None:
    """All results of both directions in one model, with images whose means lie far apart."""
    builder = GraphBuilder("norm")
    x = builder.input("x", TensorType(DType.float32, (symbol("N"), 3, *size)))
    w, b = (builder.input(n, TensorType(DType.float32, (3,))) for n in "wb")
    y, mean, var = builder.node(BatchNormTraining(1e-3), x, w, b).outputs
    back = builder.node(BatchNormGradient(1e-3), x, w, mean, var, builder.input("dy", x.type)).outputs
    for number, value in enumerate((y, mean, var, *back)):
        builder.output(f"y{number}", value)
    graph = builder.finish()
    rng = np.random.default_rng(0)
    values = 3 * rng.normal(size=(4, 3, 1, 1)) + 0.2 * rng.normal(size=(4, 3, *size)) + 7
    arrays = {"x": values, "w": np.array([1.0, 0, -2]), "b": np.array([0.5, 1, 2]), "dy": rng.normal(size=values.shape)}
    exact = interpret(as_float64(graph), arrays, WeightStore([]))
    model = to_proto(graph, WeightStore([]), opset=opset, target=Target("cpu", threads))
    onnx.checker.check_model(model, full_check=True)
    found = Session(model.SerializeToString(), "cpu", threads=1).run({n: a.astype("f") for n, a in arrays.items()})
    for name, expected in exact.items():
        np.testing.assert_allclose(found[name], expected, rtol=2e-4, atol=2e-4, err_msg=name)
    kinds = {n.op_type for n in model.graph.node}
    assert ("LayerNormalization" in kinds) == (size != ROWS[0])
    assert size == ROWS[0] or ("BatchNormalization" in kinds) == (threads == 1)


@pytest.mark.parametrize("limit", [None, 1, 6])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_rectifier_lets_the_gradient_through_inside_its_limits(device: Any, limit: int | None) -> None:
    builder = GraphBuilder("mask")
    y, dy = (builder.input(n, TensorType(DType.float32, (symbol("N"),))) for n in ("y", "dy"))
    builder.output("result", builder.emit(RectifierGradient(limit), y, dy))
    graph = builder.finish()
    tiny, top = np.finfo("f").tiny, np.float32(limit or 6)
    edges = np.array([-1, -0.0, 0, tiny, 0.5, np.nextafter(top, np.float32(0)), top, 7, np.inf], np.float32)
    slopes = np.arange(1, len(edges) + 1, dtype=np.float32)
    expected = slopes * ((edges > 0) & (edges < (limit or np.inf)) if limit else edges > 0)
    for found in (
        run(graph, {"y": edges, "dy": slopes}, target=Target(device)),
        interpret(graph, {"y": edges, "dy": slopes}, WeightStore([]))["result"],
    ):
        np.testing.assert_array_equal(found, expected.astype("f"))


BLOCKS = {  # numbers of an image, threads, batch: the numbers of a block
    ((96, 32, 32), 1, symbol("N")): 49152,
    ((96, 32, 32), 2, symbol("N")): None,
    ((192, 16, 16), 1, 8): 65536,
    ((16, 16, 16), 1, symbol("N")): None,
    ((5, 7, 2), 1, symbol("N")): None,
    ((2, 100_003), 1, symbol("N")): None,  # nothing divides it
}


@pytest.mark.parametrize(("size", "threads", "batch"), BLOCKS)
@pytest.mark.parametrize("opset", [17, 26])
def test_a_rectifier_block_by_block(size: tuple[int, ...], threads: int, batch: Dim, opset: int) -> None:
    builder = GraphBuilder("blocks")
    y, dy = (builder.input(n, TensorType(DType.float32, (batch, *size))) for n in ("y", "dy"))
    builder.output("result", builder.emit(RectifierGradient(6), y, dy))
    graph = builder.finish()
    model = to_proto(graph, WeightStore([]), opset=opset, target=Target(threads=threads))
    block = BLOCKS[size, threads, batch]
    assert [n.op_type for n in model.graph.node].count("Scan") == (block is not None)
    if block is not None:
        (scan,) = (n for n in model.graph.node if n.op_type == "Scan")
        shapes = [onnx.numpy_helper.to_array(i).tolist() for i in model.graph.initializer]
        assert [-1, block] in shapes and len(scan.input) == 2
    rng, images = np.random.default_rng(0), batch if isinstance(batch, int) else 3
    arrays = {"y": np.clip(rng.normal(3, 3, (images, *size)), 0, 6), "dy": rng.normal(size=(images, *size))}
    narrow: dict[str, NDArrayAny] = {n: a.astype("f") for n, a in arrays.items()}
    expected = interpret(graph, narrow, WeightStore([]))["result"]
    found = Session(model.SerializeToString(), "cpu", threads=threads).run(narrow)["result"]
    np.testing.assert_array_equal(found, expected)


def test_a_rectifier_gradient_has_its_result_s_shape() -> None:
    y, dy = (TensorType(DType.float32, (symbol("N"), n)) for n in (4, 1))
    with pytest.raises(ShapeError, match="does not fit float32"):
        RectifierGradient(6).infer(y, dy)


@pytest.mark.parametrize("limit", [None, 6])
def test_the_gradient_of_a_rectifier_gradient(limit: int | None) -> None:
    builder = GraphBuilder("twice")
    y, dy = (builder.input(n, TensorType(DType.float32, (symbol("N"), 4))) for n in ("y", "dy"))
    builder.output("result", builder.emit(RectifierGradient(limit), y, dy))
    check_gradient(builder.finish(), {"y": (3, 4), "dy": (3, 4)})


@pytest.mark.parametrize("opset", [17, 26])
@pytest.mark.parametrize("threads", [1, 2])
def test_the_gradient_of_gelu_block_by_block(threads: int, opset: int) -> None:
    builder = GraphBuilder("gelu")
    x, dy = (builder.input(n, TensorType(DType.float32, (symbol("N"), 64, 512))) for n in ("x", "dy"))
    builder.output("result", builder.emit(GeluGradient(), x, dy))
    graph = builder.finish()
    model = to_proto(graph, WeightStore([]), opset=opset, target=Target(threads=threads))
    assert ("Scan" in {n.op_type for n in model.graph.node}) == (threads == 1)
    arrays = {n: np.random.default_rng(i).normal(size=(3, 64, 512)).astype("f") for i, n in enumerate(("x", "dy"))}
    found = Session(model.SerializeToString(), "cpu", threads=threads).run(arrays)["result"]
    np.testing.assert_allclose(found, interpret(graph, arrays, WeightStore([]))["result"], rtol=1e-5, atol=1e-6)


def test_the_gradient_of_the_gradient_of_gelu() -> None:
    builder = GraphBuilder("twice")
    x, dy = (builder.input(n, TensorType(DType.float32, (symbol("N"), 4))) for n in ("x", "dy"))
    builder.output("result", builder.emit(GeluGradient(), x, dy))
    check_gradient(builder.finish(), {"x": (3, 4), "dy": (3, 4)})


def test_a_scalar_gets_the_rank_of_a_tensor_that_ends_in_axes_of_one() -> None:
    """ONNX Runtime broadcasts a scalar over `[…, 1, 1]` element by element."""
    builder = GraphBuilder("scale")
    x = builder.input("x", TensorType(DType.float32, (4, 3, 1, 1)))
    rate = builder.input("rate", TensorType(DType.float32, ()))
    builder.output("result", builder.emit(Mul(), rate, builder.emit(Mul(), x, rate)))
    graph = builder.finish()
    model = to_proto(graph, WeightStore([]))
    assert [n.op_type for n in model.graph.node] == ["Reshape", "Mul", "Mul"]
    values = np.arange(12, dtype="f").reshape(4, 3, 1, 1)
    np.testing.assert_array_equal(run(graph, {"x": values, "rate": np.asarray(3, "f")}), 9 * values)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("opset", [17, 26])
@pytest.mark.parametrize("size", ROWS)
def test_batch_norm_gradient_form(device: Any, opset: int, size: tuple[int, int]) -> None:
    """Both devices' forms, run on the CPU, where the mean is large against the deviation."""
    builder = GraphBuilder("norm")
    x = builder.input("x", TensorType(DType.float32, (symbol("N"), 3, *size)))
    parameters = [builder.input(n, TensorType(DType.float32, (3,))) for n in ("w", "m", "v")]
    found = builder.node(BatchNormGradient(1e-5), x, *parameters, builder.input("dy", x.type)).outputs
    builder.output("result", builder.emit(Mul(), found[0], builder.emit(Reshape((3, 1, 1)), found[3])))
    rng = np.random.default_rng(0)
    value = 100 + rng.normal(size=(4, 3, *size))
    arrays = {"x": value, "w": np.array([1, 2, -1]), "m": value.mean((0, 2, 3)), "v": value.var((0, 2, 3))}
    arrays |= {"dy": rng.normal(size=value.shape)}
    graph = builder.finish()
    inner, _, _, scale = BatchNormGradient(1e-5).evaluate(*(np.asarray(arrays[v.name], float) for v in graph.inputs))
    exact = inner * scale[:, None, None]
    narrow = {n: np.asarray(a, np.float32) for n, a in arrays.items()}
    np.testing.assert_allclose(run(graph, narrow, opset, Target(device)), exact, rtol=1e-3, atol=2e-5)


@pytest.mark.torch
@pytest.mark.parametrize(
    "program",
    [
        "max_pool(2)",
        "max_pool(3, stride=2, padding=1)",
        "max_pool(3, stride=2, ceil=true)",
        "max_pool(2, stride=2, dilation=2)",
        "avg_pool(3, stride=2, padding=1, ceil=true)",
        "avg_pool(3, stride=2, padding=1, count_include_pad=false)",
    ],
)
def test_pools_against_pytorch_with_ties(program: str) -> None:
    torch = pytest.importorskip("torch")
    name, kernel, *rest = program.replace("(", ", ").rstrip(")").split(", ")
    given: dict[str, Any] = {}
    for key, value in (part.split("=") for part in rest):
        given[{"ceil": "ceil_mode"}.get(key, key)] = value == "true" if value.isalpha() else int(value)
    x = np.random.default_rng(0).integers(0, 3, (2, 3, 9, 11)).astype(np.float32)
    operand = torch.from_numpy(x).requires_grad_()
    y = getattr(torch.nn.functional, f"{name}2d")(operand, int(kernel), **given)
    dy = np.random.default_rng(1).normal(size=tuple(y.shape)).astype(np.float32)
    (expected,) = torch.autograd.grad(y, operand, torch.from_numpy(dy))
    source = f"network T {{ input x: float32[N, 3, 9, 11]  output y = x -> {program} }}"
    graph = elaborate(SourceFile("t.net", source)).graph
    extension = Extension(graph)
    seed = Value("seed", graph.outputs[0].value.type)
    found = backward(extension, graph.nodes, {graph.outputs[0].value: seed}, graph.inputs)
    output = Output("result", found[graph.inputs[0]])
    step = Graph("step", (*graph.inputs, seed), (output,), (*graph.nodes, *extension.nodes), ())
    np.testing.assert_allclose(run(step, {"x": x, "seed": dy}), expected.numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.torch
@pytest.mark.parametrize("name", GEOMETRIES)
def test_convolutions_against_pytorch(name: str) -> None:
    """The NumPy rules in float64."""
    torch = pytest.importorskip("torch")
    size, kernel, stride, dilation, padding, _, _, groups = GEOMETRIES[name]
    x, w = (a.astype(np.float64) for a in drawn(make(name, "forward")[0]).values())
    tx, tw = (torch.from_numpy(a).requires_grad_() for a in (x, w))
    framed = torch.nn.functional.pad(tx, [p for pair in reversed(padding) for p in pair])
    y = getattr(torch.nn.functional, f"conv{len(size)}d")(framed, tw, None, stride, 0, dilation, groups)
    dy = np.random.default_rng(1).normal(size=tuple(y.shape))
    expected = torch.autograd.grad(y, (tx, tw), torch.from_numpy(dy))
    window = (stride, padding, dilation, groups)
    found = ConvInputGradient(*window, size).evaluate(dy, w), ConvWeightGradient(*window, kernel).evaluate(x, dy)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other.numpy(), rtol=1e-9, atol=1e-9)


ADDED = {  # the form by the size of what is added to and the target
    (5, Target()): "MatMul",
    (300, Target()): "ScatterElements",
    (5, Target(threads=2, certain=True)): "MatMul",
    (300, Target(threads=1, certain=True)): "ScatterND",
    (300, Target("cuda")): "ScatterND",
}


@pytest.mark.parametrize(("size", "target"), ADDED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("axis", [0, 1])
def test_rows_of_equal_indices_are_added(size: int, target: Target, dtype: str, axis: int) -> None:
    """By ScatterND, whose additions several threads may lose, where there is one thread for certain."""
    rng = np.random.default_rng(0)
    builder = GraphBuilder("g")
    shape = (7, 3) if axis == 0 else (3, 7)
    ids = builder.input("ids", TensorType(DType.int64, (7,)))
    dy = builder.input("dy", TensorType(DType[dtype], shape))
    builder.output("y", builder.emit(AddRows(axis, size), ids, dy))
    graph = builder.finish()
    arrays = {"ids": np.array([1, 4, 1, 0, -1, 4, 1]), "dy": rng.normal(size=shape).astype(dtype)}
    model = to_proto(graph, WeightStore(()), target=target)
    kinds = {n.op_type for n in model.graph.node}
    assert kinds & {"MatMul", "ScatterElements", "ScatterND"} == {ADDED[size, target]}
    found = Session(model.SerializeToString(), "cpu", threads=1).run(arrays)["y"]
    np.testing.assert_allclose(found, interpret(graph, arrays, WeightStore(()))["y"], rtol=1e-6, atol=1e-6)
