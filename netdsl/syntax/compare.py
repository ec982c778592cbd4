"""Equality of trees that ignores where they stand in their files."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import fields
from functools import cache
from typing import Any

from netdsl.syntax.tree import Comment, File, Node


@cache
def _compared(kind: Hashable) -> tuple[str, ...]:
    """The names of a node class's fields that count."""
    assert isinstance(kind, type) and issubclass(kind, Node)
    return tuple(f.name for f in fields(kind) if f.name != "span" and not f.name.endswith(("_span", "_spans")))


def tree_equal(a: Node | File, b: Node | File) -> bool:
    """Whether two trees are the same but for their spans. Comments count by their text. Any depth."""
    stack: list[tuple[Any, Any]] = [(a, b)]
    while stack:
        left, right = stack.pop()
        if type(left) is not type(right):  # an int is no float and no bool
            return False
        if isinstance(left, File):
            stack += [(left.definitions, right.definitions), (left.comments, right.comments)]
        elif isinstance(left, Comment):
            stack.append((left.text, right.text))
        elif isinstance(left, Node):
            kind: Any = type(left)  # mypy takes a class whose instances have __hash__ for unhashable
            stack += [(getattr(left, name), getattr(right, name)) for name in _compared(kind)]
        elif isinstance(left, tuple):
            if len(left) != len(right):
                return False
            stack += zip(left, right, strict=True)
        elif left != right:
            return False
    return True
