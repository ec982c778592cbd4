"""ONNX against NumPy: activations, of every float type, and of integers where they have a meaning."""

from __future__ import annotations

from tests.ops.harness import Case

FLOATS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2, "float64": 1e-12}
CALLS = {
    "identity": "identity",
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu(alpha=0.2)",
    "prelu": "prelu(weight_init=uniform(0.1, 0.9))",
    "prelu_channelwise": "prelu(channelwise=true, weight_init=uniform(0.1, 0.9))",
    "elu": "elu(alpha=1.3)",
    "selu": "selu",
    "gelu": "gelu",
    "gelu_tanh": 'gelu(approximate="tanh")',
    "silu": "silu",
    "mish": "mish",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "hard_sigmoid",
    "hard_sigmoid_slope": "hard_sigmoid(alpha=0.2, beta=0.4)",
    "hard_swish": "hard_swish",
    "tanh": "tanh",
    "softplus": "softplus",
    "softsign": "softsign",
    "softmax": "softmax",
    "softmax_channels": "softmax(axis=1)",
    "log_softmax": "log_softmax",
    "log_softmax_rows": "log_softmax(axis=-2)",
    "clip": "clip(-0.5, 1.5)",
    "clip_below": "clip(min=0.25)",
    "clip_above": "clip(max=0.25)",
}
#: ONNX Runtime has no float64 erf.
SINGLE_ERF = {"gelu": 2e-6}

CASES = [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 6, 7, 9]  output y = x -> {call}",
        {"x": (2, 6, 7, 9)},
        rtol=SINGLE_ERF.get(name, tolerance) if dtype == "float64" else tolerance,
        atol=SINGLE_ERF.get(name, tolerance) if dtype == "float64" else tolerance,
    )
    for name, call in CALLS.items()
    for dtype, tolerance in FLOATS.items()
]
CASES += [
    Case(f"{name}_{dtype}", f"input x: {dtype}[N, 6]  output y = x -> {call}", {"x": (5, 6)}, rtol=0, atol=0)
    for name, call in {"relu": "relu", "relu6": "relu6", "clip": "clip(1, 4)"}.items()
    for dtype in ("int8", "uint8", "int32", "int64")
]
CASES += [
    Case("prelu_vector", "input x: float32[7]  output y = x -> prelu", {"x": (7,)}),
    Case("prelu_matrix", "input x: float32[N, 7]  output y = x -> prelu(channelwise=true)", {"x": (5, 7)}),
    Case("relu_scalar", "input x: float32[]  output y = relu(x - 1)", {"x": ()}),
    Case("prelu_scalar", "input x: float32[]  output y = prelu(x - 5)", {"x": ()}),
]
