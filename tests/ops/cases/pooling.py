"""ONNX against NumPy: pools, with every kind of padding, rounding and dilation, on known and on symbolic sizes."""

from __future__ import annotations

from itertools import product

import numpy as np

from tests.ops.harness import Case

WINDOWS = [
    (kernel, stride, padding, dilation)
    for kernel, stride, padding, dilation in product((2, 3), (1, 2, 3), (0, 1), (1, 2))
    if 2 * padding <= kernel
]


def _pool(name: str, kind: str, size: int, arguments: str) -> Case:
    return Case(
        f"{name}_{kind}{size}_{arguments}".translate(str.maketrans(' =,"', "____")),
        f"input x: float32[N, 3, {kind if kind == 'W' else size}]  output y = x -> {name}({arguments})",
        {"x": (2, 3, size)},
        opsets=(17, 19, 26),
    )


CASES = [
    _pool(name, kind, size, f"{k}, stride={s}, padding={p}, dilation={d}, ceil={ceil}{more}")
    for k, s, p, d in WINDOWS
    for ceil in ("false", "true")
    for kind, size in [("k", 11), ("W", 12)]
    for name, more in [("max_pool", ""), ("avg_pool", ""), ("avg_pool", ", count_include_pad=false")]
]
CASES += [
    _pool(name, kind, size, f'{k}, stride={s}, dilation={d}, padding="same"{more}')
    for k, s, d in [(2, 2, 1), (3, 2, 1), (3, 2, 2), (2, 1, 4)]
    for kind, size in [("k", 11), ("W", 12), ("W", 13)]
    for name, more in [("max_pool", ""), ("avg_pool", ""), ("avg_pool", ", count_include_pad=false")]
]

PLANAR = {
    "max_per_axis": "max_pool((3, 2), stride=(2, 1), padding=[(1, 0), (0, 1)])",
    "avg_per_axis": "avg_pool((3, 2), stride=(2, 1), padding=[(1, 0), (0, 1)])",
    "global_avg": "global_avg_pool",
    "global_max": "global_max_pool",
    "adaptive_one": "adaptive_avg_pool(1)",
    "adaptive_even": "adaptive_avg_pool((4, 3))",
    "adaptive_overlapping": "adaptive_avg_pool((3, 4))",
    "adaptive_larger": "adaptive_avg_pool((8, 11))",
}
TYPES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 3e-2, "float64": 1e-5}
CASES += [
    Case(
        f"{name}_{dtype}", f"input x: {dtype}[N, 3, 8, 9]  output y = x -> {call}", {"x": (2, 3, 8, 9)}, rtol=e, atol=e
    )
    for name, call in PLANAR.items()
    for dtype, e in TYPES.items()
]
CASES += [
    Case(
        f"max_pool_{dtype}",
        f'input x: {dtype}[N, 3, H, 9]  output y = x -> max_pool(3, stride=2, padding="same")',
        {"x": (2, 3, 8, 9)},
    )
    for dtype in ("int8", "uint8")
]
CASES += [
    Case(
        "max_pool_3d", "input x: float32[N, 3, 5, 6, 7]  output y = x -> max_pool(2, ceil=true)", {"x": (2, 3, 5, 6, 7)}
    ),
    Case(
        "avg_pool_3d", "input x: float32[N, 3, 5, 6, 7]  output y = x -> avg_pool(3, padding=1)", {"x": (2, 3, 5, 6, 7)}
    ),
    Case("global_symbolic", "input x: float32[N, 3, H, W]  output y = x -> global_avg_pool", {"x": (2, 3, 5, 7)}),
    Case(
        "adaptive_symbolic",
        "input x: float32[N, 3, 4*h, 7]  output y = x -> adaptive_avg_pool((2, 3))",
        {"x": (2, 3, 12, 7)},
    ),
]
UNPOOLED = (
    "input x: float32[N, 3, {h}, {w}]  v, i = x -> max_pool_indices(2)  "
    "output v, i  output y = max_unpool(v, i, 2{size})"
)
CASES += [
    Case("max_unpool", UNPOOLED.format(h=4, w=6, size=""), {"x": (2, 3, 4, 6)}),
    Case("max_unpool_symbolic", UNPOOLED.format(h="2*h", w="2*w", size=""), {"x": (2, 3, 4, 6)}),
    Case("max_unpool_odd", UNPOOLED.format(h=5, w=7, size=", size=x.shape[2:]"), {"x": (2, 3, 5, 7)}),
    Case(
        "max_pool_indices_padded",
        "input x: float32[N, 3, 5, 7]  v, i = x -> max_pool_indices(3, stride=2, padding=1)  output v, i",
        {"x": (2, 3, 5, 7)},
    ),
    Case(
        "max_pool_indices_same",
        'input x: float32[N, 3, H, W]  v, i = x -> max_pool_indices(3, stride=2, padding="same")  output v, i',
        {"x": (2, 3, 5, 6)},
    ),
    Case(
        "max_pool_indices_ties",
        "input x: float32[1, 1, 6]  v, i = x -> max_pool_indices(3, padding=1, stride=1)  output v, i",
        {"x": np.array([[[-1, -1, 2, 2, 0, 2]]], np.float32)},
    ),
]
