"""Sessions: devices, inputs that do not fit, models that do not load."""

from __future__ import annotations

import builtins

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.types import DType
from netdsl.onnx.export import to_proto, write_model
from netdsl.runtime.interpret import interpret
from netdsl.runtime.session import CPU, CUDA, EnvironmentLack, Session
from netdsl.weights import WeightStore
from tests.onnx.graphs import Net, small_net, tensor

IMAGE = np.random.default_rng(0).standard_normal((2, 3, 16, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def model():
    graph = small_net()
    return to_proto(graph, WeightStore(graph.parameters)).SerializeToString()


@pytest.fixture(scope="module")
def session(model):
    return Session(model, "cpu")


def test_types_of_inputs_and_outputs(session):
    assert {n: str(t) for n, t in session.inputs.items()} == {"image": "float32[N, 3, 8*h, 8*w]"}
    assert {n: str(t) for n, t in session.outputs.items()} == {"logits": "float32[N, 4]"}
    assert session.device == "cpu"


@pytest.mark.parametrize("options", [{}, {"optimise": False}, {"threads": 1}, {"bind": True}])
def test_runs_as_the_interpreter_does(model, options):
    graph = small_net()
    expected = interpret(graph, {"image": IMAGE}, WeightStore(graph.parameters))["logits"]
    np.testing.assert_allclose(Session(model, "cpu", **options).run({"image": IMAGE})["logits"], expected, atol=1e-5)


def test_strided_arrays_are_taken(session):
    reversed_twice = IMAGE[::-1][::-1]
    assert np.array_equal(session.run({"image": reversed_twice})["logits"], session.run({"image": IMAGE})["logits"])


@pytest.mark.parametrize("bind", [True, False])
def test_bfloat16_and_scalars(bind):
    net = Net(x=tensor("bfloat16", "N"), s=tensor("float32"))
    graph = net.graph(y=net.inputs[0], t=net.inputs[1])
    session = Session(to_proto(graph, WeightStore(())).SerializeToString(), "cpu", bind=bind)
    x = np.array([1, -2.5], ml_dtypes.bfloat16)
    found = session.run({"x": x, "s": np.array(3, np.float32)})
    assert found["y"].dtype == x.dtype and np.array_equal(found["y"], x)
    assert found["t"].shape == () and found["t"] == 3


WRONG = {
    "missing": ({}, r"missing input 'image' \(float32\[N, 3, 8\*h, 8\*w\]\)"),
    "misspelt": ({"imgae": IMAGE}, r"there is no input 'imgae'; did you mean 'image'\?"),
    "unknown": ({"image": IMAGE, "zzz": IMAGE}, r"there is no input 'zzz'; the inputs are image"),
    "dtype": (
        {"image": IMAGE.astype(np.float64)},
        r"input 'image': expected float32\[N, 3, 8\*h, 8\*w\], found float64\[2, 3, 16, 8\]; .*astype\('float32'\)",
    ),
    "strange_dtype": ({"image": IMAGE.astype(str)}, r"expected float32.*found <U"),
    "rank": ({"image": IMAGE[0]}, r"of rank 4, found float32\[3, 16, 8\] of rank 3"),
    "channels": ({"image": IMAGE[:, :2]}, r"found float32\[2, 2, 16, 8\]: axis 1 is 2, not 3"),
    "multiple": ({"image": IMAGE[:, :, :15]}, r"axis 2 is 15, which is no 8\*h of a positive h"),
    "empty": ({"image": IMAGE[:, :, :0]}, r"axis 2 is 0, which is no 8\*h of a positive h"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inputs_that_do_not_fit(session, name):
    inputs, message = WRONG[name]
    with pytest.raises(ValueError, match=message):
        session.run(inputs)


def test_inputs_that_contradict_each_other():
    net = Net(a=tensor("float32", "N", "M*N"), b=tensor("float32", "N + 1"))
    graph = net.graph(c=net.inputs[0], d=net.inputs[1])
    session = Session(to_proto(graph, WeightStore(())).SerializeToString(), "cpu")
    zeros = lambda *shape: np.zeros(shape, np.float32)  # noqa: E731
    assert session.run({"a": zeros(2, 6), "b": zeros(3)})
    with pytest.raises(ValueError, match=r"axis 0 is 4, not N \+ 1 = 3 \(N is 2 by 'a' axis 0\)"):
        session.run({"a": zeros(2, 6), "b": zeros(4)})
    with pytest.raises(ValueError, match=r"axis 1 is 5, which is no M\*N of a positive M"):
        session.run({"a": zeros(2, 5), "b": zeros(3)})


def test_cuda_where_there_is_none(model, monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])
    with pytest.raises(EnvironmentLack, match=r"pip install 'netdsl\[gpu\]'"):
        Session(model, "cuda")
    assert Session(model, "auto").device == "cpu"


def test_cuda_that_does_not_work(model, monkeypatch):
    """onnxruntime-gpu on a machine without a driver: ONNX Runtime falls back to the CPU by itself."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    original = onnxruntime.InferenceSession
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda m, o, providers: original(m, o, providers=[CPU]))
    with pytest.raises(EnvironmentLack, match="NVIDIA's driver"):
        Session(model, "cuda")
    assert Session(model, "auto").device == "cpu"


@pytest.mark.gpu
def test_on_the_gpu(model):
    if CUDA not in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime-gpu is not installed")
    graph = small_net()
    session = Session(model, "cuda")
    assert session.device == "cuda"
    expected = interpret(graph, {"image": IMAGE}, WeightStore(graph.parameters))["logits"]
    np.testing.assert_allclose(session.run({"image": IMAGE})["logits"], expected, atol=1e-3)


def test_without_onnxruntime(model, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "onnxruntime":
            raise ModuleNotFoundError(name=name)
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EnvironmentLack, match=r"needs ONNX Runtime: pip install 'netdsl\[cpu\]'"):
        Session(model)


def test_an_onnxruntime_that_cannot_be_loaded(model, monkeypatch):
    original = builtins.__import__

    def refuse(name, *arguments, **options):
        if name == "onnxruntime":
            raise ImportError("libstdc++ is too old")
        return original(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EnvironmentLack, match=r"cannot be loaded \(libstdc\+\+ is too old\): pip install"):
        Session(model)


def test_models_that_do_not_load(tmp_path):
    path = tmp_path / "m.onnx"
    with pytest.raises(FileNotFoundError):
        Session(path)
    path.write_bytes(b"not a model")
    with pytest.raises(DiagnosticError, match="cannot load the model") as caught:
        Session(path)
    assert caught.value.diagnostics[0].path == str(path)
    with pytest.raises(DiagnosticError, match="cannot load the model"):
        Session(b"not a model")
    with pytest.raises(ValueError, match="cpu, cuda or auto"):
        Session(b"", "tpu")


def test_foreign_models(tmp_path):
    """Sizes without names, and element types that the language does not have."""
    info = onnx.helper.make_tensor_value_info
    for code, shape in ((onnx.TensorProto.FLOAT, [None, "batch size"]), (onnx.TensorProto.UINT16, [2])):
        graph = onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [info("x", code, shape)], [info("y", code, shape)]
        )
        made = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
        if code == onnx.TensorProto.FLOAT:
            session = Session(made.SerializeToString(), "cpu")
            assert session.inputs["x"].dtype is DType.float32
            assert session.run({"x": np.ones((2, 5), np.float32)})["y"].shape == (2, 5)
        else:
            with pytest.raises(DiagnosticError, match=r"'x' is a tensor\(uint16\)"):
                Session(made.SerializeToString(), "cpu")


def test_a_failure_while_running_is_said_in_words():
    node = onnx.helper.make_node("Gather", ["x", "i"], ["y"])
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, ["N"]), onnx.helper.make_tensor_value_info("i", 7, ["N"])],
        [onnx.helper.make_tensor_value_info("y", 1, ["N"])],
    )
    made = onnx.helper.make_model(graph, ir_version=10, opset_imports=[onnx.helper.make_opsetid("", 21)])
    with pytest.raises(DiagnosticError, match="ONNX Runtime: "):
        Session(made.SerializeToString(), "cpu").run({"x": np.ones(2, np.float32), "i": np.array([0, 9])})


def test_from_a_file_with_external_data(tmp_path):
    graph = small_net()
    write_model(graph, WeightStore(graph.parameters), tmp_path / "m.onnx", external_data=True)
    assert Session(tmp_path / "m.onnx", "cpu").run({"image": IMAGE})["logits"].shape == (2, 4)
