"""The tree of each construct, and its spans."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import pytest

from netdsl.diagnostics import render_all
from netdsl.source import SourceFile, Span
from netdsl.syntax import tree
from netdsl.syntax.parse import parse


def parsed(text: str) -> tree.File:
    file, diagnostics = parse(SourceFile("m.net", text))
    assert not diagnostics, render_all(diagnostics)
    return file


def expression(text: str) -> tree.Expr:
    (definition,) = parsed(f"A = {text}").definitions
    assert isinstance(definition, tree.Constant)
    assert definition.value.span.text == text
    return definition.value


def statement(text: str) -> tree.Statement:
    (definition,) = parsed(f"block A(x) {{ {text} }}").definitions
    assert isinstance(definition, tree.Block)
    (found,) = definition.body.statements
    assert found.span.text == text
    return found


def shape(node: Any) -> Any:
    """A node without its spans, as nested tuples that start with the class."""
    if isinstance(node, tuple):
        return tuple(shape(item) for item in node)
    if not isinstance(node, tree.Node):
        return node
    names = [f.name for f in fields(node) if f.name != "span" and not f.name.endswith(("_span", "_spans"))]
    return (type(node).__name__, *(shape(getattr(node, name)) for name in names))


def name(id: str) -> tuple[str, str]:
    return ("Name", id)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a + b - c", ("Operation", name("a"), (name("b"), name("c")), ("+", "-"))),
        ("a + b * c", ("Operation", name("a"), (("Operation", name("b"), (name("c"),), ("*",)),), ("+",))),
        ("-a ** -b", ("Unary", "-", ("Power", name("a"), ("Unary", "-", name("b"))))),
        ("a ** b ** c", ("Power", name("a"), ("Power", name("b"), name("c")))),
        ("not a == b", ("Unary", "not", ("Compare", "==", name("a"), name("b")))),
        ("a not in b", ("Compare", "not in", name("a"), name("b"))),
        ("a or b and c", ("Operation", name("a"), (("Operation", name("b"), (name("c"),), ("and",)),), ("or",))),
        ("f(a, k=1)", ("Call", name("f"), (("Argument", None, name("a")), ("Argument", "k", ("Literal", 1))))),
        ("x.shape[0]", ("Index", ("Attribute", name("x"), "shape"), (("Literal", 0),))),
        (
            "x[:, 1:, ::2, ...]",
            (
                "Index",
                name("x"),
                (
                    ("Slice", None, None, None),
                    ("Slice", ("Literal", 1), None, None),
                    ("Slice", None, None, ("Literal", 2)),
                    ("Ellipsis",),
                ),
            ),
        ),
        (
            "x -> f(2)[0] as g -> h",
            (
                "Chain",
                name("x"),
                (
                    (
                        "Step",
                        ("Index", ("Call", name("f"), (("Argument", None, ("Literal", 2)),)), (("Literal", 0),)),
                        ("Identifier", "g"),
                    ),
                    ("Step", name("h"), None),
                ),
            ),
        ),
        (
            "if a then b else c -> d",
            ("Conditional", name("a"), name("b"), ("Chain", name("c"), (("Step", name("d"), None),))),
        ),
        ("(a)", ("Paren", name("a"))),
        ("(a,)", ("Tuple", (name("a"),))),
        ("()", ("Tuple", ())),
        ("a, b", ("Tuple", (name("a"), name("b")))),
        ("[a, b,]", ("List", (name("a"), name("b")))),
        ("f(_)", ("Call", name("f"), (("Argument", None, ("Hole",)),))),
        (
            "focal(p, target=y)",
            ("Call", name("focal"), (("Argument", None, name("p")), ("Argument", "target", name("y")))),
        ),
        ("1e-4", ("Literal", 1e-4)),
        ("007", ("Literal", 7)),
        ("'it\\'s \\\\ \"a\"\\n'", ("Literal", 'it\'s \\ "a"\n')),
        ("none", ("Literal", None)),
    ],
)
def test_expression(text: str, expected: object) -> None:
    assert shape(expression(text)) == expected


IDENTIFIER_A = ("Identifier", "a")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a = 1", ("Assign", (IDENTIFIER_A,), ("Literal", 1))),
        ("a, _ = x", ("Assign", (IDENTIFIER_A, ("Discard",)), name("x"))),
        ("a, (b, _) = x", ("Assign", (IDENTIFIER_A, ("TargetTuple", (("Identifier", "b"), ("Discard",)))), name("x"))),
        ("a += 1", ("AugAssign", IDENTIFIER_A, "+", ("Literal", 1))),
        (
            "input input: float32[N]",
            ("Input", "input", ("Identifier", "input"), ("TypeExpr", ("Identifier", "float32"), (name("N"),))),
        ),
        ("target a: int64[]", ("Input", "target", IDENTIFIER_A, ("TypeExpr", ("Identifier", "int64"), ()))),
        ("output a = x", ("Output", (IDENTIFIER_A,), name("x"))),
        ("output a, block", ("Output", (IDENTIFIER_A, ("Identifier", "block")), None)),
        ("return a, x", ("Return", ("Tuple", (name("a"), name("x"))))),
        ("for a in x as s { }", ("For", IDENTIFIER_A, name("x"), ("Identifier", "s"), ("Body", ()))),
        (
            "for a, (b, c) in x { }",
            (
                "For",
                ("TargetTuple", (IDENTIFIER_A, ("TargetTuple", (("Identifier", "b"), ("Identifier", "c"))))),
                name("x"),
                None,
                ("Body", ()),
            ),
        ),
        ("repeat n - 1 { }", ("Repeat", ("Operation", name("n"), (("Literal", 1),), ("-",)), None, ("Body", ()))),
        (
            "if a { } else if b { } else { }",
            ("If", (("Branch", name("a"), ("Body", ())), ("Branch", name("b"), ("Body", ()))), ("Body", ())),
        ),
        ("assert a, 'm'", ("Assert", name("a"), ("Literal", "m"))),
        (
            "param a: float32[3] = zeros",
            ("ParamDecl", IDENTIFIER_A, ("TypeExpr", ("Identifier", "float32"), (("Literal", 3),)), name("zeros")),
        ),
        ("shared a = f(_)", ("Shared", False, IDENTIFIER_A, ("Call", name("f"), (("Argument", None, ("Hole",)),)))),
        ("frozen a = f", ("Shared", True, IDENTIFIER_A, name("f"))),
        ("metric a = f", ("Metric", IDENTIFIER_A, name("f"))),
        ("augment a = []", ("Labelled", ("Identifier", "augment"), IDENTIFIER_A, ("List", ()))),
        ("block = repeat", ("Assign", (("Identifier", "block"),), name("repeat"))),
    ],
)
def test_statement(text: str, expected: object) -> None:
    assert shape(statement(text)) == expected


def test_definitions() -> None:
    text = """import "a.net" as r
