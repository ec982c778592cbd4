"""Room for deep recursion: a function run in a thread with a large stack and a high recursion limit.

The tree's and the calls' nesting are limited by the language; what these limits allow must never end in a RecursionError.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from typing import TypeVar

STACK_BYTES = 256 * 2**20  # of address space; only what is touched takes memory
RECURSION_LIMIT = 120_000

T = TypeVar("T")

_lock = threading.Lock()
_users = 0
_usual_limit = 0


def with_deep_stack(function: Callable[[], T]) -> T:
    """`function()`, with its result or its exception."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(function())
        except BaseException as error:
            errors.append(error)

    _raise_limit()
    try:
        thread = _start(run)
        thread.join()
    finally:
        _restore_limit()
    if errors:
        raise errors[0]
    return results[0]


def _start(run: Callable[[], None]) -> threading.Thread:
    with _lock:
        usual = threading.stack_size(STACK_BYTES)
        try:
            thread = threading.Thread(target=run, name="netdsl-elaborate", daemon=True)
            thread.start()
        finally:
            threading.stack_size(usual)
    return thread


def _raise_limit() -> None:
    global _users, _usual_limit
    with _lock:
        if _users == 0:
            _usual_limit = sys.getrecursionlimit()
            sys.setrecursionlimit(max(_usual_limit, RECURSION_LIMIT))
        _users += 1


def _restore_limit() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            sys.setrecursionlimit(_usual_limit)
