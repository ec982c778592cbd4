"""ONNX against NumPy: normalisations over known and symbolic sizes."""

from __future__ import annotations

from tests.ops.harness import Case

CALLS = {
    "batch_norm": "batch_norm",
    "instance_norm": "instance_norm",
    "instance_norm_affine": "instance_norm(affine=true)",
    "group_norm": "group_norm(2)",
    "group_norm_whole": "group_norm(groups=1, epsilon=0.01)",
    "switchable_norm": "switchable_norm",
    "layer_norm_channels": "layer_norm(axes=1)",
    "rms_norm_channels": "rms_norm(axes=1)",
    "local_response_norm": "local_response_norm(3, alpha=0.3, k=2.0)",
    "local_response_norm_even": "local_response_norm(4, alpha=0.3)",
    "local_response_norm_wide": "local_response_norm(9, alpha=0.3, beta=0.5)",
}
SHAPES = {
    "1d": ("[N, 6, L]", (2, 6, 5)),
    "2d": ("[N, 6, H, W]", (2, 6, 5, 7)),
    "3d": ("[N, 6, 4, H, W]", (2, 6, 4, 5, 7)),
}
KNOWN = {
    "layer_norm": "layer_norm",
    "layer_norm_pair": "layer_norm(axes=[-2, -1])",
    "layer_norm_all": "layer_norm(axes=[1, 2, 3])",
    "layer_norm_apart": "layer_norm(axes=[1, 3])",
    "rms_norm": "rms_norm",
    "rms_norm_apart": "rms_norm(axes=[1, 3])",
}
TYPES = {"float32": 1e-4, "float16": 2e-2, "bfloat16": 8e-2, "float64": 1e-5}
OPSETS = (17, 18, 21, 23, 26)

CASES = [
    Case(
        f"{name}_{rank}",
        f"input x: float32{kind}  output y = x -> {call}",
        {"x": shape},
        opsets=OPSETS,
        rtol=1e-4,
        atol=1e-4,
    )
    for name, call in CALLS.items()
    for rank, (kind, shape) in SHAPES.items()
]
CASES += [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 6, 5, 7]  output y = x -> {call}",
        {"x": (2, 6, 5, 7)},
        opsets=OPSETS,
        rtol=e,
        atol=e,
    )
    for name, call in (CALLS | KNOWN).items()
    for dtype, e in TYPES.items()
]
CASES += [
    Case(
        f"{name}_flat",
        f"input x: float32[N, 6]  output y = x -> {call}",
        {"x": (5, 6)},
        opsets=OPSETS,
        rtol=1e-4,
        atol=1e-4,
    )
    for name, call in {"batch_norm": "batch_norm", "group_norm": "group_norm(2)", "layer_norm": "layer_norm"}.items()
]
