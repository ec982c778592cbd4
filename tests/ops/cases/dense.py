"""ONNX against NumPy: matrix products."""

from __future__ import annotations

from tests.ops.harness import Case

SHAPES = {
    "matrices": ((3, 4), (4, 5)),
    "vector_left": ((4,), (4, 5)),
    "vector_right": ((3, 4), (4,)),
    "vectors": ((4,), (4,)),
    "batch_left": ((2, 3, 4), (4, 5)),
    "batch_broadcast": ((2, 1, 3, 4), (6, 4, 5)),
}
TYPES = {
    "float32": 1e-5,
    "float16": 1e-2,
    "bfloat16": 6e-2,
    "float64": 1e-9,
    "int8": 0,
    "uint8": 0,
    "int32": 0,
    "int64": 0,
}


def _list(shape: tuple[int, ...]) -> str:
    return ", ".join(map(str, shape))


CASES = [
    Case(
        f"matmul_{name}",
        f"input a: float32[{_list(a)}]  input b: float32[{_list(b)}]  output y = a @ b",
        {"a": a, "b": b},
    )
    for name, (a, b) in SHAPES.items()
]
CASES += [
    Case(
        f"matmul_{dtype}",
        f"input a: {dtype}[N, 3, 4]  input b: {dtype}[N, 4, M]  output y = matmul(a, b)",
        {"a": (2, 3, 4), "b": (2, 4, 5)},
        rtol=error,
        atol=error,
    )
    for dtype, error in TYPES.items()
]
CASES += [
    Case(f"dense_{len(shape)}d", f"input x: float32[{_list(shape)}]  output y = x -> dense(7)", {"x": shape})
    for shape in [(5,), (3, 5), (2, 3, 5), (2, 3, 4, 5)]
]
CASES += [
    Case(
        f"dense_{dtype}",
        f"input x: {dtype}[N, L, 5]  output y = x -> dense(7, bias=false)",
        {"x": (2, 3, 5)},
        rtol=e,
        atol=e,
    )
    for dtype, e in TYPES.items()
    if "float" in dtype
]
CASES += [
    Case(
        f"embedding_{dtype}_{len(shape)}d",
        f"input ids: {dtype}[{_list(shape)}]  output y = ids -> embedding(5, 3)",
        {"ids": shape},
    )
    for dtype, shape in [("int64", (2, 7)), ("int32", (4,)), ("uint8", (2, 3, 4))]
]
