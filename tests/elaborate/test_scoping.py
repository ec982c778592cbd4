"""Names, statements, plain values, symbols, settings."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdsl.diagnostics import Severity
from netdsl.elaborate import UsageError, check, elaborate
from netdsl.source import SourceFile
from netdsl.syntax.read import read_source
from tests.elaborate.helpers import errors, graph_of, net, net_errors, paths, shapes


def test_body_is_one_scope() -> None:
    graph = net("for n in [2, 4] { y = x -> conv(n, 1) }\nif n == 4 { m = 3 }\noutput z = y -> conv(m, 1)")
    assert shapes(graph)["z"] == "float32[N, 3, 8, 8]"


def test_block_sees_its_file_but_not_its_caller() -> None:
    before = "WIDTH = 4\nblock B(y) { return y -> conv(WIDTH, 1) }"
    assert shapes(net("WIDTH = 5\noutput z = x -> B", before))["z"] == "float32[N, 4, 8, 8]"
    assert net_errors("output z = x -> B", "block B(y) { return x }") == ["unknown name 'x'"]
    assert net_errors("output z = x -> B", "block B(y) { return y + N }") == ["unknown name 'N'"]


def test_bound_name_hides_the_operator_until_then() -> None:
    graph = net("mean = mean(x, axes=1)\noutput y = mean")
    assert shapes(graph)["y"] == "float32[N, 8, 8]"
    found = errors("network T {\n input x: float32[N, 6]\n split = 2\n a, b = x -> split(3)\n output y = a }")
    assert "bound in line 3" in found[0].message


def test_callable_of_an_operators_name_is_called() -> None:
    assert paths(net("relu = gelu\noutput y = x -> relu")) == ["gelu"]


def test_default_sees_parameters_before_it_at_each_call() -> None:
    before = "block B(x, n, m=n * 2, act=relu) { return x -> conv(m, 1) -> act }"
    graph = net("output y = x -> B(2) -> B(3) -> B(1, act=gelu)", before)
    assert [str(node.output.type) for node in graph.nodes][::2] == [
        "float32[N, 4, 8, 8]",
        "float32[N, 6, 8, 8]",
        "float32[N, 2, 8, 8]",
    ]


def test_output_keeps_its_value() -> None:
    graph = net("y = x -> relu\noutput y\ny = y -> gelu\noutput z = y")
    assert [o.value.name for o in graph.outputs] == ["relu", "gelu"]


def test_only_the_taken_branch_is_evaluated() -> None:
    assert paths(net("if x.rank == 4 { y = x -> relu } else { y = x -> conv(0, 0) }\noutput y")) == ["relu"]
    assert net_errors("if x.rank == 4 { y = x } else { y = x -> rleu }\noutput y") == ["unknown name 'rleu'"]


def test_return_ends_a_block_from_within_loops() -> None:
    before = "block B(x) { for i in range(5) { if i == 2 { return x } x = x -> relu } return x -> gelu }"
    assert paths(net("output y = x -> B", before)) == ["B.relu", "B.relu_2"]


def test_unpacking() -> None:
    loop = "for i, (k, _) in enumerate([(1, 0), (3, 0)]) { x = x -> conv(a + b + i, k) }"
    graph = net(f"a, (b, _) = (1, [2, 3])\n{loop}\noutput y = x")
    assert shapes(graph)["y"] == "float32[N, 4, 6, 6]"


def test_augmented_assignment() -> None:
    lists = "features = [x]\nfeatures += [x]\nx -= 1"
    graph = net(f"n = 2\nn += 3\nn *= 2\n{lists}\noutput y = concat(features) -> conv(n, 1)")
    assert shapes(graph)["y"] == "float32[N, 10, 8, 8]"


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7 // 2 + 7 % 4 - -1", 7),
        ("2 ** 3 ** 2", 512),
        ("10 ** 30 // 10 ** 29", 10),
        ("len([1, 2, 3][1:]) + len('ab' * 2)", 6),
        ("if 2 in [1, 2] and not (3 in (1, 2)) then 5 else 6", 5),
        ("none or 4", 4),
        ("int(7.9) + round(2.5) + ceil(0.2) + floor(1.8)", 11),
        ("max(3, 9, 2) + min([4, 5]) + sum([1, 2]) + abs(-1)", 17),
        ("int(log2(8)) + int(sqrt(16))", 7),
        ("len(str([1, none, 'a'])) + len(range(0, 10, 3))", 18),
        ("reversed([1, 2, 3])[0] + zip([1, 2], [3, 4])[1][1]", 7),
        ("(1, 2) + (3,) == (1, 2, 3) and 5 or 6", 5),
        ("[1, [2, x.shape]] == [1, [2, (x.shape[0], 6, 8, 8)]] and 3 or 4", 3),
        ("x.channels + x.width * x.height", 70),
    ],
)
def test_plain_values_are_pythons(expression: str, value: int) -> None:
    assert shapes(net(f"n = {expression}\noutput y = x -> conv(n, 1)"))["y"] == f"float32[N, {value}, 8, 8]"


def test_plain_functions_work_on_tensors() -> None:
    graph = net("output a = max(x, axes=1)\noutput b = abs(x)\noutput c = sum([x, x, x])\noutput d = sqrt(x)")
    assert paths(graph) == ["max", "abs", "add", "add", "sqrt"]


def test_tensor_arithmetic_and_subscripts() -> None:
    graph = net(
        """
        y = (x + 1) * x.shape[0] / 2 - x // 2 % 3
        output a = -y ** 2 @ y
        output b = y[:, 0:2, ..., 1]
        output c = y[..., ::2]
        output d = x > 0
        """
    )
    assert shapes(graph) == {
        "a": "float32[N, 6, 8, 8]",
        "b": "float32[N, 2, 8]",
        "c": "float32[N, 6, 8, 4]",
        "d": "bool[N, 6, 8, 8]",
    }


def test_comparison_with_none_is_plain() -> None:
    before = "block B(x, mask=none) { return if mask == none then x -> relu else x * mask }"
    assert paths(net("output y = x -> B -> B(x)", before)) == ["B.relu", "B_2.mul"]


# --- symbols and settings -------------------------------------------------------------------------------------------


def test_symbols_prove_a_unet_equal() -> None:
    body = (
        "d = x -> conv(4, 3, padding=1, stride=2)\n"
        "u = d -> resize(2)\n"
        "output y = concat(u, x)\n"
        "output z = x -> reshape([N, 6, 16*h, 2*w])"
    )
    graph = graph_of(f"network T {{ input x: float32[N, 6, 4*h, 8*w]\n{body}\n}}")
    assert shapes(graph) == {"y": "float32[N, 10, 4*h, 8*w]", "z": "float32[N, 6, 16*h, 2*w]"}
    assert graph.symbols == ("N", "h", "w")


def test_comparison_that_depends_on_symbols() -> None:
    assert net_errors("if N == 1 { x = x -> relu }\noutput y = x") == [
        "whether N == 1 holds depends on the symbols: it does for N=1, not for N=2"
    ]
    assert paths(net("if N >= 1 { x = x -> relu }\noutput y = x")) == ["relu"]


def test_settings() -> None:
    source = (
        "network T(classes=3, act=relu, name='a') {\n"
        " input x: float32[N, 4*h]\n"
        " output y = x -> dense(classes) -> act\n"
        "}"
    )
    graph = graph_of(source, N="8", h=2, classes="2 * 5", act="leaky_relu(_, alpha=0.2)", name="some text")
    assert shapes(graph) == {"y": "float32[8, 10]"}
    assert str(graph.inputs[0].type) == "float32[8, 8]"
    assert paths(graph) == ["dense", "leaky_relu"]


@pytest.mark.parametrize("name", ["clases", "WIDTH", "y"])
def test_unknown_setting(name: str) -> None:
    source = "WIDTH = 3\nnetwork T(classes=3) { input x: float32[N, WIDTH]\n output y = x -> dense(classes) }"
    with pytest.raises(UsageError, match=f"no parameter or symbol '{name}'"):
        graph_of(source, **{name: "3"})


@pytest.mark.parametrize("value", ["0", "2.5", "abc", True])
def test_symbol_takes_a_positive_integer(value: object) -> None:
    with pytest.raises(UsageError, match="the symbol 'N' takes a positive integer"):
        net("output y = x", N=value)


def test_setting_of_a_recipe() -> None:
    source = (
        "network T { input x: float32[N, 6]\n output y = x }\ntrain T(lr=0.1) { loss = mean(y)\n optimizer = sgd(lr) }"
    )
    assert shapes(graph_of(source, lr="0.2")) == {"y": "float32[N, 6]"}


def test_choice_of_the_network() -> None:
    source = SourceFile(
        "t.net",
        "network A { input x: float32[N, 1]\n output y = x }\nnetwork B { input x: float32[N, 2]\n output y = x }",
    )
    assert elaborate(source).graph.name == "B"
    assert elaborate(source, network="A").graph.name == "A"
    assert elaborate(source).networks == ("A", "B")
    with pytest.raises(UsageError, match="did you mean 'A'"):
        elaborate(source, network="a")


def test_warning_and_its_silence() -> None:
    text = "network T(channels=3) {\n input x: float32[N, chanels]%s\n output y = x * channels }"
    (found,) = check(SourceFile("t.net", text % ""))
    assert (found.severity, found.name) == (Severity.WARNING, "new-symbol")
    assert elaborate(SourceFile("t.net", text % "")).warnings == (found,) or found.message
    assert check(SourceFile("t.net", text % "  # netdsl: allow new-symbol")) == ()
    assert check(SourceFile("t.net", text.replace(" input", "# netdsl: allow new-symbol\n input") % "")) == ()


# --- several errors, several files ----------------------------------------------------------------------------------


def test_independent_errors_are_all_reported_and_poison_is_silent() -> None:
    body = (
        "a = x -> conv(2.5, 1)\n"
        "b = a -> relu\n"
        "c = a + b\n"
        "if c.rank == 4 { d = 1 } else { d = 2 }\n"
        "e = x -> conv(d, 1)\n"
        "f = x -> dense(-1)\n"
        "output y = c\n"
        "output z = f"
    )
    assert [m.split(":")[0] for m in net_errors(body)] == ["conv", "dense"]


def test_errors_in_a_block_carry_the_calls() -> None:
    found = errors(
        "block B(x) { return x -> conv(0, 1) }\n"
        "block A(x) { return x -> B }\n"
        "network T { input x: float32[N, 6, 8, 8]\n"
        " repeat 3 as s { y = x -> A }\n"
        " output z = y }"
    )
    assert len(found) == 1
    assert [note.text for note in found[0].trace] == ["called from here as s.A.B", "called from here as s.A"]


def test_imports(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "a.net").write_text(
        'import "b.net" as b\nWIDTH = b.HALF * 2\nblock A(x) { return x -> b.B(WIDTH) }'
    )
    (tmp_path / "parts" / "b.net").write_text("HALF = 2\nblock B(x, n) { return x -> conv(n, 1) }")
    (tmp_path / "m.net").write_text(
        'import "parts/a.net" as a\nfrom "parts/b.net" import B as C, HALF\n'
        "network T { input x: float32[N, 6, 8, 8]\n output y = x -> a.A -> C(HALF) -> a.b.B(a.WIDTH) }"
    )
    graph = elaborate(read_source(tmp_path / "m.net")).graph
    assert paths(graph) == ["A.B.conv", "B.conv", "B_2.conv"]
    assert shapes(graph)["y"] == "float32[N, 4, 8, 8]"


def test_check_of_a_library_needs_no_network() -> None:
    assert check(SourceFile("t.net", "block B(x) { return x -> relu }\nWIDTH = 3")) == ()
    assert [d.message for d in check(SourceFile("t.net", "WIDTH = 3 / 0"))] == ["division by zero: 3 / 0"]


def test_called_network_is_checked_with_its_callers_shapes() -> None:
    source = (
        "network Trunk { input x: float32[N, C, H, W]\n"
        " output y = x -> conv(4, 1) }\n"
        "network T { input x: float32[N, 6, 8, 8]\n"
        " output y = x -> Trunk }"
    )
    assert check(SourceFile("t.net", source)) == ()
