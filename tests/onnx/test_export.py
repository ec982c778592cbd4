"""What exported models look like: names, types, symbols, metadata, constants."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.build import NameSpace
from netdsl.ir.dims import evaluate, parse_dim
from netdsl.ir.graph import Graph, Output, Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.types import Array, DType
from netdsl.onnx.emit import NodeEmitter
from netdsl.onnx.export import to_proto, write_model
from netdsl.onnx.lower import IR_VERSIONS, value_info
from netdsl.ops.arithmetic import Add, Mul
from netdsl.ops.constant import Constant, DimensionValue
from netdsl.ops.shape import Expand, Reshape
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import Session
from netdsl.weights import WeightStore, load_checkpoint
from tests.onnx.graphs import Net, small_net, tensor

ROOT = Path(__file__).parents[2]


def export(graph, **options):
    return to_proto(graph, WeightStore(graph.parameters).perturbed(), **options)


def node(model, name):
    (found,) = [n for n in model.graph.node if n.name == name]
    return found


def dims(info):
    return [d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim]


def test_names_are_the_layers_paths():
    model = export(small_net())
    assert [n.name for n in model.graph.node] == [
        "stem.conv",
        "stem.batch_norm",
        "stem.relu",
        "head.conv",
        "mean",
        "dense",
    ]
    assert [n.output[0] for n in model.graph.node][:3] == ["stem.conv", "stem.batch_norm", "stem.relu"]
    assert [t.name for t in model.graph.initializer][:3] == [
        "stem.conv.weight",
        "stem.conv.bias",
        "stem.batch_norm.weight",
    ]
    assert [o.name for o in model.graph.output] == ["logits"]
    assert model.graph.node[-1].output[0] == "logits"


def test_metadata_says_where_a_node_comes_from():
    model = export(small_net())
    found = {p.key: p.value for p in node(model, "head.conv").metadata_props}
    assert found == {"source": "t.net:6:5", "path": "head.conv", "operator": "conv"}
    assert model.producer_name == "netdsl"
    assert model.producer_version


def test_symbols_are_dim_params():
    model = export(small_net())
    assert dims(model.graph.input[0]) == ["N", 3, "8*h", "8*w"]
    assert dims(model.graph.output[0]) == ["N", 4]
    infos = {i.name: dims(i) for i in model.graph.value_info}
    assert infos["stem.conv"] == ["N", 6, "8*h", "8*w"]
    assert infos["mean"] == ["N", 5]


@pytest.mark.parametrize("opset", IR_VERSIONS)
def test_every_opset_checks_and_runs(opset):
    graph = small_net()
    model = export(graph, opset=opset)
    assert model.opset_import[0].version == opset
    assert model.ir_version == onnx.helper.OP_SET_ID_VERSION_MAP["ai.onnx", opset]
    onnx.checker.check_model(model, full_check=True)
    inputs = {"image": np.random.default_rng(0).standard_normal((2, 3, 16, 8)).astype(np.float32)}
    expected = interpret(graph, inputs, WeightStore(graph.parameters).perturbed())
    found = Session(model.SerializeToString(), "cpu").run(inputs)
    np.testing.assert_allclose(found["logits"], expected["logits"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("opset", [16, 27])
def test_other_opsets_are_refused(opset):
    with pytest.raises(ValueError, match="17 to 26"):
        export(small_net(), opset=opset)


def test_the_same_to_the_byte_in_every_process(tmp_path):
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from pathlib import Path\n"
        "from tests.onnx.graphs import small_net\n"
        "from netdsl.onnx.export import write_model\n"
        "from netdsl.weights import WeightStore\n"
        "graph = small_net(); write_model(graph, WeightStore(graph.parameters, seed=3), Path(sys.argv[2]))\n"
    )
    digests = set()
    for seed in ("0", "1"):
        path = tmp_path / f"{seed}.onnx"
        env = {"PYTHONHASHSEED": seed, "PATH": ""}
        subprocess.run([sys.executable, "-c", code, ROOT, path], check=True, env=env)
        digests.add(hashlib.sha256(path.read_bytes()).hexdigest())
    assert len(digests) == 1


def test_file_and_proto_hold_the_same(tmp_path):
    graph = small_net()
    store = WeightStore(graph.parameters)
    write_model(graph, store, tmp_path / "m.onnx")
    assert onnx.load(tmp_path / "m.onnx") == to_proto(graph, store)
    onnx.checker.check_model(tmp_path / "m.onnx", full_check=True)


def test_external_data(tmp_path):
    net = Net(x=tensor("float32", "N", 64))
    graph = net.graph(y=net("dense", net("dense", net.inputs[0], 48), 32, path="head"))
    store = WeightStore(graph.parameters)
    path = tmp_path / "m.onnx"
    write_model(graph, store, path, external_data=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.onnx", "m.onnx.data"]
    onnx.checker.check_model(path, full_check=True)
    plain = onnx.load(path, load_external_data=False)
    places = [{e.key: e.value for e in t.external_data} for t in plain.graph.initializer if t.external_data]
    assert [int(p["offset"]) for p in places] == [0, 12288]
    assert [p["location"] for p in places] == ["m.onnx.data"] * 2
    checkpoint = load_checkpoint(path)
    assert all(np.array_equal(checkpoint.read(p.name), store.array(p)) for p in graph.parameters)
    x = np.ones((2, 64), np.float32)
    whole = Session(to_proto(graph, store).SerializeToString(), "cpu").run({"x": x})
    assert np.array_equal(Session(path, "cpu").run({"x": x})["y"], whole["y"])


def test_large_models_go_external_by_themselves(tmp_path, monkeypatch):
    net = Net(x=tensor("float32", "N", 64))
    graph = net.graph(y=net("dense", net.inputs[0], 48))
    store = WeightStore(graph.parameters)
    write_model(graph, store, tmp_path / "whole.onnx")
    monkeypatch.setattr("netdsl.onnx.write.MAX_FILE", (tmp_path / "whole.onnx").stat().st_size - 1)
    write_model(graph, store, tmp_path / "parted.onnx")
    assert not (tmp_path / "whole.onnx.data").exists()
    assert (tmp_path / "parted.onnx.data").stat().st_size == 64 * 48 * 4
    monkeypatch.setattr("netdsl.onnx.write.MAX_FILE", 2000)
    with pytest.raises(ValueError, match="save it to a file"):
        to_proto(graph, store)


def test_a_program_of_weights_is_evaluated_not_emitted():
    net = Net(x=tensor("float32", "N", 6))
    weight = net.builder.parameter("w", (6,), Initializer("normal")).value
    scale = net.builder.emit(Mul(), weight, net.builder.emit(Constant(Array(np.float32(2)))), path="folded")
    graph = net.graph(y=net.builder.emit(Add(), net.inputs[0], scale, path="sum"))
    model = export(graph)
    assert [n.op_type for n in model.graph.node] == ["Add"]
    assert [t.name for t in model.graph.initializer] == ["sum.b/folded"]


def test_helper_nodes_on_constants_are_evaluated():
    """dense on rank 3 is a MatMul with the transposed weight."""
    net = Net(x=tensor("float32", "N", 5, 6))
    graph = net.graph(y=net("dense", net.inputs[0], 4))
    store = WeightStore(graph.parameters)
    model = to_proto(graph, store)
    assert [n.op_type for n in model.graph.node] == ["MatMul", "Add"]
    weight = next(t for t in model.graph.initializer if t.name == "dense/Transpose")
    assert np.array_equal(onnx.numpy_helper.to_array(weight), store.array(graph.parameters[0]).T)


def test_helper_nodes_are_named_after_their_layer():
    net = Net(x=tensor("float32", "N", 5, 6))
    model = export(net.graph(y=net("dense", net.inputs[0], 4, path="head.dense")))
    assert [(n.name, n.output[0]) for n in model.graph.node] == [
        ("head.dense/MatMul", "head.dense/MatMul"),
        ("head.dense", "y"),
    ]


def test_equal_constants_are_one():
    net = Net(x=tensor("float32", "N", 6))
    two = [net.builder.emit(Constant(Array(np.float32(2)))) for _ in range(3)]
    x = net.inputs[0]
    for number in two:
        x = net.builder.emit(Mul(), x, number)
    assert len(export(net.graph(y=x)).graph.initializer) == 1


def test_outputs_that_no_node_makes():
    """An input, a parameter, one value twice, and an output that is called like another value."""
    net = Net(x=tensor("float32", "N", 6))
    (x,) = net.inputs
    weight = net.builder.parameter("w", (3,), Initializer("normal")).value
    first = net("relu", x, path="conv")
    second = net("sigmoid", first, path="second")
    graph = net.graph(same=x, weights=weight, a=first, b=first, conv=second)
    model = export(graph)
    onnx.checker.check_model(model, full_check=True)
    array = np.arange(12, dtype=np.float32).reshape(2, 6) - 5
    found = Session(model.SerializeToString(), "cpu").run({"x": array})
    expected = interpret(graph, {"x": array}, WeightStore(graph.parameters).perturbed())
    assert list(found) == ["same", "weights", "a", "b", "conv"]
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)


FORMULAS = {
    "N + 1": 4,
    "2*N - h": 1,
    "(8*h)//3": 13,
    "N*h + w*w": 19,
    "-N + 20": 17,
    "(3 - 8*h)//5": -8,
    "max(N, h + w)": 7,
    "min(N, 2*w)": 3,
    "(h*N)//2 + 7": 14,
    "h % 3": 2,
    "17": 17,
}


@pytest.mark.parametrize("opset", [17, 26])
def test_dimensions_at_run_time(opset):
    """Every kind of expression, h from `8*h + 1` and w from `h*w`."""

    net = Net(x=tensor("float32", "N", "8*h + 1", "h*w"))
    values = {f"y{i}": net.builder.emit(DimensionValue(parse_dim(t))) for i, t in enumerate(FORMULAS)}
    graph = net.graph(**values)
    model = export(graph, opset=opset)
    found = Session(model.SerializeToString(), "cpu").run({"x": np.zeros((3, 41, 10), np.float32)})
    env = {"N": 3, "h": 5, "w": 2}
    assert {t: int(found[f"y{i}"]) for i, t in enumerate(FORMULAS)} == {
        t: evaluate(parse_dim(t), env) for t in FORMULAS
    }


def test_a_symbol_is_computed_once():

    net = Net(x=tensor("float32", "N", "8*h"))
    (x,) = net.inputs
    a = net.builder.emit(Reshape((parse_dim("4*h"), parse_dim("2*N"))), x, path="a")
    b = net.builder.emit(Reshape((parse_dim("2*N"), parse_dim("4*h"))), x, path="b")
    c = net.builder.emit(Expand((7, parse_dim("N"), parse_dim("8*h"))), x, path="c")
    model = export(net.graph(a=a, b=b, c=c))
    onnx.checker.check_model(model, full_check=True)
    kinds = [n.op_type for n in model.graph.node]
    assert kinds.count("Shape") == 2
    assert kinds.count("Div") == 1
    array = np.arange(48, dtype=np.float32).reshape(3, 16)
    found = Session(model.SerializeToString(), "cpu").run({"x": array})
    assert [v.shape for v in found.values()] == [(8, 6), (6, 8), (7, 3, 16)]


def test_a_symbol_that_no_shape_determines():

    net = Net(x=tensor("float32", "N*M"))
    value = net.builder.emit(DimensionValue(parse_dim("M")))
    with pytest.raises(DiagnosticError, match="no input's shape says its value"):
        export(net.graph(y=value))


def test_old_runtimes_are_not_locked_out():
    """IR 10 for the default opset: read by ONNX Runtime since 1.18."""
    assert export(small_net()).ir_version == 10
    assert onnxruntime.InferenceSession(export(small_net()).SerializeToString())


def test_bool_and_integer_tensors():
    net = Net(x=tensor("int64", "N", 3), c=tensor("bool", "N", 3))
    x, c = net.inputs
    graph = net.graph(y=net("where", c, x, 7), z=net("cast", c, DType.int8))
    model = export(graph)
    array = np.arange(6).reshape(2, 3)
    found = Session(model.SerializeToString(), "cpu").run({"x": array, "c": array % 2 == 0})
    assert found["y"].tolist() == [[0, 7, 2], [7, 4, 7]]
    assert found["z"].dtype == np.int8


def test_an_empty_graph_of_nodes():
    net = Net(x=tensor("float32", "N"))
    graph = Graph("T", tuple(net.inputs), (Output("y", net.inputs[0]),), (), ())
    assert [n.op_type for n in export(graph).graph.node] == ["Identity"]


def test_a_subgraph_makes_its_own_nodes_and_leaves_shapes_outside():
    """Each output by a node of its own; what the subgraph made is not there outside, and what is needed of the inputs'
    shapes is computed once, before it."""
    names = NameSpace()
    x = Value(names.take("x"), tensor("float32", "N", "L", 3))
    cx = NodeEmitter(21, names, {x: "x"})

    def step(total, item):
        wide = cx.emit("Expand", item, cx.shape([parse_dim("N"), 3]))
        total = cx.emit("Add", total, wide)
        return total, total, item

    start = cx.emit("Expand", cx.scalar(0.0, DType.float32), cx.shape([parse_dim("N"), 3]))
    items = cx.emit("Transpose", "x", perm=[1, 0, 2])
    body = cx.subgraph(2, step)
    made = cx.emit_all("Scan", 3, start, items, body=body, num_scan_inputs=1)
    assert [n.op_type for n in body.node] == ["Expand", "Add", "Identity", "Identity"]
    assert len({o.name for o in body.output}) == 3
    assert [n.op_type for n in cx.nodes].count("Shape") == 1
    assert cx.emit("Identity", made[0]) not in {o for n in body.node for o in n.output}
    array = np.arange(24, dtype="f").reshape(2, 4, 3)
    graph = onnx.GraphProto(
        name="g",
        node=cx.nodes,
        input=[value_info("x", x.type)],
        output=[onnx.ValueInfoProto(name=name) for name in made],
    )
    graph.initializer.extend(onnx.numpy_helper.from_array(t.array({}), t.name) for t in cx.pool.used)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 21)], ir_version=10)
    total, running, copied = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": array})
    np.testing.assert_array_equal(total, array.sum(1))
    np.testing.assert_array_equal(running, array.cumsum(1).swapaxes(0, 1))
    np.testing.assert_array_equal(copied, array.swapaxes(0, 1))
