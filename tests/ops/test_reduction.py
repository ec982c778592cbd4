"""Reductions, cumsum, argmax, argmin, top_k, where: values, shapes with symbols, costs, refusals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from netdsl.ir.dims import symbol
from netdsl.ir.opdef import OpError, Primitive
from netdsl.ir.reach import POINTWISE, WHOLE
from netdsl.ir.types import DType
from netdsl.ops import PRIMITIVES
from tests.ops.building import Bench, result, tensor

X = np.random.default_rng(5).normal(size=(2, 3, 5))


#: (arguments, NumPy's own function, operations per input and per output element)
REDUCTIONS: dict[str, tuple[dict[str, Any], Callable[..., Any], tuple[int, int]]] = {
    "mean": ({}, np.mean, (1, 1)),
    "sum": ({}, np.sum, (1, 0)),
    "max": ({}, np.max, (0, 0)),
    "min": ({}, np.min, (0, 0)),
    "prod": ({}, np.prod, (1, 0)),
    "variance": ({}, lambda x, **k: np.var(x, ddof=1, **k), (4, 2)),
    "norm": ({}, lambda x, **k: np.sqrt(np.sum(x**2, **k)), (2, 1)),
}
VARIANTS: list[tuple[str, dict[str, Any], Callable[..., Any]]] = [
    *((name, arguments, function) for name, (arguments, function, _) in REDUCTIONS.items()),
    ("variance", {"correction": 0}, np.var),
    ("norm", {"p": 1}, lambda x, **k: np.sum(np.abs(x), **k)),
    ("norm", {"p": 3}, lambda x, **k: np.sum(np.abs(x) ** 3, **k) ** (1 / 3)),
]
INDICES: dict[str, Callable[..., Any]] = {"argmax": np.argmax, "argmin": np.argmin}


@pytest.mark.parametrize(("name", "arguments", "function"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("axes", [None, 1, [-1, 0]], ids=str)
@pytest.mark.parametrize("keep", [False, True])
def test_values(name: str, arguments: dict[str, Any], function: Callable[..., Any], axes: Any, keep: bool) -> None:
    numpy_axes = tuple(axes) if isinstance(axes, list) else axes
    expected = function(X, axis=numpy_axes, keepdims=keep)
    np.testing.assert_allclose(result(name, X, axes, keep, **arguments), expected, rtol=1e-12)


@pytest.mark.parametrize("name", REDUCTIONS)
def test_symbols_in_shapes(name: str) -> None:
    bench = Bench(tensor("float32", "N", 3, "H", 5))
    whole = bench.call(name, bench.inputs[0])
    rows = bench.call(name, bench.inputs[0], axes=[-1, 1])
    kept = bench.call(name, bench.inputs[0], axes=2, keep=True)
    assert (whole.shape, rows.shape) == ((), (symbol("N"), symbol("H")))
    assert kept.shape == (symbol("N"), 3, 1, 5)
    bench.run({bench.inputs[0]: np.ones((2, 3, 4, 5), np.float32)}, {"N": 2, "H": 4})


@pytest.mark.parametrize("name", REDUCTIONS)
@pytest.mark.parametrize("dtype", [t for t in DType if t.is_float], ids=str)
def test_element_type_stays(name: str, dtype: DType) -> None:
    y = result(name, X.astype(dtype.numpy), axes=-1)
    assert y.dtype == dtype.numpy
    rounding = 2.0 ** {"bfloat16": -6, "float16": -8, "float32": -18, "float64": -48}[str(dtype)]
    exact = result(name, X.astype(dtype.numpy).astype(np.float64), axes=-1)
    np.testing.assert_allclose(y.astype(np.float64), exact, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
def test_integers_keep_their_type(dtype: str) -> None:
    x = np.asarray([[1, 2, 3], [4, 5, 6]], dtype)
    for name, expected in {"sum": [6, 15], "prod": [6, 120], "max": [3, 6], "min": [1, 4]}.items():
        y = result(name, x, axes=1)
        assert y.dtype == dtype
        np.testing.assert_array_equal(y, expected)
    np.testing.assert_array_equal(result("cumsum", x, axis=0), [[1, 2, 3], [5, 7, 9]])


@pytest.mark.parametrize("name", REDUCTIONS)
def test_cost_and_reach(name: str) -> None:
    bench = Bench(tensor("float32", "N", 3, 4))
    y = bench.call(name, bench.inputs[0], axes=-1)
    (node,) = bench.builder.nodes
    each, after = REDUCTIONS[name][2]
    n = symbol("N")
    assert node.op.cost([bench.inputs[0].type], [y.type]).flops == 12 * each * n + 3 * after * n
    assert node.op.reach([bench.inputs[0].type], [y.type]) == WHOLE
    bench.call(name, bench.inputs[0], axes=1)
    assert bench.builder.nodes[-1].op.reach([bench.inputs[0].type], [y.type]) == POINTWISE


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("keep", [False, True])
def test_argmax_and_argmin(name: str, axis: int, keep: bool) -> None:
    y = result(name, X, axis, keep)
    np.testing.assert_array_equal(y, INDICES[name](X, axis=axis, keepdims=keep))
    assert y.dtype == np.int64
    assert result(name, np.asarray([3, 3, 3], np.int8)) == 0


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_cumsum(axis: int) -> None:
    np.testing.assert_allclose(result("cumsum", X, axis), np.cumsum(X, axis=axis), rtol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "int64"])
def test_top_k(axis: int, dtype: str) -> None:
    x = np.random.default_rng(0).integers(0, 6, (3, 4, 5)).astype(dtype)
    values, indices = result("top_k", x, 2, axis)
    order = np.argsort(-x.astype(np.float64), axis=axis, kind="stable").take([0, 1], axis)
    np.testing.assert_array_equal(indices, order)
    np.testing.assert_array_equal(values, np.take_along_axis(x, order, axis))


def test_top_k_of_a_symbol() -> None:
    bench = Bench(tensor("float32", 2, "C"))
    values, indices = bench.call("top_k", bench.inputs[0], 5)
    assert (values.type, indices.type) == (tensor("float32", 2, 5), tensor("int64", 2, 5))


def test_where() -> None:
    condition = np.asarray([[True], [False]])
    a, b = np.asarray([1.0, 2, 3], np.float32), np.asarray([[10.0], [20]], np.float32)
    np.testing.assert_array_equal(result("where", condition, a, b), [[1, 2, 3], [20, 20, 20]])
    np.testing.assert_array_equal(result("where", condition, a, -1), [[1, 2, 3], [-1, -1, -1]])
    np.testing.assert_array_equal(result("where", condition, 0, b), [[0], [20]])


@pytest.mark.parametrize(("a", "b", "dtype"), [(1, 0, "int64"), (1, 0.5, "float32"), (True, False, "bool")])
def test_where_of_two_numbers(a: Any, b: Any, dtype: str) -> None:
    y = result("where", np.asarray([True, False]), a, b)
    assert y.dtype == dtype
    np.testing.assert_array_equal(y, [a, b])


@pytest.mark.parametrize(
    ("name", "type", "arguments", "words"),
    [
        ("mean", ("int32", 3), {}, "mean needs a float tensor, found int32[3]"),
        ("sum", ("bool", 3), {}, "sum needs a tensor of numbers, found bool[3]"),
        ("sum", ("float32", 3), {"axes": 1}, "sum: axis 1 is out of range for a tensor of rank 1"),
        ("max", ("float32", 3, 4), {"axes": [0, -2]}, "max: an axis stands twice in [0, -2]"),
        ("min", ("float32", 3), {"axes": []}, "min: the list of axes is empty"),
        ("argmax", ("bool", 3), {}, "argmax needs a tensor of numbers"),
        ("argmin", ("float32", 3), {"axis": 2}, "argmin: axis 2 is out of range"),
        ("cumsum", ("float32",), {}, "cumsum: axis -1 is out of range for a tensor of rank 0"),
        ("top_k", ("float32", 2, 3), {"k": 4}, "top_k: k=4 is more than the 3 elements of axis 1 of float32[2, 3]"),
        ("where", ("float32", 2), {"a": 1, "b": 2}, "where needs a bool condition, found float32[2]"),
    ],
)
def test_refusals(name: str, type: tuple[Any, ...], arguments: dict[str, Any], words: str) -> None:
    bench = Bench(tensor(*type))
    with pytest.raises(OpError) as caught:
        bench.call(name, bench.inputs[0], **arguments)
    assert words in caught.value.message


def test_a_node_checks_its_own_axes() -> None:
    sum_: type[Primitive] = PRIMITIVES["sum"]
    with pytest.raises(OpError, match="out of range"):
        sum_(axes=(3,)).infer(tensor("float32", 2))  # type: ignore[call-arg]


@pytest.mark.torch
@pytest.mark.parametrize("name", [*REDUCTIONS, *INDICES, "cumsum", "top_k"])
def test_like_pytorch(name: str) -> None:
    torch = pytest.importorskip("torch")
    x = torch.from_numpy(X)
    functions: dict[str, Callable[..., Any]] = {
        "max": torch.amax,
        "min": torch.amin,
        "variance": torch.var,
        "norm": torch.linalg.vector_norm,
        "top_k": lambda t, dim: torch.topk(t, 2, dim),
    }
    expected = functions.get(name, getattr(torch, name, None))(x, dim=1)  # type: ignore[misc]
    arguments = {"top_k": {"k": 2, "axis": 1}}.get(name, {"axis" if name in (*INDICES, "cumsum") else "axes": 1})
    found = result(name, X, **arguments)
    pairs = zip(found, expected, strict=True) if name == "top_k" else [(found, expected)]
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-12)
