"""Rules about the text: names that nothing reads, names that differ by case, and their near misses."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdsl.elaborate import check
from netdsl.source import SourceFile
from netdsl.syntax.read import read_source
from tests.lint.helpers import image, names, recipe, table, warned


def value(body: str) -> list[str]:
    """The lines and columns in `body` of values that are never read; it gives `x` a value."""
    found = warned(table(body))
    assert all(f.startswith("unused-value ") for f in found), found
    places = (f.split()[1].split(":") for f in found)
    return [f"{int(line) - 3}:{column}" for line, column in places]


@pytest.mark.parametrize(
    ("body", "places"),
    [
        ("y = x -> relu", ["1:1"]),
        ("y = x -> relu\nx = x + x", ["1:1"]),
        ("a, b = x -> split(2)\nx = b", ["1:1"]),
        ("a, (b, c) = (1, (2, 3))\nx = x * a * c", ["1:5"]),
        ("for i in range(3) { x = x -> relu }", ["1:5"]),
        ("for i, n in enumerate([1, 2]) { x = x * n }", ["1:5"]),
        ("shared f = dense(_, 8)", ["1:8"]),
        # One warning for a name, at its first binding, and none for what `+=` makes of it.
        ("skips = []\nrepeat 2 {\nx = x -> relu\nskips += [x]\n}", ["1:1"]),
        ("y = 1\ny = 2", ["1:1"]),
        # The value is bound again before anything reads it.
        ("y = x -> relu\ny += x\nx = x + y\ny += x", ["4:1"]),
        ("y = x -> relu\ny = x -> gelu\nx = y", ["1:1"]),
        ("repeat 2 {\ny = x -> relu\ny = x -> gelu\nx = y\n}", ["2:1"]),
        ("if true {\ny = x\ny = x -> relu\nx = y\n}", ["2:1"]),
        ("y = x -> relu\nx = y\ny = x", ["3:1"]),
    ],
)
def test_values_that_are_never_read(body: str, places: list[str]) -> None:
    assert value(body) == places


@pytest.mark.parametrize(
    "body",
    [
        "x = x -> dense(8) as hidden -> relu as active",
        "_ = x -> relu\n_spare = x -> gelu",
        "for _ in range(3) { x = x -> relu }",
        "y = 1\nif true { y = 2 }\nx = x * y",
        "if true { y = 1 } else { y = 2 }\nx = x * y",
        # Read by the loop's next turn.
        "y = x\nrepeat 2 {\nx = y -> relu\ny = x\n}",
        "n = 0\nrepeat 2 {\nif n > 0 { x = x * n }\nn += 1\n}",
        "last = none\nfor n in [1, 2] {\nif last == none { x = x * n }\nlast = n\n}",
        "n = 2\nassert n == 2, str(n)",
        "axis = 1\nx = x[:, axis:]",
        "f = dense(_, 8)\nx = x -> f",
        "y = x -> relu\noutput y",
        "n = 8\nparam scale: float32[n]\nx = x * scale",
        "n = 2\nrepeat n { x = x -> relu }",
    ],
)
def test_values_that_something_reads(body: str) -> None:
    assert warned(table(body)) == []


def test_what_is_read_on_the_way_to_a_return() -> None:
    text = "block B(x, n) {\n y = x -> relu\n if n == 1 { return y }\n y = x -> gelu\n return y\n}\n"
    assert warned(text + table("x = x -> B(1)")) == []


def test_the_other_end_is_shown() -> None:
    (found,) = check(SourceFile("t.net", table("y = x -> relu\ny = x -> gelu\nx = y")))
    assert found.message == "this value of 'y' is never read"
    assert [(note.text, note.span and note.span.line) for note in found.notes] == [("'y' is bound again here", 5)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("input mask: float32[N, 8]", ["unused-input 4:7"]),
        ("input mask: float32[N, D]\nx = x * D", []),
        ("input mask: float32[N, D]\nx = x * mask.shape[1]", []),
        ("input mask: float32[N, 8]\nx = mask", ["unused-input 3:8"]),
        ("input _mask: float32[N, 8]", []),
        ("param scale: float32[8]", ["unused-parameter 4:7"]),
        ("param scale: float32[8]\nx = x * scale", []),
    ],
)
def test_inputs_and_weights(body: str, expected: list[str]) -> None:
    assert warned(table(body)) == expected


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        ("block B(x, n) { return x }", ["unused-parameter 1:12"]),
        ("block B(x, n) {\n n = 1\n return x * n\n}", ["unused-parameter 1:12"]),
        ("block B(x, n) {\n if x.rank == 9 { n = 1 }\n return x * n\n}", []),
        ("block B(x, n) { return if x.rank == 9 then x * n else x }", []),
        ("block B(x, n, m=n) { return x * m }", []),
        ("block B(x, n, norm=group_norm(_, groups=n)) { return x -> norm }", []),
        ("block B(x, _n) { return x }", []),
        ("block B(x, n) {\n repeat 2 { n += 1 }\n return x\n}", ["unused-parameter 1:12"]),
    ],
)
def test_parameters_of_blocks(block: str, expected: list[str]) -> None:
    assert warned(block) == expected


def test_parameters_of_networks_and_recipes() -> None:
    network = "network Net(classes=8) {\n input x: float32[N, 8]\n output out = x -> dense(8)\n}"
    assert warned(network) == ["unused-parameter 1:13"]
    assert warned(recipe(network, "mse(out, t) / classes", "float32[N, 8]")) == []
    trained = recipe(table("x = x -> dense(8)"), "mse(out, t)", "float32[N, 8]")
    assert warned(trained.replace("train Net", "train Net(lr=0.1)")) == ["unused-parameter 7:11"]
    assert warned(trained.replace("train Net", "train Net(lr=0.1)").replace("1e-3", "lr")) == []
    assert warned(trained.replace("train Net", "train Net(classes=8, rate=classes)").replace("1e-3", "rate")) == []


def test_a_recipe_reads_inputs_and_its_targets() -> None:
    network = "network Net {\n input x: float32[N, 8]\n input clean: float32[N, 8]\n output out = x -> dense(8)\n}"
    assert names(network) == ["unused-input"]
    text = recipe(network, "mse(out, clean)", "float32[N, 8]")
    assert warned(text) == ["unused-input 7:9"]
    assert warned(text.replace("optimizer", "metric error = rmse(out, t) optimizer")) == []


def test_imports(tmp_path: Path) -> None:
    parts = tmp_path / "parts.net"
    parts.write_text('from "std:layers" import ConvBN, MLP\nWIDTH = 8\nblock Twice(x) { return x -> ConvBN(8) }\n')
    main = tmp_path / "main.net"

    def found(imports: str, body: str) -> list[str]:
        main.write_text(image(body, imports))
        diagnostics = check(read_source(str(main)))
        return [f"{d.name} {Path(d.place.path).name}:{d.place.line}:{d.place.column}" for d in diagnostics]

    # MLP of parts.net is used by the file that imports it from there.
    assert found('from "parts.net" import Twice, MLP, WIDTH', "x = x -> Twice -> MLP([WIDTH])") == []
    assert found('from "parts.net" import Twice as T', "x = x -> T") == ["unused-import parts.net:1:34"]
    assert found('import "parts.net" as parts', "x = x -> relu") == [
        "unused-import main.net:1:23",
        "unused-import parts.net:1:34",
    ]
    assert found('import "parts.net" as parts', "x = x * parts.WIDTH")[0] == "unused-import parts.net:1:34"
    # A file of imports alone passes them on.
    main.write_text('from "parts.net" import Twice, MLP\n')
    assert check(read_source(str(main))) == ()


def test_names_that_differ_by_case() -> None:
    assert warned(table("skipA = x\nskipa = x\nx = skipA + skipa")) == ["names-differ-by-case 5:1"]
    assert warned("block Unit(x) { return x }\nblock UNIT(x) { return x }") == ["names-differ-by-case 2:7"]
    assert warned("DEPTH = 1\nDepth = 2") == ["names-differ-by-case 2:1"]
    assert warned("block B(x, Width, width) { return x * Width * width }") == ["names-differ-by-case 1:19"]


@pytest.mark.parametrize(
    "text",
    [
        "block B(x, X) { return x * X }",
        "WIDTH = 1\nblock B(x, width=WIDTH) { return x * width }",
        "block Stage(x) { return x }\nblock B(x) {\n stage = x -> Stage\n return stage\n}",
        "block B(x, width) { return x * width }\nblock C(x, Width) { return x * Width }",
        "block B(x) {\n width = 1\n width = 2 * width\n return x * width\n}",
    ],
)
def test_names_that_nobody_confuses(text: str) -> None:
    assert warned(text) == []
