"""ONNX against NumPy: attention. At opset 23 and later it is one node, before that a decomposition."""

from __future__ import annotations

import numpy as np

from tests.ops.harness import Case

OPSETS = (17, 21, 23, 24, 26)
TYPES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 6e-2, "float64": 1e-9}

_RANDOM = np.random.default_rng(5)


def _allowed(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """About half of the positions, and in the last row of a matrix none at all."""
    found = _RANDOM.random(shape) < 0.5
    found[..., 0] = True
    if shape[-2] > 1:
        found[..., -1, :] = False
    return found


#: by name: the mask's type, and its value for 2 items, 3 heads, 4 queries and 5 keys
MASKS = {
    "all": ("bool[L, S]", _allowed(4, 5)),
    "keys": ("bool[1, S]", _allowed(1, 5)),
    "items": ("bool[N, L, S]", _allowed(2, 4, 5)),
    "keys_of_items": ("bool[N, 1, S]", _allowed(2, 1, 5)),
    "heads": ("bool[1, 3, L, S]", _allowed(1, 3, 4, 5)),
    "each": ("bool[N, 3, L, S]", _allowed(2, 3, 4, 5)),
    "added": ("float32[L, S]", _RANDOM.normal(size=(4, 5)).astype(np.float32)),
    "barred": ("float32[L, S]", np.where(_allowed(4, 5), 0, -np.inf).astype(np.float32)),
    "added_each": ("float32[N, 3, 1, S]", _RANDOM.normal(size=(2, 3, 1, 5)).astype(np.float32)),
}
THREE = {"q": (2, 4, 6), "k": (2, 5, 6), "v": (2, 5, 9)}
SOURCE = "input q: float32[N, L, 6]  input k: float32[N, S, 6]  input v: float32[N, S, 9] "

CASES = [
    Case(
        f"{dtype}_{'causal' if causal else 'free'}",
        f"input q: {dtype}[N, L, 6]  input k: {dtype}[N, S, 6]  input v: {dtype}[N, S, 9]"
        f"  output y = attention(q, k, v, 3, causal={str(causal).lower()})",
        THREE,
        opsets=OPSETS,
        rtol=error,
        atol=error,
    )
    for dtype, error in TYPES.items()
    for causal in (False, True)
]
CASES += [
    Case(
        f"mask_{name}{'_causal' if causal else ''}",
        f"{SOURCE} input mask: {type}  output y = attention(q, k, v, 3, {str(causal).lower()}, mask)",
        {**THREE, "mask": mask},
        opsets=OPSETS,
    )
    for name, (type, mask) in MASKS.items()
    for causal in (False, True)
]
CASES += [
    Case(
        "scale",
        "input x: float32[2, 4, 6]  output y = attention(x, x, x, 2, causal=true, scale=1.5)",
        {"x": (2, 4, 6)},
        opsets=OPSETS,
    ),
    Case(
        "one_head_longer_queries",
        "input q: float32[N, 7, 6]  input k: float32[N, 3, 6]  output y = attention(q, k, k, heads=1, causal=true)",
        {"q": (2, 7, 6), "k": (2, 3, 6)},
        opsets=OPSETS,
    ),
    Case(
        "mask_float16",
        "input x: float16[N, L, 6]  input mask: float16[L, L]  output y = attention(x, x, x, 2, mask=mask)",
        {"x": (2, 4, 6), "mask": (4, 4)},
        opsets=OPSETS,
        rtol=1e-2,
        atol=1e-2,
    ),
    Case(
        "multi_head_attention_self",
        "input x: float32[N, L, 6]  output y = multi_head_attention(x, 3, causal=true)",
        {"x": (2, 4, 6)},
        opsets=OPSETS,
    ),
    Case(
        "multi_head_attention_cross",
        "input x: float32[N, L, 6]  input m: float32[N, S, 6]  output y = multi_head_attention(x, 2, m, bias=false)",
        {"x": (2, 4, 6), "m": (2, 5, 6)},
    ),
    Case(
        "multi_head_attention_positions",
        "input x: float32[N, L, 6]  input p: float32[L, 6]  z = x + p  output y = multi_head_attention(z, 2, z, x)",
        {"x": (2, 4, 6), "p": (4, 6)},
    ),
    Case(
        "multi_head_attention_other_features",
        "input x: float32[N, L, 6]  input k: float32[N, S, 5]  input v: float32[N, S, 3]  input mask: bool[N, S]"
        "  output y = multi_head_attention(x, 2, k, v, mask=unsqueeze(mask, 1), dropout=0.1)",
        {"x": (2, 4, 6), "k": (2, 5, 5), "v": (2, 5, 3), "mask": _allowed(1, 5).repeat(2, 0)},
    ),
]
