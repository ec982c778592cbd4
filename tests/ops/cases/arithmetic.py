"""ONNX against NumPy: arithmetic and comparisons, of every element type, between tensors, numbers and dimensions."""

from __future__ import annotations

import numpy as np

from netdsl.ir.types import DType, NDArrayAny
from tests.ops.harness import Case

FLOATS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2, "float64": 1e-12}
INTEGERS = ("int8", "uint8", "int32", "int64")
OPERATIONS = {
    "add": "+",
    "sub": "-",
    "mul": "*",
    "div": "/",
    "floor_div": "//",
    "mod": "%",
    "equal": "==",
    "not_equal": "!=",
    "less": "<",
    "less_equal": "<=",
    "greater": ">",
    "greater_equal": ">=",
}


def drawn(dtype: str, low: int, high: int, *shape: int) -> NDArrayAny:
    """Integers, none of them zero; for floats their halves, whose quotients are exact in narrow types too."""
    values = np.random.default_rng(7).integers(0 if dtype == "uint8" else low, high, shape)
    values = np.where(values == 0, 2, values)
    return (values / 2 if DType[dtype].is_float else values).astype(DType[dtype].numpy)


def _pair(name: str, expression: str, dtype: str, tolerance: float, low: int = -9, high: int = 9) -> Case:
    source = f"input x: {dtype}[N, 3, 1, 5]  input z: {dtype}[3, 4, 1]  output y = {expression}"
    inputs = {"x": drawn(dtype, low, high, 2, 3, 1, 5), "z": drawn(dtype, low, high, 3, 4, 1)}
    return Case(f"{name}_{dtype}", source, inputs, rtol=tolerance, atol=tolerance)


TYPES = [*FLOATS.items(), *((dtype, 0.0) for dtype in INTEGERS)]

CASES = [
    _pair(name, f"x {symbol} z", dtype, tolerance)
    for name, symbol in OPERATIONS.items()
    for dtype, tolerance in TYPES
    if symbol != "/" or dtype in FLOATS
]
CASES += [_pair("pow", "x ** z", dtype, tolerance, low=1, high=4) for dtype, tolerance in TYPES]
CASES += [_pair("number_right", "3 * x - 2", dtype, tolerance) for dtype, tolerance in TYPES if dtype != "uint8"]
CASES += [
    _pair("number_left", "(5 - x) % 3 + 7 // z", dtype, tolerance) for dtype, tolerance in TYPES if dtype != "uint8"
]
CASES += [_pair("negative", "-x", dtype, tolerance) for dtype, tolerance in TYPES]
CASES += [_pair("joined", "add(x, z, 1)", dtype, tolerance) for dtype, tolerance in TYPES]
CASES += [_pair("product", "multiply([x, z, x])", dtype, tolerance, low=1, high=4) for dtype, tolerance in TYPES]
CASES += [_pair("largest", "maximum(x, z, 1)", dtype, tolerance) for dtype, tolerance in TYPES]
CASES += [_pair("smallest", "minimum(x, z, 1)", dtype, tolerance) for dtype, tolerance in TYPES]
CASES += [_pair("half_power", "x ** 0.5", dtype, tolerance, low=1) for dtype, tolerance in FLOATS.items()]
CASES += [
    Case("dimension", "input x: float32[N, C]  output y = x * N / (C - 1)", {"x": (3, 5)}),
    Case("dimension_of_integers", "input x: int32[N, C]  output y = x // N + C", {"x": drawn("int32", -9, 9, 3, 5)}),
    Case("equal_bool", "input x: bool[N, 5]  output y = x == (x != true)", {"x": np.arange(15).reshape(3, 5) % 2 == 0}),
]

SPECIAL = [7, -7, 1e6, -1e6, 0.3, -0.3, np.inf, -np.inf, np.nan, 0, 1]
DIVISORS = [3, -3, 0.1, -0.1, np.inf, -np.inf, 0]
CASES += [
    Case(
        f"{name}_special_{dtype}",
        f"input x: {dtype}[11, 1]  input z: {dtype}[7]  output y = x {symbol} z",
        {"x": np.asarray(SPECIAL, dtype)[:, None], "z": np.asarray(DIVISORS, dtype)},
    )
    for name, symbol in {"floor_div": "//", "mod": "%"}.items()
    for dtype in ("float32", "float64")
]


def _limits(dtype: str) -> NDArrayAny:
    limits = np.iinfo(dtype)
    return np.asarray([limits.min, limits.min + 1, limits.max, limits.max - 1, 7], dtype)


CASES += [
    Case(
        f"{name}_limits_{dtype}",
        f"input x: {dtype}[5, 1]  input z: {dtype}[3]  output y = x {symbol} z",
        {"x": _limits(dtype)[:, None], "z": np.asarray([3, 5 if dtype == "uint8" else -3, np.iinfo(dtype).max], dtype)},
        rtol=0,
        atol=0,
    )
    for name, symbol in {"floor_div": "//", "mod": "%"}.items()
    for dtype in INTEGERS
]
