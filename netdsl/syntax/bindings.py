"""What a body binds and reads: the names that its statements give values to, those that it uses, and whether it may
return."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from functools import lru_cache

from netdsl.source import Span
from netdsl.syntax import tree


@dataclass(frozen=True, slots=True)
class Bindings:
    """`names` with the place of each one's first binding, inputs, outputs, and whether a `return` is inside."""

    names: dict[str, Span]
    inputs: tuple[tree.Input, ...]
    outputs: tuple[tree.Identifier, ...]
    returns: bool


class _Key:
    """A tree node compared by identity: nodes hash by their contents, which takes a walk."""

    __slots__ = ("node",)

    def __init__(self, node: tree.Node) -> None:
        self.node = node

    def __hash__(self) -> int:
        return id(self.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and other.node is self.node


def bindings_of(node: tree.Node) -> Bindings:
    """Of a body, a statement or an expression."""
    return _bindings(_Key(node))


@lru_cache(maxsize=4096)
def _bindings(key: _Key) -> Bindings:
    names: dict[str, Span] = {}
    inputs: list[tree.Input] = []
    outputs: list[tree.Identifier] = []
    returns = False
    for node in _walk(key.node):
        for identifier in _bound_by(node):
            names.setdefault(identifier.id, identifier.span)
        if isinstance(node, tree.Input):
            inputs.append(node)
        elif isinstance(node, tree.Output):
            outputs += node.names
        returns = returns or isinstance(node, tree.Return)
    return Bindings(names, tuple(inputs), tuple(outputs), returns)


def inputs_of(network: tree.Network) -> list[str]:
    """The names of a network's inputs, in the order of the text."""
    return list(dict.fromkeys(node.name.id for node in bindings_of(network.body).inputs))


def bound_in(owner: tree.Definition) -> dict[str, Span]:
    """All names that a definition's body binds."""
    if isinstance(owner, tree.Block | tree.Network | tree.Train):
        return bindings_of(owner.body).names
    return {}


def _bound_by(node: tree.Node) -> Iterator[tree.Identifier]:
    match node:
        case tree.Assign(targets=targets):
            for target in targets:
                yield from target_names(target)
        case tree.AugAssign(target=target):
            yield target
        case tree.Input(name=name) | tree.ParamDecl(name=name) | tree.Shared(name=name) | tree.Metric(name=name):
            yield name
        case tree.Output(names=names, value=value) if value is not None:
            yield from names
        case tree.For(target=target):
            yield from target_names(target)
        case tree.Step(label=label) if label is not None:
            yield label


class Reads:
    """The names that expressions read, by the node that holds them; each node is looked through once."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[tree.Node, frozenset[str], frozenset[str]]] = {}

    def of(self, node: tree.Node) -> frozenset[str]:
        """Those in a node. `x += e` reads none by itself: a name that nothing else reads is of no use."""
        return self._find(node)[1]

    def with_changed(self, node: tree.Node) -> frozenset[str]:
        """The same with the names that `+=` changes: it needs their values."""
        _, names, changed = self._find(node)
        return names | changed if changed else names

    def _find(self, node: tree.Node) -> tuple[tree.Node, frozenset[str], frozenset[str]]:
        found = self._known.get(id(node))
        if found is None:
            found = self._known[id(node)] = (node, *self._in_parts(node))
        return found

    def _in_parts(self, node: tree.Node) -> tuple[frozenset[str], frozenset[str]]:
        if isinstance(node, _HOLDS_STATEMENTS):
            parts = [self._find(child) for child in children(node)]
            return frozenset().union(*(p[1] for p in parts)), frozenset().union(*(p[2] for p in parts))
        changed = frozenset((node.target.id,)) if isinstance(node, tree.AugAssign) else _NONE
        if isinstance(node, tree.Output) and node.value is None:
            return frozenset(name.id for name in node.names), changed
        return _names(node), changed


_NONE: frozenset[str] = frozenset()
_HOLDS_STATEMENTS = tree.Definition | tree.Body | tree.Branch | tree.For | tree.If | tree.Repeat


def _names(root: tree.Node) -> frozenset[str]:
    found: set[str] = set()
    pending = [root]
    while pending:
        node = pending.pop()
        if type(node) is tree.Name:
            found.add(node.id)
        else:
            pending += children(node)
    return frozenset(found)


def target_names(target: tree.Target) -> Iterator[tree.Identifier]:
    if isinstance(target, tree.Identifier):
        yield target
    elif isinstance(target, tree.TargetTuple):
        for item in target.items:
            yield from target_names(item)


def _walk(root: tree.Node) -> Iterator[tree.Node]:
    """The node and all below it, in the order of the text."""
    pending = [root]
    while pending:
        node = pending.pop()
        yield node
        pending += reversed(list(children(node)))


def children(node: tree.Node) -> Iterator[tree.Node]:
    """The nodes directly below."""
    for name in _fields(type(node)):
        value = getattr(node, name)
        if isinstance(value, tree.Node):
            yield value
        elif type(value) is tuple:
            for item in value:
                if isinstance(item, tree.Node):
                    yield item


_FIELDS: dict[type[tree.Node], tuple[str, ...]] = {}


def _fields(kind: type[tree.Node]) -> tuple[str, ...]:
    found = _FIELDS.get(kind)
    if found is None:
        found = tuple(f.name for f in fields(kind) if f.name not in ("span", "op_spans", "name_span"))
        _FIELDS[kind] = found
    return found
