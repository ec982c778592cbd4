"""Adds up branches that are linear in one value into one layer (RepVGG, Ding et al. 2021, arXiv:2101.03697; ACNet).

    conv_a(x) + conv_b(x) + (s * x + t) + x  =  conv(x),  weight = sum of the weights in one frame, bias = sum of biases

Convolutions of one stride and grouping are put into the smallest frame of taps that holds them all: with padding p
and dilation d, tap t of a kernel looks at `j * stride - p + d * t`, so that a branch with less padding lies (p - p')
/ d taps further in. A branch that only scales and shifts each channel, or is x itself, is a 1x1 kernel with one entry
a row. Dense layers add up likewise. Done where the MACs do not rise: 1xK + Kx1 alone would cost more than two layers,
beside a KxK they cost nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import ClassVar

import numpy as np

from netdsl.ir.dims import decide, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ir.types import Array
from netdsl.ops.arithmetic import Add
from netdsl.ops.constant import Constant
from netdsl.ops.convolution import Conv
from netdsl.ops.dense import Dense
from netdsl.ops.padding import Pad
from netdsl.passes.affine import Affine, affine_of
from netdsl.passes.algebra import Algebra, ints
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.linear import Linear, linear_of
from netdsl.passes.rewrite import Rewriter

MAX_TERMS = 8  # of a sum that are looked at together

Pixel = Affine | None  #: a branch that looks at one pixel; None: x itself


@dataclass(frozen=True)
class Frame:
    """Where the taps of a merged kernel lie: its size, padding in front, dilation, per axis."""

    kernel: tuple[int, ...]
    begin: tuple[int, ...]
    dilation: tuple[int, ...]


@dataclass(frozen=True)
class Branches:
    """Layers to be merged (the first one gives its name), pixelwise branches with them, and what else is added."""

    layers: tuple[Linear, ...]
    pixels: tuple[Pixel, ...]
    rest: tuple[Value, ...]
    frame: Frame


@dataclass(frozen=True)
class MergeBranches(Peephole[Branches]):
    name: ClassVar[str] = "merge-branches"
    after: ClassVar[tuple[str, ...]] = ("fold-batch-norm", "fold-scale")
    targets: ClassVar[tuple[type[Primitive], ...]] = (Add,)

    def match(self, rw: Rewriter, node: Node) -> Branches | Refused | None:
        terms = list(_terms(rw, node))
        if len(terms) > MAX_TERMS or any(t.type != node.output.type for t in terms):
            return None
        layers = [(t, linear) for t in terms if (linear := _layer(rw, t)) is not None]
        for _, first in layers:
            group = [(t, layer) for t, layer in layers if _alike(first, layer)]
            pixels = [(t, p) for t in terms if (p := _pixel(rw, t, first)) != "other"] if _centred(first) else []
            if len(group) + len(pixels) > 1:
                return self._judge(terms, group, pixels)
        return None

    @staticmethod
    def _judge(
        terms: Sequence[Value], group: Sequence[tuple[Value, Linear]], pixels: Sequence[tuple[Value, Pixel | str]]
    ) -> Branches | Refused | None:
        layers = tuple(layer for _, layer in group)
        frame = _frame(layers, bool(pixels))
        if frame is None:
            return None
        before = sum((layer.macs for layer in layers), 0)
        after = layers[0].node.output.type.size * prod(ints(layers[0].weight.shape[1:2])) * prod(frame.kernel)
        if decide("<=", after, before) is not True:
            return Refused(f"merged branches would cost {to_text(after)} MACs instead of {to_text(before)}")
        merged = [t for t, _ in group] + [t for t, _ in pixels]
        rest = list(terms)
        for value in merged:
            rest.remove(value)
        kept = tuple(p for _, p in pixels if not isinstance(p, str))
        return Branches(layers, kept, tuple(rest), frame)

    def rewrite(self, rw: Rewriter, node: Node, parts: Branches) -> Done:
        first = parts.layers[0]
        alg = first.algebra(rw, "weight")
        weights = [_framed(alg, layer, parts.frame) for layer in parts.layers]
        biases = [alg.wide(layer.bias) for layer in parts.layers if layer.bias is not None]
        for pixel in parts.pixels:
            weight, bias = _of_pixel(rw, alg, first, pixel, parts.frame)
            weights.append(weight)
            biases.extend([bias] if bias is not None else [])
        more = first.algebra(rw, "bias")
        dtype = first.weight.dtype
        bias = more.narrow(_total(more, biases), dtype) if biases else None
        value = first.emit(rw, first.x, alg.narrow(_total(alg, weights), dtype), bias, _operator(first, parts.frame))
        for other in parts.rest:
            value = rw.emit(Add(), other, value, path=node.path, place=node.place)
        names = ", ".join(layer.node.path for layer in parts.layers[1:]) or "what is added to it"
        return Done([value], f"merged {names} into {first.node.path}")


def _terms(rw: Rewriter, node: Node) -> Iterator[Value]:
    """The operands of a sum, sums that nothing else reads taken apart; a few more than MAX_TERMS at most."""
    stack, count = list(reversed(node.inputs)), 0
    while stack and count <= MAX_TERMS:
        value = stack.pop()
        maker = rw.producer(value)
        if maker is not None and isinstance(maker.op, Add) and rw.single_use(value) and len(stack) <= MAX_TERMS:
            stack.extend(reversed(maker.inputs))
        else:
            count += 1
            yield value


def _layer(rw: Rewriter, value: Value) -> Linear | None:
    """The mergeable layer that makes a term."""
    linear = linear_of(rw, rw.producer(value))
    if linear is None or not rw.single_use(value) or rw.runs(linear.weight) > 1:
        return None
    op = linear.op
    return linear if isinstance(op, Dense) or (isinstance(op, Conv) and op.padding != "same") else None


def _alike(a: Linear, b: Linear) -> bool:
    """Whether two layers read the same value in the same steps (their outputs have one type)."""
    if a.x is not b.x or type(a.op) is not type(b.op):
        return False
    return (
        not isinstance(a.op, Conv)
        or not isinstance(b.op, Conv)
        or (a.op.stride, a.op.groups) == (b.op.stride, b.op.groups)
    )


def _centred(layer: Linear) -> bool:
    """Whether x itself could be a term beside the layer."""
    return isinstance(layer.op, Conv) and set(layer.op.stride) == {1} and layer.x.type == layer.node.output.type


def _pixel(rw: Rewriter, value: Value, layer: Linear) -> Pixel | str:
    """A term that is x, or x scaled and shifted; "other" for any other."""
    if value is layer.x:
        return None
    affine = affine_of(rw, rw.producer(value), 1)
    return affine if affine is not None and affine.x is layer.x and rw.single_use(value) else "other"


def _frame(layers: Sequence[Linear], pixels: bool) -> Frame | None:
    """The smallest frame; None where the taps do not fall on one grid."""
    if isinstance(layers[0].op, Dense):
        return Frame((), (), ())
    kernel, begin, dilation = [], [], []
    for axis in range(len(layers[0].kernel)):
        sizes = [layer.kernel[axis] for layer in layers] + [1] * pixels
        ops = [layer.op for layer in layers]
        starts = [op.padding[axis][0] for op in ops if isinstance(op, Conv) and op.padding != "same"] + [0] * pixels
        steps = {op.dilation[axis] for op, size in zip(ops, sizes, strict=False) if size > 1 and isinstance(op, Conv)}
        if len(steps) > 1:
            return None
        step = next(iter(steps), 1)
        first = max(starts)
        places = [(first - start) / step for start in starts]
        if any(place != int(place) for place in places):
            return None
        kernel.append(max(int(place) + size for place, size in zip(places, sizes, strict=True)))
        begin.append(first)
        dilation.append(step)
    return Frame(tuple(kernel), tuple(begin), tuple(dilation))


def _operator(layer: Linear, frame: Frame) -> Primitive:
    op = layer.op
    if not isinstance(op, Conv):
        return op
    assert op.padding != "same"
    # The end follows from the size that all branches give: taps added there look that much further.
    own = [(k - 1) * d for k, d in zip(layer.kernel, op.dilation, strict=True)]
    wide = [(k - 1) * d for k, d in zip(frame.kernel, frame.dilation, strict=True)]
    pads = zip(op.padding, frame.begin, own, wide, strict=True)
    padding = tuple((begin, b + e + w - o - begin) for (b, e), begin, o, w in pads)
    return Conv(op.stride, padding, frame.dilation, op.groups)


def _framed(alg: Algebra, layer: Linear, frame: Frame) -> Value:
    """The layer's weight with zeros around it."""
    op, weight = layer.op, alg.wide(layer.weight)
    if not isinstance(op, Conv):
        return weight
    assert op.padding != "same"
    return _placed(alg, weight, tuple(p[0] for p in op.padding), frame)


