"""Numeric agreement with PyTorch, in float32: what ONNX Runtime gives for a layer of netdsl's against PyTorch's own.

    python benchmarks/agreement.py

Recurrent layers, attention, region pooling, every normalisation and every mode of resize. Weights are random on both
sides. PyTorch has no roi_align (torchvision has), so that is PyTorch's `grid_sample` at the points of its definition.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from netdsl.elaborate import elaborate
from netdsl.onnx.export import to_proto
from netdsl.runtime.session import Session
from netdsl.source import SourceFile
from netdsl.weights import WeightStore

GOAL = 1e-4
SEQUENCE = "x: float32[2, 7, 12]"
PICTURE = "x: float32[2, 6, 9, 12]"
Arrays = dict[str, Any]
Case = tuple[str, str, str, Callable[[Arrays, Arrays], Any]]


def ours(inputs: str, program: str) -> tuple[Any, Arrays, Arrays]:
    """The result, the inputs and the parameters as tensors."""
    declared = "  ".join(f"input {i}" for i in inputs.split("; "))
    graph = elaborate(SourceFile("agreement.net", f"network T {{ {declared}  output y = {program} }}")).graph
    store = WeightStore(graph.parameters).perturbed()
    rng = np.random.default_rng(0)
    arrays = {v.name: rng.normal(size=v.shape).astype(np.float32) for v in graph.inputs}
    if "boxes" in arrays:
        corner = rng.uniform(0, 4, (4, 2))
        arrays["boxes"] = np.hstack([rng.integers(0, 2, (4, 1)), corner, corner + rng.uniform(2, 5, (4, 2))]).astype(
            "f"
        )
    y = Session(to_proto(graph, store).SerializeToString(), "cpu", threads=1).run(arrays)["y"]
    parameters = {p.name: torch.from_numpy(np.array(store.array(p))) for p in graph.parameters}
    return torch.from_numpy(y), {n: torch.from_numpy(a) for n, a in arrays.items()}, parameters


def loaded(module: Any, parameters: Arrays) -> Any:
    """A PyTorch layer with the parameters of a netdsl layer, whose names are the same behind the layer's path."""
    module.load_state_dict({name.split(".", 1)[1]: value for name, value in parameters.items()})
    return module.eval()


def recurrent() -> Iterator[Case]:
    for name, kind in (("rnn", torch.nn.RNN), ("lstm", torch.nn.LSTM), ("gru", torch.nn.GRU)):
        for layers, both in ((1, False), (2, True)):
            options = f"8, layers={layers}, bidirectional={str(both).lower()}"
            layer = kind(12, 8, layers, batch_first=True, bidirectional=both)
            yield (
                f"{name}({options})",
                SEQUENCE,
                f"{name}(x, {options})[0]",
                lambda i, p, layer=layer: loaded(layer, p)(i["x"])[0],
            )


def attention() -> Iterator[Case]:
    three = "q: float32[2, 7, 12]; k: float32[2, 7, 12]; v: float32[2, 7, 12]"
    for causal in (False, True):

        def dot(i: Arrays, p: Arrays, causal: bool = causal) -> Any:
            q, k, v = (i[n].unflatten(-1, (3, 4)).transpose(1, 2) for n in "qkv")
            return F.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)

        call = f"attention(q, k, v, 3, causal={str(causal).lower()})"
        yield call, three, call, dot
    layer = torch.nn.MultiheadAttention(12, 3, batch_first=True)
    yield (
        "multi_head_attention(3)",
        SEQUENCE,
        "multi_head_attention(x, 3)",
        lambda i, p: loaded(layer, p)(i["x"], i["x"], i["x"])[0],
    )


