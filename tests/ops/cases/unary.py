"""ONNX against NumPy: elementary functions, sign and rounding."""

from __future__ import annotations

import numpy as np

from netdsl.ir.types import DType
from tests.ops.harness import Case

FLOATS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2, "float64": 1e-12}
ANY = ("abs", "exp", "sin", "cos", "erf", "sign", "floor", "ceil", "round")
POSITIVE = ("log", "sqrt", "rsqrt")
HALVES = np.linspace(-3, 3, 35).reshape(5, 7) * 2.5  # halves among them, for round

CASES = [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 7]  output y = {name}(x)",
        {"x": (np.abs(HALVES) + 0.25 if name in POSITIVE else HALVES).astype(DType[dtype].numpy)},
        rtol=2e-6 if (name, dtype) == ("erf", "float64") else tolerance,  # ONNX Runtime has no float64 erf
        atol=2e-6 if (name, dtype) == ("erf", "float64") else tolerance,
    )
    for name in (*ANY, *POSITIVE)
    for dtype, tolerance in FLOATS.items()
]
CASES += [
    Case(f"{name}_{dtype}", f"input x: {dtype}[N, 7]  output y = {name}(x)", {"x": (5, 7)}, rtol=0, atol=0)
    for name in ("abs", "sign")
    for dtype in ("int8", "uint8", "int32", "int64")
]
