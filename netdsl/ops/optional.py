"""Kinds of arguments that may be left out."""

from __future__ import annotations

from typing import Any

from netdsl.ir.arguments import Shape, Tensor
from netdsl.ir.dims import Dim
from netdsl.ir.opdef import OpError


class _OptionalShape(Shape):
    """Dimensions, one per axis or one for all, or none."""

    def convert(self, value: Any) -> tuple[Dim, ...]:
        return () if value is None else super().convert(value)


#: Spatial sizes; converts none to the empty tuple.
SIZES_OR_NONE = _OptionalShape("dimension, one per axis, or none")


def spatial_dims(op: str, value: tuple[Dim, ...], rank: int, argument: str) -> tuple[Dim, ...]:
    """One dimension per spatial axis; a single one stands for all. Raises OpError for another number."""
    if len(value) == 1:
        return value * rank
    if len(value) != rank:
        raise OpError(f"{op}: '{argument}' has {len(value)} values for {rank} spatial axes", argument=argument)
    return value


class _OptionalTensor(Tensor):
    """A tensor or none."""

    def convert(self, value: Any) -> Any:
        return None if value is None else super().convert(value)


OPTIONAL_TENSOR = _OptionalTensor("tensor or none")