from 'b.net' import A, B as C
K = 1, 2
block b(x, y=1,) { return x }
network n { output y }
train r.n "label" (lr=0.1) { loss = x }
train n { }"""
    kinds = [shape(d)[:3] for d in parsed(text).definitions]
    assert kinds == [
        ("Import", "a.net", ("Identifier", "r")),
        (
            "FromImport",
            "b.net",
            (("ImportedName", ("Identifier", "A"), None), ("ImportedName", ("Identifier", "B"), ("Identifier", "C"))),
        ),
        ("Constant", ("Identifier", "K"), ("Tuple", (("Literal", 1), ("Literal", 2)))),
        (
            "Block",
            ("Identifier", "b"),
            (("Parameter", ("Identifier", "x"), None), ("Parameter", ("Identifier", "y"), ("Literal", 1))),
        ),
        ("Network", ("Identifier", "n"), ()),
        ("Train", ("Attribute", ("Name", "r"), "n"), "label"),
        ("Train", ("Name", "n"), None),
    ]


def test_spans_of_parts() -> None:
    value = expression("a + f(b, k=-c) -> g"[:14])
    assert isinstance(value, tree.Operation)
    assert value.op_spans[0].column == 7
    (call,) = value.rest
    assert isinstance(call, tree.Call)
    assert [argument.span.text for argument in call.arguments] == ["b", "k=-c"]
    assert call.arguments[1].name_span is not None
    assert call.arguments[1].name_span.text == "k"


def test_every_span_lies_within_its_parent() -> None:
    loop = "for a, (b, _) in [(1, (2, 3))] as s {\n x = x -> f(-a ** 2, k=y[0:2]) as t -> g\n }"
    text = f"block A(x, y=[1, 2]) {{\n {loop}\n return x\n}}"

    def check(node: Any, outer: Span) -> None:
        for item in node if isinstance(node, tuple) else (getattr(node, f.name) for f in fields(node)):
            if isinstance(item, tree.Node):
                assert outer.start <= item.span.start < item.span.end <= outer.end
                check(item, item.span)
            elif isinstance(item, tuple):
                check(item, outer)

    file = parsed(text)
    check(file.definitions, Span(file.source, 0, len(text)))


def test_comments_are_kept_with_their_place() -> None:
    comments = parsed("# first\nA = 1  # netdsl: allow unused\n    # last").comments
    assert [(c.text, c.own_line) for c in comments] == [
        ("# first", True),
        ("# netdsl: allow unused", False),
        ("# last", True),
    ]
    assert comments[1].span.column == 8


def test_line_ends_and_byte_order_mark() -> None:
    file = parsed("\ufeffA = 1 # c\r\nB = 2\r\n")
    assert [d.span.line for d in file.definitions] == [1, 2]
    assert file.comments[0].text == "# c"


@pytest.mark.parametrize(
    "text",
    [
        "A = x" + " -> f" * 100_000,
        "A = 1" + " + 1" * 100_000,
        "block A(x) { if x { }" + " else if x { }" * 30_000 + " }",
        "block A(x) {" + " x = f(x)" * 30_000 + " }",
        "A = [" + "1, " * 100_000 + "]",
    ],
)
def test_length_is_no_matter(text: str) -> None:
    assert len(parsed(text).definitions) == 1


def test_time_is_linear_in_the_length_of_a_chain() -> None:
    def seconds(steps: int) -> float:
        text = "A = x" + "\n -> conv(64, 3, padding=1)" * steps
        best = float("inf")
        for _ in range(3):
            start = time.process_time()
            parsed(text)
            best = min(best, time.process_time() - start)
        return best

    parsed("A = 1")  # builds the tables
    assert seconds(8000) / seconds(4000) < 3
