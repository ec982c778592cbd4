"""Constants of a model in the making: parameters and folded weights by name, small arrays, and what is computed from
them. They become initializers when a node reads them; their arrays are made when the file is written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np

from netdsl.ir.build import NameSpace
from netdsl.ir.graph import Value
from netdsl.ir.types import DType, NDArrayAny, dtype_of
from netdsl.onnx.constant_ops import Rule, StandIn, rule_for
from netdsl.weights import ConstantEvaluator
from netdsl.weights.sizes import static_shape


@dataclass(frozen=True)
class Derived:
    """A constant computed from others by an ONNX operator."""

    rule: Rule
    operands: tuple[Tensor, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Tensor:
    """A constant: its name in the model, type, and where its array comes from."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    source: Value | Derived | np.ndarray[Any, Any]

    @cached_property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.size

    @property
    def values(self) -> Iterator[Value]:
        """The graph's constants that the array needs."""
        if isinstance(self.source, Value):
            yield self.source
        elif isinstance(self.source, Derived):
            for operand in self.source.operands:
                yield from operand.values

    def array(self, held: Mapping[Value, NDArrayAny]) -> NDArrayAny:
        """The array, given those of `values`."""
        if isinstance(self.source, Value):
            return held[self.source]
        if isinstance(self.source, Derived):
            operands = [o.array(held) for o in self.source.operands]
            return self.source.rule.evaluate(self.source.attributes, operands)
        return self.source


class ConstantPool:
    """All constants of one model. Equal arrays are one; a name is taken only once."""

    def __init__(self, names: NameSpace) -> None:
        self._names = names
        self._by_name: dict[str, Tensor] = {}
        self._by_content: dict[tuple[str, tuple[int, ...], bytes], str] = {}
        self._derived: dict[object, str] = {}
        self._used: dict[str, Tensor] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._by_name

    @property
    def used(self) -> tuple[Tensor, ...]:
        """Those that nodes read, in the order of their first use."""
        return tuple(self._used.values())

    def use(self, name: str) -> None:
        """Makes a constant an initializer of the model."""
        if name in self._by_name:
            self._used.setdefault(name, self._by_name[name])

    def value(self, value: Value, name: str) -> str:
        """A parameter or folded weight under a name that is already taken for it."""
        return self._add(Tensor(name, value.dtype, static_shape(value.type), value))

    def array(self, array: NDArrayAny, name: str) -> str:
        """A small array; one with the same contents keeps its first name."""
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (str(array.dtype), array.shape, array.tobytes())
        found = self._by_content.get(key)
        if found is None:
            tensor = Tensor(self._names.take(name), dtype_of(array), array.shape, array)
            found = self._by_content[key] = self._add(tensor)
        return found

    def derive(self, op_type: str, inputs: Sequence[str], attributes: Mapping[str, Any], name: str) -> str | None:
        """What an operator makes of constants; None where it has to stay a node."""
        if not inputs or not all(i in self._by_name for i in inputs):
            return None
        operands = tuple(self._by_name[i] for i in inputs)
        stand_ins = [
            StandIn(o.dtype, o.shape, o.source if isinstance(o.source, np.ndarray) else None) for o in operands
        ]
        rule = rule_for(op_type, stand_ins, attributes)
        if rule is None:
            return None
        key = (op_type, tuple(inputs), repr(sorted(attributes.items())))
        found = self._derived.get(key)
        if found is None:
            dtype, shape = rule.type(attributes, stand_ins)
            tensor = Tensor(self._names.take(name), dtype, shape, Derived(rule, operands, dict(attributes)))
            found = self._derived[key] = self._add(tensor)
        return found

    def _add(self, tensor: Tensor) -> str:
        self._by_name[tensor.name] = tensor
        return tensor.name


def arrays(tensors: Sequence[Tensor], evaluator: ConstantEvaluator) -> Iterator[tuple[Tensor, NDArrayAny]]:
    """Each tensor with its array, one after the other; a constant is dropped after the last one that needs it."""
    needs = [tuple(dict.fromkeys(t.values)) for t in tensors]
    readers: dict[Value, int] = {}
    for values in needs:
        for value in values:
            readers[value] = readers.get(value, 0) + 1
    made = evaluator.stream(list(readers))
    held: dict[Value, NDArrayAny] = {}
    for tensor, values in zip(tensors, needs, strict=True):
        for value in values:
            if value not in held:
                key, array = next(made)
                held[key] = array
                del array
        yield tensor, tensor.array(held)
        for value in values:
            readers[value] -= 1
            if not readers[value]:
                del held[value]
