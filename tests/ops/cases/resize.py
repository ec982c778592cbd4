"""ONNX against NumPy: resize in every mode, by scale and by size."""

from __future__ import annotations

from tests.ops.harness import Case

SHAPES = {
    "1d": ("[N, 3, 7]", (2, 3, 7)),
    "2d": ("[N, 3, 5, 7]", (2, 3, 5, 7)),
    "3d": ("[N, 3, 4, 5, 7]", (2, 3, 4, 5, 7)),
    "symbolic": ("[N, 3, H, W]", (2, 3, 5, 7)),
}
SCALES = ("2", "3", "0.5", "1.5", "0.7", "1 / 3")
CASES = [
    Case(
        f"{mode}_{align}_{name}_{scale}".replace(" / ", "_"),
        f'input x: float32{kind}  output y = x -> resize({scale}, mode="{mode}", align="{align}")',
        {"x": shape},
        opsets=(17, 26),
        rtol=1e-4,
        atol=1e-4,
    )
    for mode in ("nearest", "bilinear", "bicubic")
    for align in ("half_pixel", "corners", "asymmetric")
    for name, (kind, shape) in SHAPES.items()
    for scale in SCALES
    if not (mode == "bicubic" and name == "3d")
]
CASES += [
    Case(
        f"size_{mode}_{align}",
        "input x: float32[N, 3, H, 7]  "
        f'output y = x -> resize(size=[2 * x.shape[2], 4], mode="{mode}", align="{align}")',
        {"x": (2, 3, 5, 7)},
        rtol=1e-4,
        atol=1e-4,
    )
    for mode in ("nearest", "bilinear", "bicubic")
    for align in ("half_pixel", "corners", "asymmetric")
]
TYPES = {"float16": 2e-2, "bfloat16": 4e-2, "float64": 1e-5}
CASES += [
    Case(
        f"{mode}_{dtype}",
        f'input x: {dtype}[N, 3, 5, 7]  output y = x -> resize(2, mode="{mode}")',
        {"x": (2, 3, 5, 7)},
        rtol=e,
        atol=e,
    )
    for dtype, e in TYPES.items()
    for mode in ("nearest", "bilinear", "bicubic")
]
