"""Work grows with the program, and is bounded whatever it says. Counted in the evaluator's steps, not in seconds."""

from __future__ import annotations

import sys
import threading

import pytest

from netdsl.elaborate import check
from netdsl.elaborate.budget import MAX_STEPS, MAX_TOTAL, MAX_WORDS, Budget
from netdsl.elaborate.recipe_session import RecipeSession
from netdsl.elaborate.stack import with_deep_stack
from netdsl.source import SourceFile
from tests.elaborate.helpers import INPUT, graph_of


def spent(source: str) -> Budget:
    """What a check of the program spends."""
    session = RecipeSession(SourceFile("t.net", source))
    with_deep_stack(session.check)
    return session.budget


def test_chain_of_ten_thousand_convolutions() -> None:
    def steps(count: int) -> int:
        return spent(f"network T {{ {INPUT}\noutput y = x {'-> conv(6, 3, padding=1) ' * count}}}").steps

    assert steps(10_000) < 2.01 * steps(5_000) < 50 * 5_000


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
    budget = spent(f"network T {{ input x: float32[N, A, 8, 8]\n{body}\noutput z = x }}")
    most = 1_000_000  # of one operation that is refused
    assert budget.steps <= MAX_STEPS + most
    assert budget.words <= MAX_WORDS + most
    assert budget.earlier + budget.work <= MAX_TOTAL + most


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
