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


def _overlapping(count: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    """Boxes `[2, count, 4]` of which many overlap; corners in any order."""
    random = np.random.default_rng(7)
    centres, sizes = random.uniform(0, 4, (2, count, 2)), random.uniform(1, 3, (2, count, 2))
    corners = np.stack([centres - sizes / 2, centres + sizes / 2], axis=2)
    return random.permuted(corners, axis=2).reshape(2, count, 4).astype(np.float32)


#: scores in steps of an eighth, so that some are equal
SCORES = (np.random.default_rng(8).integers(0, 8, (2, 3, 20)) / 8).astype(np.float32)
SUPPRESSED = "input b: {dtype}[N, K, 4]  input s: {dtype}[N, 3, K]  chosen = non_max_suppression(b, s{options})  "
SUPPRESSION = {
    "default": "",
    "limited": ", 2, 0.3",
    "scored": ", score_threshold=0.5, iou_threshold=0.2",
    "none_left": ", score_threshold=2",
    "none_wanted": ", 0",
    "centres": ", center_point_box=true",
}
CASES += [
    Case(
        f"non_max_suppression_{name}",
        SUPPRESSED.format(dtype="float32", options=options) + "output chosen",
        {"b": _overlapping(20), "s": SCORES},
        rtol=0,
        atol=0,
    )
    for name, options in SUPPRESSION.items()
]
CASES += [
    Case(
        f"non_max_suppression_{dtype}",
        SUPPRESSED.format(dtype=dtype, options="") + "output chosen",
        {"b": _overlapping(20).astype(dtype), "s": SCORES.astype(dtype)},
        rtol=0,
        atol=0,
    )
    for dtype in ("float16", "float64")
]
#: what is behind it: gathers, and shapes that name the count without reading the result
BEHIND = """
    b = cast(corners, float32) / 8
    chosen = non_max_suppression(b, s{options})
    row = chosen[:, 0] * b.shape[1] + chosen[:, 2]
    output boxes = b -> flatten(0, 1) -> gather(row)
    output share = boxes / (chosen.shape[0] + 1)
    output ones = tensor([1.0]) -> expand([2 * chosen.shape[0], 3])
    output pooled = x -> roi_align(boxes, 2, sampling_ratio=1, batch_indices=chosen[:, 0])
    output largest = x -> roi_pool(boxes, 2, batch_indices=chosen[:, 0])
"""
CASES += [
    Case(
        f"non_max_suppression_and_behind_{name}",
        "input x: float32[N, 3, 7, 9]  input corners: int64[N, K, 4]  input s: float32[N, 3, K]"
        + BEHIND.format(options=options),
        {"x": (2, 3, 7, 9), "corners": (8 * _overlapping(20)).astype(np.int64), "s": SCORES},
    )
    for name, options in {"some": "", "none": ", score_threshold=2"}.items()
]
CASES.append(
    Case(
        "non_max_suppression_of_one_class",
        "input b: float32[K, 4]  input s: float32[K]  output chosen = non_max_suppression(b, s, 5)",
        {"b": _overlapping(20)[0], "s": SCORES[0, 0]},
        rtol=0,
        atol=0,
    )
)
