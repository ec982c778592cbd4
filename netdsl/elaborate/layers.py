"""Where layers' parameters come from: made anew, or those of the first use of a shared callable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from netdsl.ir.build import GraphBuilder
from netdsl.ir.dims import Dim
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import OpError
from netdsl.ir.types import DType, TensorType
from netdsl.ops.layer import Layer
from netdsl.source import Place, Span


class SharedMismatch(OpError):
    """A use of a shared callable that asks for other parameters than the first use, which was at `first`."""

    def __init__(self, message: str, first: Span, help: str = "") -> None:
        super().__init__(message, help=help or (), name="shared-mismatch")
        self.first = first


class ParameterSource(Protocol):
    def get(self, path: str, type: TensorType, make: Callable[[], Value]) -> Value:
        """The parameter of that path. Raises SharedMismatch."""


class NewParameters:
    """Every layer makes its own."""

    def get(self, path: str, type: TensorType, make: Callable[[], Value]) -> Value:
        return make()


class SharedStore:
    """The parameters of one shared callable: made at its first use, through the source where it was declared."""

    def __init__(self, name: str, path: str, parent: ParameterSource) -> None:
        self.name = name
        self.path = path
        self.parent = parent
        self.made: dict[str, Value] = {}
        self.first: Span | None = None  # the first use, once it is complete
        self._asked: set[str] = set()

    def get(self, path: str, type: TensorType, make: Callable[[], Value]) -> Value:
        self._asked.add(path)
        known = self.made.get(path)
        if known is None:
            if self.first is not None:
                raise SharedMismatch(f"'{self.name}' is shared, but {path} was not made by its first use", self.first)
            known = self.made[path] = self.parent.get(path, type, make)
        elif known.type != type and self.first is not None:
            raise SharedMismatch(
                f"'{self.name}' is shared, but {path} would be {type} here and is {known.type} from its first use",
                self.first,
                "give both uses inputs of the same shape, or use two functions",
            )
        return known

    def begin(self) -> None:
        self._asked = set()

    def complete(self, use: Span) -> None:
        """Ends a use. Raises SharedMismatch where it left parameters of the first one unused."""
        if self.first is None:
            self.first = use
        elif missing := [path for path in self.made if path not in self._asked]:
            raise SharedMismatch(
                f"'{self.name}' is shared, but this use has no {missing[0]}, which its first use made", self.first
            )


class LayerAt(Layer):
    """A layer whose parameters come from a source."""

    def __init__(
        self, builder: GraphBuilder, path: str, place: Place | None, frozen: bool, source: ParameterSource
    ) -> None:
        super().__init__(builder, path, place, frozen=frozen)
        self._source = source

    def parameter(
        self, name: str, shape: Sequence[Dim], initializer: Initializer, *, dtype: DType, buffer: bool = False
    ) -> Value:
        make = super().parameter
        return self._source.get(
            f"{self.path}.{name}",
            TensorType(dtype, tuple(shape)),
            lambda: make(name, shape, initializer, dtype=dtype, buffer=buffer),
        )
