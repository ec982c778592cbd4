"""ONNX against NumPy: joining, reshaping, slicing, padding and moving elements."""

from __future__ import annotations

import numpy as np

from tests.ops.harness import Case

CALLS = {
    "split": "split([1, 2, 3])[1]",
    "split_last": "split(3, axis=-1)[2]",
    "flatten": "flatten",
    "flatten_some": "flatten(1, 2)",
    "flatten_all": "flatten(start=0)",
    "reshape": "reshape([-1, 9, 10])",
    "transpose": "transpose",
    "transpose_axes": "transpose([0, 2, 3, 1])",
    "unsqueeze": "unsqueeze([0, -1])",
    "squeeze": "unsqueeze([0, 3]) -> squeeze([0, 3])",
    "expand": "unsqueeze(1) -> expand([-1, 2, -1, -1, -1])",
    "expand_front": "expand([3, -1, -1, -1, -1])",
    "tile": "tile([2, 1, 3, 1])",
    "tile_last": "tile(2)",
    "pad": "pad(2, value=1)",
    "pad_pairs": "pad([(1, 0), (2, 3)])",
    "reflect": 'pad([1, 2], mode="reflect")',
    "replicate": 'pad([1, 2], mode="replicate")',
    "crop": "crop([3, 4])",
    "crop_offset": "crop(2, offset=[0, 3])",
    "channel_shuffle": "channel_shuffle(3)",
    "space_to_depth": "crop(4) -> space_to_depth(2)",
    "pixel_shuffle": "tile([1, 2, 1, 1]) -> pixel_shuffle(2)",
    "resize": "resize(2)",
}
TYPES = ("float32", "float16", "bfloat16", "float64", "int8", "uint8", "int32", "int64", "bool")
CASES = [
    Case(
        f"{name}_{dtype}", f"input x: {dtype}[N, 6, 5, 9]  output y = x -> {call}", {"x": (2, 6, 5, 9)}, rtol=0, atol=0
    )
    for name, call in CALLS.items()
    for dtype in TYPES
    if (name, dtype) != ("resize", "float64")  # goes through float32
]

SYMBOLIC = {
    "concat": "concat(x, x, x)",
    "concat_batch": "concat([x, x], axis=0)",
    "concat_last": "concat(x, x, axis=-1)",
    "split": "split(x, 2, axis=2)[1]",
    "flatten": "flatten(x)",
    "flatten_spatial": "flatten(x, start=2)",
    "flatten_channels": "flatten(x, 1, 2)",
    "reshape_split": "reshape(x, [x.shape[0], 2, 3, x.shape[2], x.shape[3]])",
    "reshape_rest": "reshape(x, [x.shape[0], 6, -1])",
    "expand": "expand(unsqueeze(x, 0), [x.shape[3], -1, -1, -1, -1])",
    "crop": "crop(x, [x.shape[2] // 2, x.shape[3]])",
    "pad": "pad(x, 1)",
    "space_to_depth": "space_to_depth(crop(x, [x.shape[2], 2]), 2)",
    "first_half": "x[:, :, : x.shape[2] // 2]",
    "last": "x[..., -1]",
    "last_two": "x[:, :, -2:]",
    "but_first": "x[1:]",
    "every_second": "x[:, ::2, 1::2]",
    "backward": "x[..., ::-1]",
    "backward_part": "x[:, 4:1:-1, -1:0:-1]",
    "item": "x[0, 2]",
}
CASES += [
    Case(
        f"symbolic_{name}",
        f"input x: float32[N + 1, 6, 2*h, W + 1]  output y = {call}",
        {"x": (3, 6, 4, 5)},
        rtol=0,
        atol=0,
    )
    for name, call in SYMBOLIC.items()
]
IDS = np.array([[0, 2, 4], [1, 1, 3]])
CASES += [
    Case(
        f"gather_{axis}_{dtype}",
        f"input x: float32[6, 5, 7]  input ids: {dtype}[M, 3]  output y = gather(x, ids, axis={axis})",
        {"x": (6, 5, 7), "ids": IDS.astype(dtype)},
    )
    for axis in (0, 1, -1)
    for dtype in ("int32", "int64", "uint8")
]
CASES += [
    Case(
        f"one_hot_{dtype}",
        f"input ids: int64[M, 4]  output y = one_hot(ids, 3, dtype={dtype})",
        {"ids": np.array([[0, 1, 2, 3], [-1, -3, -4, 9]])},
    )
    for dtype in TYPES
]
CASES += [
    Case("tensor", "input x: float32[N, 2]  output y = x * tensor([[1, 2.5]])", {"x": (3, 2)}),
    Case("tensor_int", "input x: int64[N, 2]  output y = x + tensor([[1, -2]], dtype=int64)", {"x": (3, 2)}),
]
