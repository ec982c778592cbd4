"""ONNX against NumPy: every loss, of each float type, with and without its options."""

from __future__ import annotations

import numpy as np

from netdsl.ir.types import DType
from tests.ops.harness import Case

FLOATS = {"float32": 1e-5, "float16": 4e-3, "bfloat16": 2e-2, "float64": 1e-12}
RNG = np.random.default_rng(3)
LOGITS = RNG.normal(size=(5, 7)) * 2
IDS = RNG.integers(0, 7, 5)
MAP_LOGITS = RNG.normal(size=(2, 4, 3, 5))
MAP_IDS = RNG.integers(0, 4, (2, 3, 5))
PROBABILITIES = RNG.dirichlet(np.ones(7), 5)
BINARY = RNG.integers(0, 2, (5, 7))
OPTIONS = {
    "plain": "",
    "smoothed": ", label_smoothing=0.1",
    "weighted": ", weight=[0.5, 1, 2, 1.5, 0.1, 3, 1]",
    "ignoring": ", ignore=3",
    "everything": ", label_smoothing=0.2, weight=[0.5, 1, 2, 1.5, 0.1, 3, 1], ignore=3",
}

CASES = [
    Case(
        f"cross_entropy_{option}_{dtype}",
        f"input x: {dtype}[N, 7]  input ids: int64[N]  output y = cross_entropy(x, ids{arguments})",
        {"x": LOGITS.astype(DType[dtype].numpy), "ids": np.where(np.arange(5) == 1, 3, IDS)},
        rtol=tolerance,
        atol=tolerance,
    )
    for option, arguments in OPTIONS.items()
    for dtype, tolerance in FLOATS.items()
    if dtype == "float32" or option == "plain"
]
CASES += [
    Case(
        f"cross_entropy_map_{option}",
        f"input x: float32[N, 4, H, 5]  input ids: int32[N, H, 5]  output y = cross_entropy(x, ids{arguments})",
        {"x": MAP_LOGITS.astype(np.float32), "ids": np.where(MAP_IDS == 2, -100, MAP_IDS).astype(np.int32)},
    )
    for option, arguments in {
        "ignoring": ", ignore=-100",
        "everything": ", 0.3, weight=[0.5, 1, 2, 1.5], ignore=-100",
    }.items()
]
CASES += [
    Case(
        "cross_entropy_one_item",
        "input x: float32[7]  input id: uint8[]  output y = cross_entropy(x, id)",
        {"x": LOGITS[0].astype(np.float32), "id": np.asarray(4, np.uint8)},
    ),
    Case(
        "cross_entropy_weight_tensor",
        "input x: float32[N, 7]  input ids: int64[N]  input w: float32[7]  output y = cross_entropy(x, ids, weight=w)",
        {"x": LOGITS.astype(np.float32), "ids": IDS, "w": np.linspace(0.5, 2, 7).astype(np.float32)},
    ),
    Case(
        "categorical_cross_entropy_map",
        "input x: float32[N, 4, H, 5]  input t: float32[N, 4, H, 5]  output y = categorical_cross_entropy(x, t)",
        {
            "x": MAP_LOGITS.astype(np.float32),
            "t": np.moveaxis(np.eye(4, dtype=np.float32)[MAP_IDS], -1, 1),
        },
    ),
]
CASES += [
    Case(
        f"{name}_{dtype}",
        f"input x: {dtype}[N, 7]  input t: {dtype}[N, 7]  output y = {call}",
        {"x": LOGITS.astype(DType[dtype].numpy), "t": target.astype(DType[dtype].numpy)},
        rtol=tolerance,
        atol=tolerance,
    )
    for name, (call, target) in {
        "categorical_cross_entropy": ("categorical_cross_entropy(x, t)", PROBABILITIES),
        "binary_cross_entropy": ("binary_cross_entropy(x, t)", BINARY),
        "binary_cross_entropy_soft": ("binary_cross_entropy(x, t)", PROBABILITIES),
        "focal": ("focal(x, t)", BINARY),
        "focal_gamma_0": ("focal(x, t, alpha=none, gamma=0)", BINARY),
        "focal_gamma_1": ("focal(x, t, gamma=1)", BINARY),
        "focal_gamma": ("focal(x, t, alpha=0.75, gamma=1.5)", PROBABILITIES),
        "focal_gamma_below_1": ("focal(x, t, gamma=0.5)", PROBABILITIES),
        "mse": ("mse(x, t)", LOGITS[::-1]),
        "rmse": ("rmse(x, t)", LOGITS[::-1]),
        "mae": ("mae(x, t)", LOGITS[::-1]),
        "huber": ("huber(x, t)", LOGITS[::-1]),
        "huber_delta": ("huber(x, t, delta=0.3)", LOGITS[::-1]),
        "kl_divergence": ("kl_divergence(log_softmax(x), t)", np.where(PROBABILITIES < 0.05, 0, PROBABILITIES)),
    }.items()
    for dtype, tolerance in FLOATS.items()
]
CASES += [
    Case(
        "rmse_static",
        "input x: float32[3, 5]  input t: float32[3, 5]  output y = rmse(x, t)",
        {"x": (3, 5), "t": (3, 5)},
    ),
    Case(
        "rmse_of_equals",
        "input x: float32[N, 5]  output y = rmse(x, x)",
        {"x": (3, 5)},
    ),
    Case("l1", 'input x: float32[N, 6]  output y = x -> dense(4)  output z = l1("*.weight")', {"x": (3, 6)}),
    Case(
        "l2",
        'input x: float32[N, 6]  output y = x -> dense(4) -> dense(3)  output z = 0.1 * l2("*")',
        {"x": (3, 6)},
    ),
]
