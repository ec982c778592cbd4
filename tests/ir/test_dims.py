"""Symbolic integers: identities, and agreement with Python's integers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netdsl.ir.dims import (
    Dim,
    DimError,
    Expr,
    Op,
    bounds,
    ceil_div,
    count,
    decide,
    dim_max,
    dim_min,
    evaluate,
    exact_div,
    is_size,
    parse_dim,
    product,
    solve,
    substitute,
    symbol,
    to_text,
    witnesses,
)

H, W, N, h, a, b = map(symbol, ("H", "W", "N", "h", "a", "b"))
K = count("K")  # 0 or more

IDENTITIES: list[tuple[Dim, Dim]] = [
    ((32 * h - 1) // 2 + 1, 16 * h),
    ((H // 2) // 2, H // 4),
    ((2 * H) // 4, H // 2),
    ((H + 4) // 2, H // 2 + 2),
    ((4 * H + 2) // 4, H),
    (((H - 1) // 2 + 1 - 1) // 2 + 1, (H - 1) // 4 + 1),
    ((((H + 1) // 2 + 1) // 2 + 1) // 2, (H + 7) // 8),
    (H % 2, H - 2 * (H // 2)),
    ((32 * h) % 32, 0),
    (-(-H // 2), (H + 1) // 2),
    (-(-H // 3), (H + 2) // 3),
    (-(-H // W), (H + W - 1) // W),
    (H - H // 2, (H + 1) // 2),
    (H - (H + 3) // 4, 3 * H // 4),
    ((N * H) // H, N),
    ((N * H) // (N * W), H // W),
    ((a * b + b) // b, a + 1),
    ((a * b + b + W) // b, a + 1 + W // b),
    ((a + b) * (a - b) // (a + b), a - b),
    ((H // W) // 2, H // (2 * W)),
    ((H // 2) // W, H // (2 * W)),
    ((2 * (H // 2) + W) // 4, (H + 2 * (W // 2)) // 4),
    ((H + 2 * (W // 2)) // 4, (H // 2 + W // 2) // 2),
    (ceil_div(H // 3, 2), (H + 3) // 6),
    (ceil_div(ceil_div(H, 2), 2), (H + 3) // 4),
    (ceil_div(H // W, 2), (H + W) // (2 * W)),
    ((H % 5) // 5, 0),
    (H // (H + 1), 0),
    (H // -2, -((H + 1) // 2)),
    (H - H, 0),
    (0 * H, 0),
    (H**0, 1),
    ((H + 1) ** 2, H * H + 2 * H + 1),
]


@pytest.mark.parametrize(("left", "right"), IDENTITIES)
def test_identity(left: Dim, right: Dim) -> None:
    assert left == right
    assert hash(left) == hash(right)
    assert to_text(left) == to_text(right)


TEXTS: list[tuple[Dim, str]] = [
    (16 * h, "16*h"),
    (N, "N"),
    (H // 2 + 1, "H//2 + 1"),
    (-(-H // 2), "(H + 1)//2"),
    ((H - 1) // 32 + 1, "(H + 31)//32"),
    (W * 12 * H, "12*H*W"),
    (64 * ceil_div(H, 2) * ceil_div(W, 2) * N, "64*N*((H + 1)//2)*((W + 1)//2)"),
    (3 * H // 4, "3*H//4"),
    (-(H // 2), "-(H//2)"),
    (5 - H // 2, "5 - H//2"),
    (W - H, "W - H"),
    (1 - H, "1 - H"),
    (H - 1, "H - 1"),
    (-H - 1, "-H - 1"),
    (1 + H + H * H * W, "H**2*W + H + 1"),
    (H % 5, "H - 5*(H//5)"),
    (H // (W + 1), "H//(W + 1)"),
    (dim_max(H, W) + 1, "max(H, W) + 1"),
    (dim_min(H, 8), "min(8, H)"),
    (7, "7"),
    (2 * K // 3 + 1, "2*K?//3 + 1"),
]


@pytest.mark.parametrize(("dim", "text"), TEXTS)
def test_text(dim: Dim, text: str) -> None:
    assert to_text(dim) == text
    assert parse_dim(text) == dim


def test_text_does_not_depend_on_the_order_of_construction() -> None:
    assert str(N * H + W + H // 3 + N) == str(N + H // 3 + W + H * N) == "H*N + N + W + H//3"


def test_parse_knows_the_operators_of_the_language() -> None:
    assert parse_dim("-H % 4 + max(2, 3) * (W - 1)") == -H % 4 + 3 * (W - 1)
    assert parse_dim("a//b//2") == a // b // 2
    assert parse_dim("- -3") == 3


UNREADABLE = [
    "",
    "H +",
    "H $ 2",
    "(H",
    "H)",
    "2 H",
    "H ** -1",
    "max(H",
    "H // 0",
    "H,W",
    "(" * 500,
    "9" * 9999,
    "2**99999",
]


@pytest.mark.parametrize("text", UNREADABLE)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(DimError):
        parse_dim(text)


@pytest.mark.parametrize(
    "divide",
    [lambda: H // 0, lambda: 5 // (H - 1), lambda: H % (H - W), lambda: N // (H // 2), lambda: exact_div(H, 0)],
)
def test_division_by_what_may_be_zero(divide: Callable[[], Dim]) -> None:
    with pytest.raises(ZeroDivisionError):
        divide()
    with pytest.raises(DimError):
        divide()


def test_limits() -> None:
    many = product(symbol(f"s{i}") + 1 for i in range(8))
    assert isinstance(many, Expr)
    with pytest.raises(DimError, match="too large"):
        _ = many * (N + 1)
    with pytest.raises(DimError, match="too large"):
        _ = H * 2**4096
    with pytest.raises(DimError, match="too large"):
        _ = (H + 1) ** 100_000
    with pytest.raises(DimError, match="too large"):
        _nested(1000)
    huge = 2**4095 * H * (W - 1)
    assert decide(">=", huge, 0) is True
    assert decide(">", huge + N, 3 * N) is None


def _nested(count: int) -> Dim:
    dim: Dim = H
    for _ in range(count):
        dim = (dim * dim + 1) // W
    return dim


DECISIONS: list[tuple[Op, Dim, Dim, bool | None]] = [
    ("==", H, W, None),
    ("==", H, H, True),
    ("==", 2 * H, 2 * W + 1, False),
    ("!=", H, H + 1, True),
    (">=", H, 1, True),
    (">", H, 1, None),
    ("<", H // 2, H, True),
    (">=", H - (H - 1) // 2, 1, True),
    ("<=", H % 5, 4, True),
    (">=", H % W, 0, True),
    ("<", H % W, W, True),
    ("==", H // 3 + (H + 1) // 3 + (H + 2) // 3, H, True),
    ("==", (H + 1) // 4 + (H + 3) // 4, (H + 1) // 2, True),
    (">=", H * H + 4, 4 * H, True),
    (">", H * H + 5, 4 * H, True),
    ("==", (H * (H + 1)) % 2, 0, True),
    ("==", H, 5, None),
    ("<", H, 100, None),
    (">=", dim_max(H, 3), 3, True),
    (">=", K, 0, True),
    (">=", K, 1, None),
    ("==", K, 0, None),
    (">=", K * H + N, 1, True),
    ("==", K // 2 + (K + 1) // 2, K, True),
    ("<", K // 2, K, None),
    (">=", K * K + 1, 2 * K, True),
    ("==", K, symbol("K"), None),
]


@pytest.mark.parametrize(("op", "left", "right", "answer"), DECISIONS)
def test_decide(op: Op, left: Dim, right: Dim, answer: bool | None) -> None:
    assert decide(op, left, right) is answer


def test_witnesses() -> None:
    assert witnesses("==", 2 * (H // 2), H) == ({"H": 2}, {"H": 1})
    assert witnesses("<", H, 5000) == ({"H": 1}, {"H": 5000})
    assert witnesses("==", H, H + 1) is None
    assert witnesses(">=", K, 1) == ({"K?": 1}, {"K?": 0})
    assert witnesses("==", H, W) == ({"H": 1, "W": 1}, {"H": 2, "W": 1})


def test_bounds() -> None:
    assert bounds(7) == (7, 7)
    assert bounds(H + W) == (2, None)
    assert bounds(H % 5) == (0, 4)
    assert bounds(-3 * H) == (None, -3)
    assert bounds((H - 1) // 2 + 1) == (1, None)
    assert bounds(3 * K + 2) == (2, None)


def test_substitute_puts_all_values_at_once() -> None:
    assert substitute(H // 2 + W, {"H": W, "W": H}) == W // 2 + H
    assert substitute(H // 2, {"H": 2 * N}) == N
    assert substitute(H // W, {"H": 7, "W": 2}) == 3
    with pytest.raises(DimError):
        substitute(H // W, {"W": N - 1})


def test_exact_division() -> None:
    assert exact_div(12, 4) == 3
    assert exact_div(12, 5) is None
    assert exact_div(6 * H * W, 2 * H) == 3 * W
    assert exact_div(H * H - 1, H - 1) == H + 1
    assert exact_div(H, 2) is None
    assert exact_div(H * (H + 1), 2) is not None


def test_solve() -> None:
    assert solve(32 * h, 64, {}) == 2
    assert solve(32 * h, 65, {}) is None
    assert solve(32 * h, 64 * H, {}) == 2 * H
    assert solve(h + 1, 1, {}) is None
    assert solve(h + 1, N, {}) == N - 1
    assert solve(N * h, 6, {"N": 3}) == 2
    assert solve(N * h, 6 * h, {"N": h}) == 6
    assert solve(H // 2, 6, {}) is None
    assert solve(H * H, 4, {}) is None
    assert solve(4 * K, 0, {}) == 0
    assert solve(h, 0, {}) is None


def test_a_count_is_a_size_that_may_be_zero() -> None:
    assert K.counts == {"K?"} and not H.counts
    assert is_size(H) and is_size(2 * K) and is_size(3)
    assert not is_size(0) and not is_size(H - 1) and not is_size(K - 1)


def test_max_and_min() -> None:
    assert dim_max(H, H + 1) == H + 1
    assert dim_min(H, 1) == 1
    assert dim_max(dim_max(H, W), N) == dim_max(H, dim_max(N, W))
    assert evaluate(dim_max(H, W), {"H": 3, "W": 4}) == 4


def test_copies_are_equal() -> None:
    dim = (H + 3) // 4 * dim_max(W, N) // (N + 1)
    assert copy.deepcopy(dim) == dim
    assert pickle.loads(pickle.dumps(dim)) == dim


def test_a_symbolic_dimension_has_no_truth_value() -> None:
    with pytest.raises(DimError):
        bool(H)


ENVS = st.fixed_dictionaries({name: st.integers(1, 40) for name in "HWN"} | {"K?": st.integers(0, 40)})
Both = tuple[Dim, Callable[[dict[str, int]], int]]  # the same expression, symbolic and as a function of numbers


def _combined(op: str, left: Both, right: Both) -> Both:
    x, f = left
    y, g = right
    if op == "+":
        return x + y, lambda env: f(env) + g(env)
    if op == "-":
        return x - y, lambda env: f(env) - g(env)
    if op == "*":
        return x * y, lambda env: f(env) * g(env)
    if op == "max":
        return dim_max(x, y), lambda env: max(f(env), g(env))
    if op == "min":
        return dim_min(x, y), lambda env: min(f(env), g(env))
    if decide("!=", y, 0) is not True:
        return x, f
    try:
        result = x // y if op == "//" else x % y
    except ZeroDivisionError:
        return x, f
    if op == "//":
        return result, lambda env: f(env) // g(env)
    return result, lambda env: f(env) % g(env)


def _named(name: str) -> Both:
    return symbol(name), lambda env: env[name]


def _number(value: int) -> Both:
    return value, lambda env: value


LEAVES = st.one_of(st.sampled_from(["H", "W", "N", "K?"]).map(_named), st.integers(-9, 9).map(_number))
OPERATORS = st.sampled_from(["+", "-", "*", "//", "//", "//", "%", "max", "min"])
TREES = st.recursive(LEAVES, lambda inner: st.builds(_combined, OPERATORS, inner, inner), max_leaves=8)


@settings(max_examples=400, deadline=None)
@given(TREES, ENVS)
def test_agrees_with_python(tree: Both, env: dict[str, int]) -> None:
    dim, value = tree
    assert evaluate(dim, env) == value(env)
    assert substitute(dim, env) == value(env)
    low, high = bounds(dim)
    assert low is None or low <= value(env)
    assert high is None or value(env) <= high


@settings(max_examples=300, deadline=None)
@given(TREES)
def test_text_round_trip(tree: Both) -> None:
    assert parse_dim(to_text(tree[0])) == tree[0]


@settings(max_examples=200, deadline=None)
@given(TREES, TREES, ENVS, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]))
def test_decide_never_contradicts_evaluation(left: Both, right: Both, env: dict[str, int], op: Op) -> None:
    answer = decide(op, left[0], right[0])
    if answer is not None:
        assert answer is decide(op, left[1](env), right[1](env))


COEFFICIENTS = st.integers(-12, 12)
LINEAR = st.builds(lambda x, y, z: x * H + y * W + z, COEFFICIENTS, COEFFICIENTS, COEFFICIENTS)
DIVISORS = st.integers(1, 12)


@settings(max_examples=300, deadline=None)
@given(LINEAR, DIVISORS, COEFFICIENTS, DIVISORS)
def test_equal_however_written(dim: Dim, first: int, offset: int, second: int) -> None:
    assert (dim // first + offset) // second == (dim + offset * first) // (first * second)
    assert (dim + first * offset) // first == dim // first + offset
    assert second * dim // (second * first) == dim // first
    assert dim % first == dim - first * (dim // first)
    assert -(-dim // first) == ceil_div(dim, first) == (dim + first - 1) // first
    assert (dim + first * W) // first == dim // first + W


@settings(max_examples=100, deadline=None)
@given(LINEAR, st.lists(st.tuples(COEFFICIENTS, st.integers(1, 4)), max_size=6))
def test_a_chain_of_strided_layers_is_one_floor(dim: Dim, layers: list[tuple[int, int]]) -> None:
    at_once, divisor, chained = dim, 1, dim
    for offset, stride in layers:
        chained = (chained + offset) // stride
        at_once, divisor = at_once + offset * divisor, divisor * stride
    assert chained == at_once // divisor


@settings(max_examples=100, deadline=None)
@given(TREES, DIVISORS, DIVISORS)
def test_decide_never_denies_an_identity(tree: Both, first: int, second: int) -> None:
    dim = tree[0]
    assert decide("==", dim // first // second, dim // (first * second)) is not False
    assert decide("==", ceil_div(dim, first), (dim + first - 1) // first) is not False