def normalisations() -> Iterator[Case]:
    def take(p: Arrays, name: str) -> Any:
        return next(value for full, value in p.items() if full.endswith(f".{name}"))

    def affine(p: Arrays) -> tuple[Any, Any]:
        return take(p, "weight"), take(p, "bias")

    rules: dict[str, Callable[[Any, Arrays], Any]] = {
        "batch_norm": lambda x, p: F.batch_norm(x, take(p, "running_mean"), take(p, "running_var"), *affine(p)),
        "layer_norm": lambda x, p: F.layer_norm(x, x.shape[-1:], *affine(p)),
        "layer_norm(axes=1)": lambda x, p: F.layer_norm(x.movedim(1, -1), (6,), *affine(p)).movedim(-1, 1),
        "instance_norm": lambda x, p: F.instance_norm(x),
        "group_norm(3)": lambda x, p: F.group_norm(x, 3, *affine(p)),
        "rms_norm": lambda x, p: F.rms_norm(x, x.shape[-1:], take(p, "weight"), 1e-5),
        "local_response_norm(3)": lambda x, p: F.local_response_norm(x, 3),
        "switchable_norm": switchable,
    }
    for call, rule in rules.items():
        yield call, PICTURE, f"x -> {call}", lambda i, p, rule=rule: rule(i["x"], p)


def switchable(x: Any, p: Arrays) -> Any:
    """Luo et al. 2018 (arXiv:1806.10779), equations 2 to 5, in inference."""
    q = {name.split(".", 1)[1]: value for name, value in p.items()}
    whole = (q["running_mean"].reshape(1, -1, 1, 1), q["running_var"].reshape(1, -1, 1, 1))
    parts = [torch.var_mean(x, dims, correction=0, keepdim=True)[::-1] for dims in ((2, 3), (1, 2, 3))]
    weights = (torch.softmax(q[n], 0) for n in ("mean_weight", "var_weight"))
    mean, var = (sum(w * s[i] for w, s in zip(each, (*parts, whole), strict=True)) for i, each in enumerate(weights))
    scale, shift = (q[n].reshape(1, -1, 1, 1) for n in ("weight", "bias"))
    return (x - mean) / torch.sqrt(var + 1e-5) * scale + shift


def resizing() -> Iterator[Case]:
    for mode, align in (
        ("nearest", "asymmetric"), ("bilinear", "half_pixel"), ("bilinear", "corners"), ("bicubic", "half_pixel"),
        ("bicubic", "corners"),
    ):  # fmt: skip
        for scale in (2, 1.5, 0.5):
            options: Arrays = {} if mode == "nearest" else {"align_corners": align == "corners"}
            call = f'resize({scale}, mode="{mode}", align="{align}")'
            yield (
                call,
                PICTURE,
                f"x -> {call}",
                lambda i, p, s=scale, m=mode, o=options: F.interpolate(i["x"], scale_factor=s, mode=m, **o),
            )


def regions() -> Iterator[Case]:
    def sampled(i: Arrays, p: Arrays) -> Any:
        """Means over 2 x 2 points in each of 3 x 3 bins."""
        x, found = i["x"], []
        height, width = x.shape[2:]
        for number, left, top, right, bottom in i["boxes"]:
            steps = (torch.arange(6) + 0.5) / 6
            columns, rows = left + steps * (right - left) - 0.5, top + steps * (bottom - top) - 0.5
            at = torch.stack(torch.meshgrid(columns / (width - 1), rows / (height - 1), indexing="xy"), -1) * 2 - 1
            picture = x[int(number)][None]
            points = F.grid_sample(picture, at[None], align_corners=True, padding_mode="border")
            found.append(F.avg_pool2d(points, 2)[0])
        return torch.stack(found)

    call = "roi_align(x, boxes, 3, sampling_ratio=2, aligned=true)"
    yield call, f"{PICTURE}; boxes: float32[4, 5]", call, sampled


def main() -> int:
    print("| layer | largest difference | goal |\n| --- | --- | --- |")
    worst = 0.0
    for cases in (recurrent, attention, normalisations, resizing, regions):
        for label, inputs, program, rule in cases():
            torch.manual_seed(0)
            y, given, parameters = ours(inputs, program)
            with torch.no_grad():
                expected = rule(given, parameters)
            assert y.shape == expected.shape, f"{label}: {tuple(y.shape)}, PyTorch {tuple(expected.shape)}"
            difference = float((y - expected).abs().max())
            worst = max(worst, difference)
            print(f"| `{label}` | {difference:.1e} | ≤ {GOAL:g} |", flush=True)
    return int(worst > GOAL)


if __name__ == "__main__":
    sys.exit(main())
