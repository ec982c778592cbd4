"""Which positions of a feature map the bins of a box see: the arithmetic of roi_align and roi_pool in NumPy."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np


def sampling_weights(
    low: Any, high: Any, bins: int, length: int, scale: float, sampling_ratio: int, aligned: bool
) -> Any:
    """What each bin of roi_align takes of each position along one axis, `[K, bins, length]`.

    `low` and `high` `[K]` are where the boxes begin and end. The mean over a bin's samples is the product of those of
    its two axes, so that roi_align is `rows @ x @ columns.T` with the weights of height and width.
    """
    number = low.dtype.type
    offset = number(0.5 if aligned else 0)
    start = low * number(scale) - offset
    extent = high * number(scale) - offset - start
    if not aligned:
        extent = np.maximum(extent, number(1))
    step = extent / number(bins)
    counts = np.full(len(low), sampling_ratio) if sampling_ratio > 0 else np.ceil(step).astype(np.int64)
    weights = np.zeros((len(low), bins, length), low.dtype)
    first = start[:, None] + np.arange(bins, dtype=low.dtype) * step[:, None]
    places = np.arange(length, dtype=low.dtype)
    for sample in range(max(counts, default=0)):
        share = np.maximum(counts, 1).astype(low.dtype)
        at = first + ((number(sample) + number(0.5)) * step / share)[:, None]
        counted = (at >= -1) & (at <= length) & (sample < counts)[:, None]
        near = np.clip(at, 0, length - 1)[..., None]
        weights += np.where(counted[..., None], np.maximum(1 - np.abs(places - near), 0), 0) / share[:, None, None]
    return weights


def window_bounds(low: Any, high: Any, bins: int, length: int, scale: float) -> tuple[Any, Any]:
    """Where the bins of roi_pool begin and end along one axis, both `[K, bins]`, inside of the axis."""
    number = low.dtype.type
    start, end = _rounded(low * number(scale)), _rounded(high * number(scale))
    step = np.maximum(end - start + 1, number(1)) / number(bins)
    edges = np.arange(bins, dtype=low.dtype)
    begins = np.floor(edges * step[:, None]) + start[:, None]
    ends = np.ceil((edges + 1) * step[:, None]) + start[:, None]
    return np.clip(begins, 0, length).astype(np.int64), np.clip(ends, 0, length).astype(np.int64)


def _rounded(x: Any) -> Any:
    """To the nearest integer, halves away from zero."""
    return np.copysign(np.floor(np.abs(x) + x.dtype.type(0.5)), x)


def window_positions(x: Any, boxes: Any, indices: Any, size: tuple[int, ...], scale: float) -> Any:
    """Where roi_pool finds its values, `[K, *size, C]`: positions counted over `[N, H, W]`, -1 in an empty bin."""
    height, width = x.shape[2:]
    tops, bottoms = window_bounds(boxes[:, 1], boxes[:, 3], size[0], height, scale)
    lefts, rights = window_bounds(boxes[:, 0], boxes[:, 2], size[1], width, scale)
    places = np.full((len(boxes), *size, x.shape[1]), -1, np.int64)
    for k, p, q in product(range(len(boxes)), range(size[0]), range(size[1])):
        window = x[indices[k], :, tops[k, p] : bottoms[k, p], lefts[k, q] : rights[k, q]]
        if window.size:
            found = window.reshape(len(window), -1).argmax(axis=1)
            row, column = np.divmod(found, window.shape[2])
            places[k, p, q] = (indices[k] * height + tops[k, p] + row) * width + lefts[k, q] + column
    return places
