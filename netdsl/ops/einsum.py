"""Sums of products over named axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from netdsl.ir.arguments import TENSORS, ArgumentError, Kind, Param
from netdsl.ir.dims import Dim, decide, product, to_text
from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Cost, Emitter, GradientContext, LayerContext, Primitive, ShapeError, same_dtype
from netdsl.ir.reach import WHOLE, Reach
from netdsl.ir.types import DType, NDArrayAny, TensorType
from netdsl.ops import gradient_tools as g
from netdsl.ops.dense import MatMul
from netdsl.ops.einsum_equation import Equation, resolve
from netdsl.ops.precision import like, runs_in_float32, wide
from netdsl.ops.reduction import CumSum
from netdsl.ops.shape import Squeeze


class _Text(Kind):
    def convert(self, value: Any) -> str:
        if isinstance(value, str):
            return value
        raise ArgumentError(
            "an equation in quotes, such as 'ij,jk->ik'", 'in a chain the tensor takes a hole: x -> einsum("ij->ji", _)'
        )


@dataclass(frozen=True)
class Einsum(Primitive):
    """Sums of products over named axes, as in NumPy: `einsum("bij,bjk->bik", a, b)` is a batched matrix product.

    Each operand has a letter for each of its axes; `...` stands for any number of axes that broadcast. Axes that are
    not in the result are summed over. Without `->` the result has the letters that stand once, in alphabetical order. A
    letter that stands twice in one operand takes its diagonal. Counts, from the left, one multiply-accumulate for each
    combination of axes of a product of two; axes of one operand alone are summed first, in one addition per element.
    """

    equation: str  #: without an ellipsis

    name: ClassVar[str] = "einsum"
    family: ClassVar[str] = "dense"
    reference: ClassVar[str] = "ONNX Einsum"
    signature: ClassVar[tuple[Param, ...]] = (
        Param("equation", _Text("equation in quotes")),
        Param("operands", TENSORS),
    )

    @classmethod
    def call(cls, cx: LayerContext, equation: str, operands: tuple[Value, ...]) -> Value:
        if same_dtype("einsum", *(v.type for v in operands)) is DType.bool:
            raise ShapeError(f"einsum needs numbers, found {operands[0].type}", help="convert them: cast(x, float32)")
        found = resolve(equation, [v.type for v in operands])
        inputs = [cx.emit(Squeeze(axes), v) if axes else v for v, axes in zip(operands, found.dropped, strict=True)]
        return cx.emit(cls(str(found.equation)), *inputs)

    def infer(self, *operands: TensorType) -> TensorType:
        equation = Equation.of(self.equation)
        if len(equation.terms) != len(operands) or any(
            len(t) != x.rank for t, x in zip(equation.terms, operands, strict=False)
        ):
            raise ShapeError(f"einsum: {self.equation} does not fit {', '.join(map(str, operands))}")
        sizes = equation.sizes([x.shape for x in operands])
        for term, x in zip(equation.terms, operands, strict=True):
            for letter, dim in zip(term, x.shape, strict=True):
                if decide("==", dim, sizes[letter]) is not True:
                    raise ShapeError(f"einsum: '{letter}' is {to_text(dim)} and {to_text(sizes[letter])}")
        return TensorType(same_dtype("einsum", *operands), tuple(sizes[c] for c in equation.output))

    def cost(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Cost:
        equation = Equation.of(self.equation)
        sizes = equation.sizes([x.shape for x in inputs])
        macs: Dim = 0
        other: Dim = 0
        left = ""
        for i, term in enumerate(equation.terms):
            later = set(equation.output).union(*equation.terms[i + 1 :])
            right = "".join(dict.fromkeys(term))
            partner = left if i else "".join(equation.terms[1:])
            alone = "".join(c for c in right if c in later or c in partner)
            other += product(sizes[c] for c in right) if alone != right else 0
            left_only = "".join(c for c in left if c in later or c in alone)
            union = "".join(dict.fromkeys(left_only + alone))
            macs += product(sizes[c] for c in union) if i else 0
            left = "".join(c for c in union if c in later) if i else alone
        return Cost(macs, other)

    def reach(self, inputs: Sequence[TensorType], outputs: Sequence[TensorType]) -> Reach:
        return WHOLE

    def evaluate(self, *operands: NDArrayAny) -> NDArrayAny:
        return like(np.einsum(self.equation, *(wide(x) for x in operands), optimize=len(operands) > 2), operands[0])

    @runs_in_float32(DType.float16, DType.bfloat16)
    def lower(self, cx: Emitter, node: Node, *operands: str) -> str:
        dtype = node.inputs[0].dtype
        if dtype not in (DType.int8, DType.uint8):
            return cx.emit("Einsum", *operands, equation=self.equation)
        wider = [cx.emit("Cast", x, to=cx.onnx_type(DType.int32)) for x in operands]
        return cx.emit("Cast", cx.emit("Einsum", *wider, equation=self.equation), to=cx.onnx_type(dtype))

    def gradient(self, cx: GradientContext, node: Node, dy: Value) -> Sequence[Value | None]:
        """For each operand the sum of products of `dy` with the others, over the axes that the operand lacks."""
        equation = Equation.of(self.equation)
        return [
            self._for_operand(cx, equation, node.inputs, i, dy) if cx.wants(v) else None
            for i, v in enumerate(node.inputs)
        ]

    def _for_operand(
        self, cx: GradientContext, equation: Equation, inputs: Sequence[Value], number: int, dy: Value
    ) -> Value:
        term, x = equation.terms[number], inputs[number]
        others = [*equation.terms[:number], *equation.terms[number + 1 :]]
        letters = "".join(dict.fromkeys(term))
        given = set(equation.output).union(*others)
        made = "".join(c for c in letters if c in given)
        back = Equation((equation.output, *others), made)
        found = dy
        if others or made != equation.output:
            found = cx.emit(Einsum(str(back)), dy, *inputs[:number], *inputs[number + 1 :])
        if made != letters:  # what was summed over in this operand alone
            found = g.unsqueeze(cx, found, [i for i, c in enumerate(letters) if c not in given])
            found = g.expand_to(cx, found, [x.shape[term.index(c)] for c in letters])
        return _to_diagonal(cx, found, letters, term, x)


def _to_diagonal(cx: GradientContext, found: Value, letters: str, term: str, x: Value) -> Value:
    """The gradient of a diagonal: zeros beside it. `term` holds the letters of `letters`, some of them again."""
    if letters == term:
        return found
    first = [term.index(c) for c in letters]
    found = g.unsqueeze(cx, found, [i for i in range(len(term)) if i not in first])
    for i, letter in enumerate(term):
        if i != term.index(letter):
            found = g.mul(cx, found, identity_along(cx, term.index(letter), i, x))
    return found


def identity_along(cx: GradientContext, one: int, other: int, x: Value) -> Value:
    """Ones where two axes (`one` before `other`) of `x` have the same index, else zeros; it broadcasts to `x`."""
    positions = cx.emit(CumSum(0), g.expand_to(cx, cx.constant(1, DType.int64), [x.shape[one]]))
    shapes: list[list[Dim]] = [[x.shape[one] if a == axis else 1 for a in range(x.rank)] for axis in (one, other)]
    down, along = (g.reshape(cx, positions, shape) for shape in shapes)
    return g.mask(cx, "==", down, along, x.dtype)


def contraction(cx: GradientContext, equation: Equation, operands: Sequence[Value]) -> Value:
    """An einsum by transpositions, reshapes and matrix products, from the left."""
    sizes = equation.sizes([v.shape for v in operands])
    left, value = "", operands[0]
    for i, (term, operand) in enumerate(zip(equation.terms, operands, strict=True)):
        later = "".join((equation.output, *equation.terms[i + 1 :]))
        right, other = _diagonal(cx, term, operand)
        right, other = _summed(cx, right, other, later + left)
        if i == 0:
            left, value = right, other
            continue
        left, value = _summed(cx, left, value, later + right)
        left, value = _multiplied(cx, (left, value), (right, other), later, sizes)
    left, value = _summed(cx, left, value, equation.output)
    return g.transpose(cx, value, [left.index(c) for c in equation.output])


def _diagonal(cx: GradientContext, term: str, x: Value) -> tuple[str, Value]:
    again = [i for i, c in enumerate(term) if i != term.index(c)]
    for i in again:
        x = g.mul(cx, x, identity_along(cx, term.index(term[i]), i, x))
    return "".join(dict.fromkeys(term)), g.total(cx, x, again)


def _summed(cx: GradientContext, letters: str, x: Value, kept: str) -> tuple[str, Value]:
    """Summed over the axes that nothing else needs."""
    over = [i for i, c in enumerate(letters) if c not in kept]
    return "".join(c for c in letters if c in kept), g.total(cx, x, over)


def _multiplied(
    cx: GradientContext, a: tuple[str, Value], b: tuple[str, Value], later: str, sizes: dict[str, Dim]
) -> tuple[str, Value]:
    """The product of two operands as a batched matrix product."""
    batch = [c for c in a[0] if c in b[0] and c in later]
    inner = [c for c in a[0] if c in b[0] and c not in later]
    rows, columns = ([c for c in one[0] if c not in other[0]] for one, other in ((a, b), (b, a)))

    def matrices(letters: str, x: Value, order: list[str], *groups: list[str]) -> Value:
        turned = g.transpose(cx, x, [letters.index(c) for c in order])
        return g.reshape(
            cx, turned, [*(sizes[c] for c in batch), *(product(sizes[c] for c in part) for part in groups)]
        )

    left = matrices(*a, [*batch, *rows, *inner], rows, inner)
    right = matrices(*b, [*batch, *inner, *columns], inner, columns)
    result = [*batch, *rows, *columns]
    return "".join(result), g.reshape(cx, cx.emit(MatMul(), left, right), [sizes[c] for c in result])
