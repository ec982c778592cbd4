"""ONNX against NumPy: convolutions over 1 to 3 axes, every padding, groups, dilation, symbolic sizes."""

from __future__ import annotations

from tests.ops.harness import Case

RANKS = {
    1: ("float32[N, 4, 9]", (2, 4, 9)),
    2: ("float32[N, 4, 9, 7]", (2, 4, 9, 7)),
    3: ("float32[N, 4, 5, 6, 7]", (2, 4, 5, 6, 7)),
}
CONV = {
    "plain": "conv(6, 3)",
    "strided": "conv(6, 3, stride=2, padding=1)",
    "grouped": "conv(6, 2, groups=2, bias=false)",
    "dilated": "conv(6, 2, dilation=2)",
    "same": 'conv(6, 3, stride=2, padding="same")',
    "depthwise": "depthwise_conv(3, multiplier=2, padding=1)",
    "transposed": "conv_transpose(6, 3, stride=2, padding=1, output_padding=1)",
    "transposed_grouped": "conv_transpose(6, 2, groups=2, dilation=2, bias=false)",
    "transposed_same": 'conv_transpose(6, 3, stride=2, padding="same")',
    "transposed_gaps": 'conv_transpose(6, 2, stride=3, padding="same")',
    "transposed_cut": "conv_transpose(6, 3, dilation=2, padding=1, output_padding=1)",
}
PLANAR = {
    "kernel_per_axis": "conv(6, (3, 2), stride=(1, 2), padding=(1, 0), dilation=(2, 1))",
    "padding_pairs": "conv(6, 3, padding=[(0, 2), (1, 0)])",
    "transposed_pairs": "conv_transpose(6, (3, 2), stride=(2, 3), padding=[(0, 1), (1, 0)])",
}

CASES = [
    Case(f"{name}_{rank}d", f"input x: {kind}  output y = x -> {call}", {"x": shape}, rtol=1e-4, atol=1e-4)
    for name, call in CONV.items()
    for rank, (kind, shape) in RANKS.items()
]
CASES += [
    Case(name, f"input x: float32[N, 4, 9, 7]  output y = x -> {call}", {"x": (2, 4, 9, 7)}, rtol=1e-4, atol=1e-4)
    for name, call in PLANAR.items()
]
CASES += [
    Case(
        f"same_symbolic_{stride}_{dilation}_{width}",
        "input x: float32[N, 3, H, W]  "
        f'output y = x -> conv(4, 3, stride={stride}, dilation={dilation}, padding="same")',
        {"x": (2, 3, 11, width)},
        rtol=1e-4,
        atol=1e-4,
    )
    for stride, dilation, width in [(1, 1, 6), (1, 2, 7), (2, 1, 6), (2, 1, 7), (3, 1, 8), (2, 2, 6), (2, 2, 9)]
]
TYPES = {"float16": 2e-2, "bfloat16": 6e-2, "float64": 1e-4}
CASES += [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 4, 7, 6]  output y = x -> {name}(3, 2)",
        {"x": (2, 4, 7, 6)},
        rtol=error,
        atol=error,
    )
    for dtype, error in TYPES.items()
    for name in ("conv", "conv_transpose")
]
