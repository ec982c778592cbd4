"""Checkpoints: every kind read back, every damage and every mismatch said in words."""

from __future__ import annotations

import json
import pickle

import ml_dtypes
import numpy as np
import onnx
import pytest
import safetensors.numpy
from onnx import numpy_helper

from netdsl.diagnostics import DiagnosticError
from netdsl.ir.graph import Parameter, Value
from netdsl.ir.initializer import ZEROS
from netdsl.ir.types import DType, TensorType, dtype_of
from netdsl.weights import WeightStore, load_checkpoint, save_safetensors

ARRAYS = {
    "stem.conv.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "stem.conv.bias": np.array([1.5, -2], np.float32),
    "scalar": np.array(3.25, np.float32),
    "empty": np.zeros((0, 4), np.float32),
}


def parameters(arrays=ARRAYS, **types):
    return [Parameter(Value(n, TensorType(types.get(n) or dtype_of(a), a.shape)), ZEROS) for n, a in arrays.items()]


def save_onnx(path, arrays, external=False):
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
        [numpy_helper.from_array(a, n) for n, a in arrays.items()],
    )
    onnx.save(
        onnx.helper.make_model(graph), path, save_as_external_data=external, size_threshold=0, location="weights.bin"
    )


def save(folder, kind, arrays=ARRAYS):
    path = folder / {"onnx_external": "m.onnx"}.get(kind, f"m.{kind}")
    match kind:
        case "safetensors":
            safetensors.numpy.save_file(arrays, path)
        case "npz":
            np.savez(path, **arrays)
        case _:
            save_onnx(path, arrays, kind == "onnx_external")
    return path


KINDS = ["safetensors", "npz", "onnx", "onnx_external"]


def messages(call):
    with pytest.raises(DiagnosticError) as caught:
        call()
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_reads_back(kind, tmp_path):
    arrays = {n: a for n, a in ARRAYS.items() if kind != "onnx_external" or a.size}
    parts = parameters(arrays)
    store = WeightStore(parts, checkpoint=load_checkpoint(save(tmp_path, kind, arrays)))
    for part in parts:
        found = store.array(part)
        assert found.dtype == np.float32
        assert np.array_equal(found, arrays[part.name])


@pytest.mark.parametrize("kind", KINDS)
def test_floats_convert_with_a_note(kind, tmp_path):
    path = save(tmp_path, kind, {"a": np.array([0.1, 2]), "b": np.array([0.5], np.float16)})
    parts = [Parameter(Value(n, TensorType(DType.float32, (s,))), ZEROS) for n, s in (("a", 2), ("b", 1))]
    store = WeightStore(parts, checkpoint=load_checkpoint(path))
    assert np.array_equal(store.array(parts[0]), np.array([0.1, 2], np.float32))
    assert store.array(parts[1]).dtype == np.float32
    assert set(store.notes) == {
        "1 array converted from float64 to float32: a",
        "1 array converted from float16 to float32: b",
    }


def test_bfloat16_of_safetensors(tmp_path):
    values = np.array([1, 2.5], ml_dtypes.bfloat16)
    save_safetensors(tmp_path / "m.safetensors", {"a": TensorType(DType.bfloat16, (2,))}, lambda name: values)
    assert np.array_equal(load_checkpoint(tmp_path / "m.safetensors").read("a"), values)


def test_what_save_writes_the_library_reads(tmp_path):
    path = tmp_path / "m.safetensors"
    types = {n: TensorType(dtype_of(a), a.shape) for n, a in ARRAYS.items()}
    save_safetensors(path, types, ARRAYS.__getitem__, metadata={"by": "netdsl"})
    found = safetensors.numpy.load_file(path)
    assert found.keys() == ARRAYS.keys()
    assert all(np.array_equal(found[n], a) for n, a in ARRAYS.items())
    assert load_checkpoint(path).metadata == {"by": "netdsl"}


@pytest.mark.parametrize("kind", KINDS)
def test_missing_names_list_the_nearest(kind, tmp_path):
    path = save(tmp_path, kind, {"stem.conv1.weight": ARRAYS["stem.conv.weight"], "other": ARRAYS["stem.conv.bias"]})
    text = messages(lambda: WeightStore(parameters(), checkpoint=load_checkpoint(path)))
    assert "the checkpoint lacks 4 of the network's 4 parameters" in text
    assert "missing: stem.conv.weight, float32[2, 3, 4]; the nearest is stem.conv1.weight, float32[2, 3, 4]" in text
    assert str(path) in text


