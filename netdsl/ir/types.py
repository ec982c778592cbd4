"""Element types and tensor types."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from netdsl.ir.dims import Dim, product, to_text

NDArrayAny = NDArray[np.generic]


class DType(Enum):
    """The element types of the language, by name."""

    float32 = "float32"
    float16 = "float16"
    bfloat16 = "bfloat16"
    float64 = "float64"
    int8 = "int8"
    uint8 = "uint8"
    int32 = "int32"
    int64 = "int64"
    bool = "bool"

    @property
    def is_float(self) -> builtins.bool:
        return self in _FLOATS

    @property
    def is_integer(self) -> builtins.bool:
        return self not in _FLOATS and self is not DType.bool

    @property
    def numpy(self) -> np.dtype[np.generic]:
        """The NumPy element type (bfloat16 is ml_dtypes')."""
        return _NUMPY[self]

    @property
    def size(self) -> int:
        """Bytes per element."""
        return _NUMPY[self].itemsize

    def __str__(self) -> str:
        return self.value


_FLOATS = frozenset({DType.float32, DType.float16, DType.bfloat16, DType.float64})
_NUMPY: dict[DType, np.dtype[np.generic]] = {
    t: np.dtype(ml_dtypes.bfloat16) if t is DType.bfloat16 else np.dtype(t.value) for t in DType
}
_FROM_NUMPY = {v: k for k, v in _NUMPY.items()}


def dtype_of(array: NDArrayAny) -> DType:
    """The element type of a NumPy array. Raises KeyError for one that the language does not have."""
    return _FROM_NUMPY[array.dtype]


@dataclass(frozen=True, slots=True)
class TensorType:
    """An element type and a shape of integers and symbolic dimensions."""

    dtype: DType
    shape: tuple[Dim, ...]

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """The number of elements."""
        return product(self.shape)

    @property
    def bytes(self) -> Dim:
        return self.size * self.dtype.size

    @property
    def is_static(self) -> bool:
        return all(isinstance(d, int) for d in self.shape)

    def with_shape(self, shape: Sequence[Dim]) -> TensorType:
        return TensorType(self.dtype, tuple(shape))

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}{shape_text(self.shape)}"


def shape_text(shape: Sequence[Dim]) -> str:
    """`[N, 3, 16*h, 224]`."""
    return f"[{', '.join(to_text(d) for d in shape)}]"


class Array:
    """A constant array that compares and hashes by its contents (type, shape and bytes)."""

    __slots__ = ("_hash", "data")

    def __init__(self, data: NDArrayAny) -> None:
        self.data: NDArrayAny = np.ascontiguousarray(data).reshape(data.shape)
        self.data.setflags(write=False)
        self._hash = hash((data.dtype.str, data.shape, self.data.tobytes()))

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Array)
            and self.data.dtype == other.data.dtype
            and self.data.shape == other.data.shape
            and self.data.tobytes() == other.data.tobytes()
        )

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"Array({self.data.tolist()!r}, {self.data.dtype})"