def _placed(alg: Algebra, weight: Value, begin: Sequence[int], frame: Frame) -> Value:
    padding = []
    for size, at, k, b, d in zip(ints(weight.shape[2:]), begin, frame.kernel, frame.begin, frame.dilation, strict=True):
        place = (b - at) // d
        padding.append((place, k - size - place))
    return alg.emit(Pad(tuple(padding)), weight) if any(map(any, padding)) else weight


def _of_pixel(rw: Rewriter, alg: Algebra, layer: Linear, pixel: Pixel, frame: Frame) -> tuple[Value, Value | None]:
    """Weight and bias of `scale * x + shift` in the frame."""
    outputs, columns = ints(layer.weight.shape[:2])
    dtype = alg.wide(layer.weight).dtype if pixel is None else layer.weight.dtype
    eye = np.tile(np.eye(columns), (layer.groups, 1)).reshape(outputs, columns, *[1] * len(frame.kernel))
    weight = alg.wide(alg.emit(Constant(Array(eye.astype(dtype.numpy)))))
    shift = None
    if pixel is not None:
        scale, shift = pixel.emit(pixel.algebra(rw))
        weight = weight if scale is None else layer.scaled_rows(alg, weight, scale)
        shift = None if shift is None else alg.expand(shift, (outputs,))
    return _placed(alg, weight, (0,) * len(frame.kernel), frame), shift


def _total(alg: Algebra, values: Sequence[Value]) -> Value:
    total = values[0]
    for value in values[1:]:
        total = alg.add(total, value)
    return total
