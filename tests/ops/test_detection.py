"""Pooling of regions against the definitions of the papers, element by element, and against PyTorch."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

from tests.ops.building import Bench, result, tensor

RNG = np.random.default_rng(3)
X = RNG.standard_normal((2, 3, 8, 11))


def boxes_within(low: float, high: float) -> Any:
    """Picture, x1, y1, x2, y2."""
    corners = np.sort(RNG.uniform(low, high, (20, 2, 2)), axis=1).reshape(20, 4)
    return np.concatenate([RNG.integers(0, 2, (20, 1)), corners], axis=1)


BOXES = boxes_within(-4, 14)


def bilinear(plane: Any, y: float, x: float) -> float:
    """The value between four pixels; 0 more than a pixel outside, the border's value up to there."""
    height, width = plane.shape
    if y < -1 or y > height or x < -1 or x > width:
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    above = plane[top, left] * (left + 1 - x) + plane[top, right] * (x - left)
    below = plane[bottom, left] * (left + 1 - x) + plane[bottom, right] * (x - left)
    return float(above * (top + 1 - y) + below * (y - top))


def aligned_bin(plane: Any, box: Any, p: int, q: int, size: tuple[int, int], ratio: int, aligned: bool) -> float:
    x1, y1, x2, y2 = box - 0.5 if aligned else box
    height, width = (y2 - y1, x2 - x1) if aligned else (max(y2 - y1, 1), max(x2 - x1, 1))
    rows, columns = height / size[0], width / size[1]
    down, across = (ratio or math.ceil(step) for step in (rows, columns))
    samples = [
        bilinear(plane, y1 + (p + (i + 0.5) / down) * rows, x1 + (q + (j + 0.5) / across) * columns)
        for i, j in product(range(down), range(across))
    ]
    return sum(samples) / max(len(samples), 1)


@pytest.mark.parametrize("aligned", [False, True])
@pytest.mark.parametrize("ratio", [0, 1, 3])
@pytest.mark.parametrize("scale", [1.0, 0.7])
def test_roi_align_averages_bilinear_samples(scale: float, ratio: int, aligned: bool) -> None:
    found = result("roi_align", X, BOXES, (2, 3), scale, ratio, aligned)
    for (k, box), c, p, q in product(enumerate(BOXES), range(3), range(2), range(3)):
        plane = X[int(box[0]), c]
        assert found[k, c, p, q] == pytest.approx(aligned_bin(plane, box[1:] * scale, p, q, (2, 3), ratio, aligned))


def pooled_bin(plane: Any, box: Any, p: int, q: int, size: tuple[int, int]) -> float:
    left, top, right, bottom = (int(math.copysign(math.floor(abs(v) + 0.5), v)) for v in box)
    rows, columns = max(bottom - top + 1, 1) / size[0], max(right - left + 1, 1) / size[1]
    window = [
        plane[y, x]
        for y in range(top + math.floor(p * rows), top + math.ceil((p + 1) * rows))
        for x in range(left + math.floor(q * columns), left + math.ceil((q + 1) * columns))
        if 0 <= y < plane.shape[0] and 0 <= x < plane.shape[1]
    ]
    return max(window, default=0.0)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_roi_pool_takes_the_largest_of_whole_pixels(scale: float) -> None:
    found = result("roi_pool", X, BOXES, (2, 3), scale)
    for (k, box), c, p, q in product(enumerate(BOXES), range(3), range(2), range(3)):
        assert found[k, c, p, q] == pooled_bin(X[int(box[0]), c], box[1:] * scale, p, q, (2, 3))


@pytest.mark.torch
def test_roi_align_is_pytorchs_grid_sample_averaged() -> None:
    """Inside of the picture; half a pixel of alignment is what `align_corners=False` means."""
    torch = pytest.importorskip("torch")
    boxes = boxes_within(1, 7)
    found = result("roi_align", X, boxes, 4, 1.0, 2, True)
    steps = (np.arange(8) + 0.5) / 8
    for k, (n, x1, y1, x2, y2) in enumerate(boxes):
        at = np.stack(np.meshgrid(2 * (x1 + steps * (x2 - x1)) / 11 - 1, 2 * (y1 + steps * (y2 - y1)) / 8 - 1), -1)
        plane = torch.tensor(X[int(n)][None])
        samples = torch.nn.functional.grid_sample(plane, torch.tensor(at[None]), align_corners=False)
        np.testing.assert_allclose(found[k], torch.nn.functional.avg_pool2d(samples, 2)[0].numpy(), atol=1e-6)


def test_costs_of_regions() -> None:
    bench = Bench(tensor("float32", "N", 3, 8, 8), tensor("float32", "K", 5))
    y = bench.call("roi_align", *bench.inputs, 2, 1.0, 2)
    (node,) = (n for n in bench.builder.nodes if y in n.outputs)
    cost = node.op.cost([v.type for v in node.inputs], [y.type])
    assert str(cost.other) == str(12 * 33 * y.shape[0]) and cost.macs == 0
