"""Room for deep recursion: a function run in a thread with a large stack and a high recursion limit.

The nesting of the tree and of calls is limited by the language; what these limits allow must never end in a
RecursionError. The cyclic garbage collector rests meanwhile: a graph being built is all alive, and scanning it again
and again would cost time that grows with its square.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

STACK_BYTES = 256 * 2**20  # of address space; only what is touched takes memory
RECURSION_LIMIT = 120_000

T = TypeVar("T")


class _Room:
    """The interpreter's settings while any evaluation runs; the last one to end puts them back."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.limit = 0
        self.collects = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        with self.lock:
            if self.users == 0:
                self.limit, self.collects = sys.getrecursionlimit(), gc.isenabled()
                sys.setrecursionlimit(max(self.limit, RECURSION_LIMIT))
                gc.disable()
            self.users += 1
        try:
            yield
        finally:
            with self.lock:
                self.users -= 1
                if self.users == 0:
                    sys.setrecursionlimit(self.limit)
                    if self.collects:
                        gc.enable()

    def start(self, run: Callable[[], None]) -> threading.Thread:
        with self.lock:
            usual = threading.stack_size(STACK_BYTES)
            try:
                thread = threading.Thread(target=run, name="netdsl-elaborate", daemon=True)
                thread.start()
            finally:
                threading.stack_size(usual)
        return thread


_room = _Room()


def with_deep_stack(function: Callable[[], T]) -> T:
    """`function()`, with its result or its exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    with _room():
        _room.start(run).join()
    if errors:
        raise errors[0]
    return results[0]
