"""Time grows with the program, and ends soon whatever it says."""

from __future__ import annotations

import sys
import threading
import time

import pytest

from netdsl.elaborate import check
from netdsl.source import SourceFile
from tests.elaborate.helpers import INPUT, graph_of


def test_chain_of_ten_thousand_convolutions() -> None:
    def seconds(count: int) -> float:
        source = f"network T {{ {INPUT}\noutput y = x {'-> conv(6, 3, padding=1) ' * count}}}"
        best = 1e9
        for _ in range(2):
            start = time.process_time()
            assert len(graph_of(source).nodes) == count
            best = min(best, time.process_time() - start)
        return best

    half, whole = seconds(5_000), seconds(10_000)
    assert whole < 3.5
    assert whole / half < 2.5


@pytest.mark.parametrize(
    "body",
    [
        "repeat 90000 { a = " + "+".join(["1"] * 100) + " }",
        "n = N m = A repeat 2000 { n = (n * m + A) // 7 m = (m + n * N) % 5 }",
        "repeat 90000 { a = x -> conv(2.5, 3) b = x -> conv(3.5, 1) }",
        "repeat 100 { y = concat([x] * 1000000) }",
        "repeat 90000 { x = concat(x, x) }",
        "y = add([x] * 1000000)",
        "y = reshape(x, [1] * 100000 + [-1]) repeat 1000 { y = y + y }",
        "s = 'a' * 900000 t = s repeat 90000 { u = s == t v = 'b' in s }",
        "a = range(1000000) repeat 90000 { t = -1 in a }",
        "repeat 90000 { t = str(2 ** 4000) }",
        "for a in range(1000) { for b in range(1000) { c = a } }",
        " ".join(f"a{i} = unknown{i}" for i in range(20000)),
        " ".join(f"if x.rank == {i} {{ b{i} = 1 }}" for i in range(20000)),
    ],
    ids=range(13),
)
def test_ends_soon(body: str) -> None:
    start = time.process_time()
    check(SourceFile("t.net", f"network T {{ input x: float32[N, A, 8, 8]\n{body}\noutput z = x }}"))
    assert time.process_time() - start < 10


def test_exponential_recursion_ends() -> None:
    source = "block F(x, n) { if n == 0 { return x } a = x -> F(n - 1) b = x -> F(n - 1) return b }"
    found = check(SourceFile("t.net", f"{source}\nnetwork T {{ {INPUT}\noutput y = F(x, 60) }}"))
    assert [d.message for d in found] == ["more than 100,000 operators, calls and loop turns"]


def test_two_hundred_nested_calls() -> None:
    block = "block F(x, n) { if n == 0 { return x } return (((((F(x, n - 1) -> relu))))) }"
    assert len(graph_of(f"{block}\nnetwork T {{ {INPUT}\noutput y = F(x, 199) }}").nodes) == 199
    (found,) = check(SourceFile("t.net", f"{block}\nnetwork T {{ {INPUT}\noutput y = F(x, 200) }}"))
    assert "recursion" in found.message


def test_deepest_program_raises_no_recursion_error() -> None:
    deep = "(" * 180 + "F(x, n - 1)" + ")" * 180
    block = f"block F(x, n) {{ if n == 0 {{ return x }} return {deep} -> relu }}"
    (found,) = check(SourceFile("t.net", f"{block}\nnetwork T {{ {INPUT}\noutput y = F(x, 190) }}"))
    assert found.name == "limit"


def test_interpreters_settings_are_put_back() -> None:
    limit, stack = sys.getrecursionlimit(), threading.stack_size()
    graph_of(f"network T {{ {INPUT}\noutput y = x }}")
    assert (sys.getrecursionlimit(), threading.stack_size()) == (limit, stack)
