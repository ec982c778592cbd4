"""ONNX against NumPy: reductions over some axes and all, with and without keeping them."""

from __future__ import annotations

import numpy as np

from netdsl.ir.types import DType
from tests.ops.harness import Case

FLOATS = {"float32": 1e-4, "float16": 1e-2, "bfloat16": 4e-2, "float64": 1e-11}
INTEGERS = ("int8", "uint8", "int32", "int64")
ANY = ("sum", "max", "min", "prod")
CALLS = {
    **{name: name for name in ("mean", *ANY, "variance", "norm")},
    "variance_population": "variance(correction=0)",
    "norm_1": "norm(p=1)",
    "norm_3": "norm(p=3)",
}
AXES = {"all": "", "one": "axes=1", "two": "axes=[-1, 0]", "kept": "axes=[2, 1], keep=true"}


def _call(call: str, axes: str) -> str:
    name, _, arguments = call.removesuffix(")").partition("(")
    return f"{name}({', '.join(a for a in ('x', axes, arguments) if a)})"


def _values(dtype: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    kind = DType[dtype]
    drawn = np.random.default_rng(11).uniform(0.5, 1.5, (2, 3, 4, 5)) * np.asarray([1, -1, 1, 1])[:, None]
    return drawn.astype(kind.numpy) if kind.is_float else np.ceil(np.abs(drawn) * 2).astype(kind.numpy)


CASES = [
    Case(
        f"{name}_{place}_{dtype}",
        f"input x: {dtype}[N, 3, H, 5]  output y = {_call(call, axes)}",
        {"x": _values(dtype)},
        rtol=tolerance,
        atol=tolerance,
    )
    for name, call in CALLS.items()
    for place, axes in AXES.items()
    for dtype, tolerance in FLOATS.items()
    if dtype == "float32" or place in ("two", "kept")
]
CASES += [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 3, H, 5]  output y = {name}(x, 1)",
        {"x": _values(dtype)},
        rtol=0,
        atol=0,
    )
    for name in ANY
    for dtype in INTEGERS
]
CASES += [
    Case(
        f"cumsum_{axis}_{dtype}",
        f"input x: {dtype}[N, 3, H, 5]  output y = cumsum(x, {axis})",
        {"x": _values(dtype)},
        rtol=FLOATS.get(dtype, 0),
        atol=FLOATS.get(dtype, 0),
    )
    for axis in (-1, 1)
    for dtype in (*FLOATS, *INTEGERS)
]
CASES += [
    Case(f"{name}_scalar", f"input x: float32[]  output y = {name}(x)", {"x": ()})
    for name in ("mean", "sum", "max", "min", "prod", "norm")
]
