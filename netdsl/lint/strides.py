"""Strides that are larger than their kernels: what lies between two windows is computed and never read."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from math import prod

from netdsl.diagnostics import Diagnostic
from netdsl.ir.graph import Node, Value
from netdsl.lint.rule import Rule
from netdsl.lint.subject import Subject
from netdsl.ops.convolution import Conv
from netdsl.ops.pool import Pool
from netdsl.ops.transposed import ConvTranspose

STRIDE = Rule(
    name="stride-skips-pixels",
    title="A stride that skips pixels",
    what="A convolution or a pooling moves further than its kernel reaches, and nothing else reads the positions in "
    "between. A transposed convolution whose kernel is smaller than its stride leaves holes in its output instead.",
    why="With a 1×1 kernel at stride 2, three quarters of what the layer before it computed are thrown away, and "
    "details of one pixel come and go as the picture moves by one pixel ([He et al. 2018]"
    "(https://arxiv.org/abs/1812.01187), section 4).",
    mend="Take a kernel at least as large as the stride, or pool first: `avg_pool(2) -> conv(64, 1)`. The shortcut of "
    "a residual block, where another branch reads every pixel, is not warned about.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> conv(16, 3, padding=1) -> relu -> conv(32, 1, stride=2)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> conv(16, 3, padding=1) -> relu -> conv(32, 2, stride=2)
}
""",
)


def check(subject: Subject) -> Iterator[Diagnostic]:
    for node, span in subject.placed():
        if not isinstance(node.op, Conv | Pool | ConvTranspose) or all(step == 1 for step in node.op.stride):
            continue
        shares = _shares(node)
        if all(read == of for read, of in shares) or not _all_skip(subject, node):
            continue
        name = node.op.name
        where = "reaches {} of {} positions of its output"
        if not isinstance(node.op, ConvTranspose):
            where = "reads {} of {} positions of its input"
        share = Fraction(prod(read for read, _ in shares), prod(of for _, of in shares))
        kernel, stride = (" × ".join(map(str, sizes)) for sizes in (_kernel(node), _stride(node)))
        yield STRIDE.warn(
            f"this {name} {where.format(*share.as_integer_ratio())}: its kernel is {kernel}, its stride {stride}",
            span,
            help="take a kernel at least as large as the stride"
            if isinstance(node.op, ConvTranspose)
            else f"take a kernel at least as large as the stride, or pool first: avg_pool({stride.split(' ')[0]})",
        )


def _all_skip(subject: Subject, node: Node) -> bool:
    """Whether every reader of a layer's input skips positions: one that reads all of them makes up for the others."""
    value = node.inputs[0]
    if isinstance(node.op, ConvTranspose):
        return True
    if value in subject.graph.output_values:
        return False
    return all(_skips(user, value) for user in subject.graph.users[value])


def _skips(node: Node, value: Value) -> bool:
    if isinstance(node.op, ConvTranspose) or node.inputs[0] is not value:
        return False
    return any(read < of for read, of in _shares(node))


def _shares(node: Node) -> list[tuple[int, int]]:
    """For each axis how many positions of each `stride` the windows reach; a single window reaches what it should."""
    if not isinstance(node.op, Conv | Pool | ConvTranspose):
        return []
    long = node.inputs[0] if isinstance(node.op, ConvTranspose) else node.outputs[0]
    shares = []
    for kernel, stride, dilation, windows in zip(
        _kernel(node), _stride(node), node.op.dilation, long.shape[2:], strict=True
    ):
        reached = len({tap * dilation % stride for tap in range(min(kernel, stride))})
        shares.append((1, 1) if windows == 1 else (reached, stride))
    return shares


def _kernel(node: Node) -> tuple[int, ...]:
    if isinstance(node.op, Pool):
        return node.op.kernel
    return tuple(size for size in node.inputs[1].shape[2:] if isinstance(size, int))


def _stride(node: Node) -> tuple[int, ...]:
    assert isinstance(node.op, Conv | Pool | ConvTranspose)
    return node.op.stride
