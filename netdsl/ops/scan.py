"""ONNX Scan: steps along an axis, and elementwise work done block by block."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

from netdsl.ir.opdef import Emitter
from netdsl.ir.types import TensorType
from netdsl.ops.shape import emit_reshape

MOST = 80 << 10  #: numbers of a block: a few tensors of so many stay in a core's second cache
LEAST = 15 << 10  #: numbers of a block from which on it pays


def scan(
    cx: Emitter,
    step: Callable[..., Sequence[str]],
    states: Sequence[str],
    sequences: Sequence[str],
    collected: int,
    reverse: bool,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """ONNX Scan over axis 0. `step(*states, *items)` returns the next states and what is collected. Returns the last
    states and the `collected` sequences."""
    way = int(reverse)
    made = cx.emit_all(
        "Scan",
        len(states) + collected,
        *states,
        *sequences,
        body=cx.subgraph(len(states) + len(sequences), step),
        num_scan_inputs=len(sequences),
        scan_input_directions=[way] * len(sequences),
        scan_output_directions=[way] * collected,
    )
    return made[: len(states)], made[len(states) :]


def block_size(cx: Emitter, x: TensorType) -> int | None:
    """How many numbers of a tensor to take at a time where several elementwise nodes follow each other, so that what
    one writes is in the cache when the next one reads it. None: all of them. Several threads would wait for one another
    at every node of every block, which takes as long."""
    fixed = prod(d for d in x.shape if isinstance(d, int))
    total = fixed * cx.target.batch ** sum(not isinstance(d, int) for d in x.shape)
    if cx.target.device != "cpu" or cx.target.threads > 1 or total <= 2 * MOST:
        return None
    return next((fixed // n for n in range(-(-fixed // MOST), fixed // LEAST + 1) if fixed % n == 0), None)


def emit_blocks(cx: Emitter, x: TensorType, step: Callable[..., str], *names: str) -> str:
    """`step(*names)`, which treats each element of tensors of one shape by itself, block by block where that is
    faster."""
    size = block_size(cx, x)
    if size is None:
        return step(*names)
    blocks = [cx.emit("Reshape", name, cx.ints([-1, size])) for name in names]
    _, (y,) = scan(cx, lambda *items: (step(*items),), (), blocks, 1, reverse=False)
    return emit_reshape(cx, y, (), x.shape)
