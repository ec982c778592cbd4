"""Scopes: the names of layers, and the names that a body binds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from netdsl.elaborate.layers import ParameterSource
from netdsl.source import Span
from netdsl.syntax import tree

if TYPE_CHECKING:
    from netdsl.elaborate.files import Module


class LayerScope:
    """Layers under one path. A taken segment becomes the first free of `name_2`, `name_3`, …"""

    __slots__ = ("_next", "path")

    def __init__(self, path: str = "") -> None:
        self.path = path
        self._next: dict[str, int] = {}

    def take(self, name: str) -> str:
        """The full path of a new layer."""
        number = self._next.get(name)
        if number is not None:
            while f"{name}_{number}" in self._next:
                number += 1
            self._next[name] = number + 1
            name = f"{name}_{number}"
        self._next[name] = 2
        return f"{self.path}.{name}" if self.path else name


@dataclass(slots=True)
class NetworkRun:
    """A network's body being evaluated: on its own (`arguments` is None) or called with arguments."""

    arguments: dict[str, Any] | None
    settings: dict[str, Any]
    inputs: dict[str, Span] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)
    output_spans: dict[str, Span] = field(default_factory=dict)
    symbols: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Frame:
    """A body being evaluated: what its names hold, and where its layers go.

    `scope` is None where no layer can be made (constants, settings). `owner` is the definition; `site` the place in the
    user's own file that a layer of the library is reported at.
    """

    module: Module
    scope: LayerScope | None
    source: ParameterSource | None
    owner: tree.Definition | None = None
    frozen: bool = False
    site: Span | None = None
    network: NetworkRun | None = None
    names: dict[str, Any] = field(default_factory=dict)
    bound: dict[str, Span] = field(default_factory=dict)
    result: Any = None

    def bind(self, name: str, value: Any, span: Span) -> None:
        self.names[name] = value
        self.bound[name] = span
