"""ONNX against NumPy: where, argmax, argmin, top_k; dropout and drop_path at inference."""

from __future__ import annotations

import numpy as np

from netdsl.ir.types import DType
from tests.ops.harness import Case

NUMBERS = tuple(str(t) for t in DType if t is not DType.bool)


def _ties(dtype: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
    """Small integers, many of them equal."""
    return np.random.default_rng(2).integers(0, 4, (2, 3, 5)).astype(DType[dtype].numpy)


CONDITION = np.random.default_rng(4).integers(0, 2, (3, 5)).astype(bool)

CASES = [
    Case(f"{name}_{dtype}", f"input x: {dtype}[N, 3, 5]  output y = {call}", {"x": _ties(dtype)}, rtol=0, atol=0)
    for name, call in {
        "argmax": "argmax(x)",
        "argmax_kept": "argmax(x, axis=1, keep=true)",
        "argmin": "argmin(x, 1)",
        "argmin_kept": "argmin(x, keep=true)",
    }.items()
    for dtype in NUMBERS
]
CASES += [
    Case(
        f"top_k_{axis}_{dtype}",
        f"input x: {dtype}[N, 3, 5]  v, i = top_k(x, 2, {axis})  output v, i",
        {"x": _ties(dtype)},
        rtol=0,
        atol=0,
    )
    for axis in (-1, 1)
    for dtype in NUMBERS
]
CASES += [
    Case(
        f"where_{dtype}",
        f"input c: bool[3, 5]  input x: {dtype}[N, 3, 1]  input z: {dtype}[5]  output y = where(c, x, z)",
        {
            "c": CONDITION,
            "x": _ties(dtype)[:, :, :1],
            "z": _ties(dtype)[0, 0] == 1 if dtype == "bool" else _ties(dtype)[1, 1],
        },
        rtol=0,
        atol=0,
    )
    for dtype in (*NUMBERS, "bool")
]
CASES += [
    Case(
        "where_number",
        "input c: bool[3, 5]  input x: float32[N, 1, 5]  output y = where(c, x, -1)",
        {"c": CONDITION, "x": (2, 1, 5)},
    ),
    Case("where_numbers", "input c: bool[3, 5]  output y = where(c, 1, 0.5)", {"c": CONDITION}),
    Case("where_compared", "input x: float32[N, 5]  output y = where(x > 0, x, 0.1 * x)", {"x": (3, 5)}),
    Case("dropout", "input x: float32[N, 5]  output y = x -> dropout", {"x": (3, 5)}),
    Case("drop_path", "input x: bfloat16[N, 5]  output y = x -> drop_path(0.1)", {"x": (3, 5)}),
]