def test_common_prefix_is_named(tmp_path):
    path = save(tmp_path, "npz", {f"module.{n}": a for n, a in ARRAYS.items()})
    text = messages(lambda: WeightStore(parameters(), checkpoint=load_checkpoint(path)))
    assert 'the names of the checkpoint begin with "module."' in text


def test_a_model_with_folded_weights_is_named(tmp_path):
    path = save(tmp_path, "onnx", {"stem.conv.weight/folded": ARRAYS["stem.conv.weight"]})
    text = messages(lambda: WeightStore(parameters(), checkpoint=load_checkpoint(path)))
    assert "compile it with -O 0" in text


def test_wrong_shapes_and_types_are_listed_together(tmp_path):
    arrays = {**ARRAYS, "stem.conv.weight": np.zeros((2, 3, 5), np.float32), "scalar": np.array(3)}
    path = save(tmp_path, "safetensors", arrays)
    text = messages(lambda: WeightStore(parameters(), checkpoint=load_checkpoint(path)))
    assert "stem.conv.weight: expected float32[2, 3, 4], found float32[2, 3, 5]" in text
    assert "scalar: expected float32[], found int64[]" in text


def test_unexpected_names_are_no_fault(tmp_path):
    path = save(tmp_path, "npz", {**ARRAYS, "stem.bn.num_batches_tracked": np.array(7)})
    WeightStore(parameters(), checkpoint=load_checkpoint(path))


@pytest.mark.parametrize("kind", ["safetensors", "npz", "onnx"])
@pytest.mark.parametrize("keep", [0, 5, 40, 0.5, 0.98])
def test_truncated_files(kind, keep, tmp_path):
    arrays = {"a": np.random.default_rng(0).standard_normal(1000).astype(np.float32)}
    path = save(tmp_path, kind, arrays)
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    text = messages(lambda: load_checkpoint(path).read("a"))
    assert "the checkpoint cannot be read" in text


@pytest.mark.parametrize(
    "header",
    [
        b"[]",
        b"{",
        b'{"a": 3}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}',
        b'{"a": {"dtype": "F32", "shape": ["x"], "data_offsets": [0, 8]}}',
        b'{"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}}',
        b"\xff\xfe",
        b"[" * 100_000,
    ],
)
def test_wrong_safetensors_headers(header, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    assert "the checkpoint cannot be read" in messages(lambda: load_checkpoint(path))


def test_element_types_that_do_not_exist_here(tmp_path):
    path = tmp_path / "m.safetensors"
    header = json.dumps({"a": {"dtype": "F8_E4M3", "shape": [2], "data_offsets": [0, 2]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(2))
    part = Parameter(Value("a", TensorType(DType.float32, (2,))), ZEROS)
    assert "found F8_E4M3[2]" in messages(lambda: WeightStore([part], checkpoint=load_checkpoint(path)))


def test_nothing_is_unpickled(tmp_path):
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    np.savez(tmp_path / "m.npz", a=np.array([Trap()], dtype=object))
    part = Parameter(Value("a", TensorType(DType.float32, (1,))), ZEROS)
    assert "object" in messages(lambda: WeightStore([part], checkpoint=load_checkpoint(tmp_path / "m.npz")))
    (tmp_path / "m.pt").write_bytes(pickle.dumps({"a": 1}))
    text = messages(lambda: load_checkpoint(tmp_path / "m.pt"))
    assert "convert it once in PyTorch" in text


def test_other_kinds_and_missing_files(tmp_path):
    (tmp_path / "m.txt").write_text("x")
    assert "a checkpoint is a .safetensors, .npz or .onnx file" in messages(lambda: load_checkpoint(tmp_path / "m.txt"))
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "m.npz")


@pytest.mark.parametrize("location", ["../m.bin", "/etc/hostname", "a/../../m.bin", "", "missing.bin"])
def test_external_data_stays_in_its_folder(location, tmp_path):
    path = save(tmp_path, "onnx_external", {"a": np.ones(4, np.float32)})
    model = onnx.load(path, load_external_data=False)
    model.graph.initializer[0].external_data[0].value = location
    path.write_bytes(model.SerializeToString())
    text = messages(lambda: load_checkpoint(path).read("a"))
    assert "missing beside it" in text if location == "missing.bin" else "outside of the model's folder" in text
