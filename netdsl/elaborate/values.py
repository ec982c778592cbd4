"""Values of the language beyond Python's own: callables, imported files, results by name, and the missing value.

Plain values are Python's (int, float, bool, str, None, list, tuple), dimensions, element types and initializers;
tensors are the graph's values. All are immutable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netdsl.elaborate.layers import SharedStore
from netdsl.ir import arguments
from netdsl.ir.arguments import Param
from netdsl.ir.graph import Value
from netdsl.ir.initializer import Initializer
from netdsl.ir.opdef import Operator
from netdsl.source import Span
from netdsl.syntax import tree

if TYPE_CHECKING:
    from netdsl.elaborate.files import Module


class Poison:
    """What a name holds after the statement that should have bound it failed; whatever touches it stays silent."""


POISON = Poison()


@dataclass(frozen=True, slots=True, eq=False)
class OperatorValue:
    """An operator of the table."""

    op: type[Operator]

    @property
    def name(self) -> str:
        return self.op.name

    def __str__(self) -> str:
        return f"the operator '{self.name}'"


class OnnxOperators:
    """`onnx`: the operators of ONNX are its attributes."""

    def __str__(self) -> str:
        return "the name of ONNX's operators"


@dataclass(frozen=True, slots=True, eq=False)
class BlockValue:
    module: Module
    block: tree.Block

    @property
    def name(self) -> str:
        return self.block.name.id

    def __str__(self) -> str:
        return f"the block '{self.name}'"


@dataclass(frozen=True, slots=True, eq=False)
class NetworkValue:
    module: Module
    network: tree.Network

    @property
    def name(self) -> str:
        return self.network.name.id

    def __str__(self) -> str:
        return f"the network '{self.name}'"


@dataclass(frozen=True, slots=True, eq=False)
class PlainFunction:
    """A function on plain values. `on_tensors` names the operator that takes over where an argument is a tensor."""

    name: str
    call: Callable[..., Any]
    low: int
    high: int | None
    on_tensors: str | None = None

    def __str__(self) -> str:
        return f"the function '{self.name}'"


@dataclass(frozen=True, slots=True, eq=False)
class InitializerFunction:
    """A family of initializers, `normal(mean, std)`; itself an initializer where every argument has a default."""

    name: str

    @property
    def default(self) -> Initializer | None:
        defaults = [default for _, default in Initializer.SIGNATURES[self.name]]
        known = [d for d in defaults if d is not None]
        return Initializer(self.name, tuple(known)) if len(known) == len(defaults) else None

    def __str__(self) -> str:
        return f"the initializer '{self.name}'"


@dataclass(frozen=True, slots=True, eq=False)
class SettingFunction:
    """A function that only one setting knows: `sgd`, `cosine`, `early_stop`."""

    name: str
    signature: tuple[Param, ...]
    make: Callable[[Mapping[str, Any]], Any]

    def __str__(self) -> str:
        return f"the function '{self.name}'"


@dataclass(slots=True, eq=False)
class Given:
    """An argument of a call: `span` is None for the value in front of a chain's step, `name` the name it was read from,
    if it was one."""

    value: Any
    span: Span | None = None
    name: str | None = None
    items: list[Given] | None = None  # of an argument that takes the place of several


@dataclass(slots=True, eq=False)
class Arguments:
    positional: list[Given] = field(default_factory=list)
    named: dict[str, Given] = field(default_factory=dict)
    named_spans: dict[str, Span] = field(default_factory=dict)

    def given(self) -> list[Given]:
        return [*self.positional, *self.named.values()]


class Hole:
    """Stands in the arguments of a `Partial` where the one argument goes."""


HOLE = Hole()


@dataclass(frozen=True, slots=True, eq=False)
class Partial:
    """A call with holes: a function of one argument."""

    function: Any
    arguments: Arguments

    @property
    def name(self) -> str:
        return str(self.function.name)

    def __str__(self) -> str:
        return f"the function '{self.name}(_)'"


@dataclass(frozen=True, slots=True, eq=False)
class SharedCallable:
    """`shared f = …` or `frozen f = …`: every use has the same parameters."""

    name: str
    function: Any
    store: SharedStore
    frozen: bool

    def __str__(self) -> str:
        return f"the {'frozen' if self.frozen else 'shared'} function '{self.name}'"


@dataclass(frozen=True, slots=True, eq=False)
class ModuleValue:
    """A file imported as a name."""

    name: str
    module: Module

    def __str__(self) -> str:
        return f"the imported file '{self.name}'"


class Results(tuple[Any, ...]):
    """Several outputs of a network: a tuple that also answers by name."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, outputs: dict[str, Any]) -> Results:
        made = cls(outputs.values())
        made.names = tuple(outputs)
        return made


CALLABLES = (
    OperatorValue,
    BlockValue,
    NetworkValue,
    Partial,
    SharedCallable,
    PlainFunction,
    InitializerFunction,
    SettingFunction,
)


def is_callable(value: Any) -> bool:
    return isinstance(value, CALLABLES)


def describe(value: Any) -> str:
    """How an error names a value."""
    if isinstance(value, Initializer) and not value.arguments:
        return f"the initializer {value.name}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value) if abs(value) < 10**30 else "a very large integer"
    if isinstance(value, str) and len(value) < 60:
        return f'the string "{escaped(value)}"'
    if isinstance(value, list) and value and any(isinstance(v, Value) for v in value[:100]):
        return f"a list of {len(value)} tensor{'s' if len(value) > 1 else ''}"
    return arguments.describe(value)


def describe_kind(value: Any) -> str:
    """A value in two or three words, without its contents."""
    match value:
        case Value():
            return "a tensor"
        case bool():
            return "a boolean"
        case int():
            return "an integer"
        case float():
            return "a float"
        case str():
            return "a string"
        case list():
            return "a list"
        case tuple():
            return "a tuple"
        case _:
            return describe(value)


def escaped(text: str) -> str:
    """A string's characters with those that would break a message's line made visible."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(words: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} {last} {words[-1]}"


def plural(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"
