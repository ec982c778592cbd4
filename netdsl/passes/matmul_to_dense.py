"""Turns a matrix product with a constant matrix into a dense layer, where a neighbour can then be folded into it.

    x @ W  =  dense(x, weight = transpose(W))

By itself that saves nothing, so it is done only where a constant is added or multiplied, a normalisation, or another
such product follows, and behind a dense layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node
from netdsl.ir.opdef import Primitive
from netdsl.ops.batch_norm import BatchNorm
from netdsl.ops.dense import Dense, MatMul
from netdsl.passes.affine import ARITHMETIC, affine_of
from netdsl.passes.algebra import Algebra
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class MatMulToDense(Peephole[Node]):
    name: ClassVar[str] = "matmul-to-dense"
    targets: ClassVar[tuple[type[Primitive], ...]] = (MatMul,)

    def match(self, rw: Rewriter, node: Node) -> Node | Refused | None:
        x, weight = node.inputs
        if weight.rank != 2 or x.rank < 2 or rw.is_constant(x) or not rw.is_constant(weight):
            return None
        if not x.dtype.is_float or rw.runs(weight) > 1:
            return None
        before = rw.producer(x)
        if before is not None and isinstance(before.op, Dense) and rw.single_use(x):
            return node
        follower = rw.graph.only_user(node.output)
        return node if follower is not None and self._folds(rw, node, follower) else None

    @staticmethod
    def _folds(rw: Rewriter, node: Node, follower: Node) -> bool:
        if isinstance(follower.op, BatchNorm | Dense):
            return isinstance(follower.op, Dense) or node.output.rank == 2
        if isinstance(follower.op, MatMul):
            return follower.inputs[0] is node.output and rw.is_constant(follower.inputs[1])
        affine = affine_of(rw, follower, node.output.rank - 1) if isinstance(follower.op, ARITHMETIC) else None
        return affine is not None

    def rewrite(self, rw: Rewriter, node: Node, parts: Node) -> Done:
        x, weight = parts.inputs
        turned = Algebra(rw, f"{node.path}.weight", node.place).transpose(weight, (1, 0))
        return Done([rw.emit(Dense(), x, turned, path=node.path, place=node.place)], "made a dense layer of it")
