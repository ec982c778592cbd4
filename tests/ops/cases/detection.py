"""ONNX against NumPy: pooling of regions. Boxes come as integers, an eighth of a pixel each: they take no gradient."""

from __future__ import annotations

import numpy as np

from tests.ops.harness import Case

#: picture, x1, y1, x2, y2 in eighths: inside, on the border, beyond it, turned over, smaller than a pixel, outside
BOXES = np.array(
    [
        [0, 9, 13, 51, 46],
        [1, 0, 0, 72, 56],
        [1, -21, -9, 37, 95],
        [0, 40, 30, 17, 11],
        [1, 21, 22, 23, 25],
        [0, 200, 200, 260, 300],
    ],
    np.int64,
)
INPUTS = {"x": (2, 3, 7, 9), "b": BOXES}
SCALED = "boxes = concat(cast(b[:, :1], {dtype}), cast(b[:, 1:], {dtype}) / 8)"


def _program(call: str, dtype: str = "float32", sizes: str = "2, 3, 7, 9", boxes: str = "K") -> str:
    return f"input x: {dtype}[{sizes}]  input b: int64[{boxes}, 5]  {SCALED.format(dtype=dtype)}  output y = {call}"


ALIGN = {
    "adaptive": "roi_align(x, boxes, (2, 3))",
    "adaptive_aligned": "roi_align(x, boxes, (2, 3), scale=0.5, aligned=true)",
    "one_sample": "roi_align(x, boxes, 2, 1.0, 1)",
    "two_samples": "roi_align(x, boxes, (3, 2), 0.7, 2, true)",
    "zero_samples": "roi_align(x, boxes, (3, 2), sampling_ratio=0)",
    "given_pictures": "roi_align(x, boxes[:, 1:], 2, batch_indices=cast(b[:, 0], int32), sampling_ratio=2)",
}
POOL = {
    "whole": "roi_pool(x, boxes, (2, 3))",
    "scaled": "roi_pool(x, boxes, size=3, scale=0.5)",
    "given_pictures": "roi_pool(x, boxes[:, 1:], 4, batch_indices=b[:, 0])",
}
CASES = [
    Case(f"{name}_{kind}", _program(call), INPUTS)
    for name, calls in {"roi_align": ALIGN, "roi_pool": POOL}.items()
    for kind, call in calls.items()
]
CASES += [
    Case(f"{name}_symbolic", _program(call, sizes="N, 3, H, W"), INPUTS)
    for name, call in {"roi_align": ALIGN["adaptive"], "roi_pool": POOL["whole"]}.items()
]
CASES += [
    Case(
        f"{name}_one_picture",
        _program(call, sizes="1, 3, 7, 9", boxes="6"),
        {"x": (1, 3, 7, 9), "b": BOXES},
    )
    for name, call in {
        "roi_align": "roi_align(x, boxes[:, 1:], 2, sampling_ratio=2)",
        "roi_pool": "roi_pool(x, boxes[:, 1:], 2)",
    }.items()
]
TYPES = {"float16": 1e-2, "bfloat16": 3e-2, "float64": 1e-5}
CASES += [
    Case(f"{name}_{dtype}", _program(call, dtype), INPUTS, rtol=e, atol=e)
    for name, call in {"roi_align": ALIGN["two_samples"], "roi_pool": POOL["scaled"]}.items()
    for dtype, e in TYPES.items()
]
