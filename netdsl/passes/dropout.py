"""Removes what only training does: dropout and drop_path pass their input on at inference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from netdsl.ir.graph import Node, Value
from netdsl.ir.opdef import Primitive
from netdsl.ops.regularisation import Regularisation
from netdsl.passes.base import Done, Peephole, Refused
from netdsl.passes.rewrite import Rewriter


@dataclass(frozen=True)
class RemoveDropout(Peephole[Value]):
    name: ClassVar[str] = "dropout"
    targets: ClassVar[tuple[type[Primitive], ...]] = (Regularisation,)

    def match(self, rw: Rewriter, node: Node) -> Value | Refused | None:
        return node.inputs[0]

    def rewrite(self, rw: Rewriter, node: Node, parts: Value) -> Done:
        return Done([parts], f"removed {node.op.name}, which does nothing at inference")
