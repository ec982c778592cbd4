"""Limits: what one elaboration may do, so that it ends soon and in little memory whatever the file says.

Operators, loop turns and nested calls are the language's limits. Steps bound the time of everything else (an
expression costs one, a visit of a list's element one), words bound the memory of lists and strings ever made.
"""

from __future__ import annotations

from sys import getsizeof
from typing import Any

from netdsl.elaborate.faults import Exhausted, Limit

MAX_WORK = 100_000  # operators, block calls and loop turns of a network together
MAX_TOTAL = 250_000  # the same, of all networks of a file
MAX_CALLS = 200  # nested
MAX_ITEMS = 1_000_000  # of one list, characters of one string
MAX_BITS = 4_096
MAX_STEPS = 4_000_000
MAX_WORDS = 40_000_000  # 8 bytes each
MAX_DEPTH = 6_000  # expressions and statements inside each other, calls included


class Budget:
    """Counts what was spent. Each method raises Limit where there is no more."""

    __slots__ = ("depth", "earlier", "steps", "words", "work")

    def __init__(self) -> None:
        self.work = 0
        self.earlier = 0  # work of the file's other networks
        self.steps = 0
        self.words = 0
        self.depth = 0

    def next_network(self) -> None:
        """Another network of the same file: operators count anew, time and memory go on."""
        self.earlier += self.work
        self.work, self.depth = 0, 0

    def operator(self, count: int = 1) -> None:
        """One operator, call or turn; `count` for one that joins so many tensors."""
        self.work += count
        if self.work > MAX_WORK:
            raise Exhausted(f"more than {MAX_WORK:,} operators, calls and loop turns")
        if self.earlier + self.work > MAX_TOTAL:
            raise Exhausted(f"more than {MAX_TOTAL:,} operators, calls and loop turns in the networks of this file")

    def turns(self, count: int) -> None:
        """Asks for all turns of a loop at once, so that a hopeless one fails before it starts."""
        if self.work + count > MAX_WORK:
            raise Limit(f"{_number(count)} turns here exceed the limit of {MAX_WORK:,} operators and loop turns in all")

    def step(self, count: int = 1) -> None:
        self.steps += count
        if self.steps > MAX_STEPS:
            raise Exhausted(f"more than {MAX_STEPS:,} steps of evaluation")

    def enter(self) -> None:
        """One more expression or statement inside another; the caller takes it back."""
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise Exhausted("calls and expressions nest too deep here: is this recursion unbounded?")

    def call(self, name: str, depth: int) -> None:
        """A call inside `depth - 1` others."""
        if depth > MAX_CALLS:
            raise Exhausted(
                f"unbounded recursion? more than {MAX_CALLS} nested calls at '{name}'",
                help="give the recursion an end: if … { return … } before the call, or use repeat",
            )

    def items(self, count: int, each: int = 1) -> None:
        """A list of `count` items is about to be made, `each` words apiece."""
        if count > MAX_ITEMS:
            raise Limit(f"a list of {_number(count)} items; the limit is {MAX_ITEMS:,}")
        self._memory(count * each)

    def characters(self, count: int) -> None:
        """A string is about to be made."""
        if count > MAX_ITEMS:
            raise Limit(f"a string of {_number(count)} characters; the limit is {MAX_ITEMS:,}")
        self._memory(count // 2 + 8)

    def _memory(self, words: int) -> None:
        self.words += words
        if self.words > MAX_WORDS:
            raise Exhausted("the lists and strings made so far take too much memory")

    def made(self, items: list[Any]) -> None:
        """The items themselves, where they were made with the list."""
        if items:
            self._memory(getsizeof(items[0]) // 8 * len(items))


def bounded(value: int) -> int:
    """An integer if it is small enough. Raises Limit."""
    if value.bit_length() > MAX_BITS:
        raise Limit(f"an integer of more than {MAX_BITS:,} bits")
    return value


def _number(count: int) -> str:
    return f"{count:,}" if count < 10**15 else "too many"
