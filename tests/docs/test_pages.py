"""The tools that check the documentation notice what they are for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs import figures
from tests.docs.pages import ROOT, Block, agrees, rewritten


def block(body: str, *words: str) -> Block:
    return Block(ROOT / "README.md", 1, ("console", *words), body, 0, len(body))


PRINTED = "$ c\nNet\n conv   9,408\n relu       0\n\ntotal 2.5 s\n"


@pytest.mark.parametrize(
    ("shown", "fits"),
    [
        (PRINTED, True),
        ("$ c\n…\n relu       0\n…\n", True),
        ("$ c\n…\n relu       1\n…\n", False),
        ("$ c\n…\ntotal … s\n", True),
        ("$ c\nNet\n conv   9,408\n", False),
        ("$ c\n…\nNet\n…\n conv   9,408\n…\n", True),
        ("$ c\n…\n relu       0\n…\n conv   9,408\n…\n", False),
    ],
)
def test_what_is_shown_must_be_printed(shown: str, fits: bool) -> None:
    assert agrees(block(shown), PRINTED) is fits


def test_fractions_may_be_approximate() -> None:
    assert agrees(block("loss 0.52, epoch 3\n", "approximate"), "loss 0.5431, epoch 3\n")
    assert not agrees(block("loss 0.52, epoch 3\n", "approximate"), "loss 0.9, epoch 3\n")
    assert not agrees(block("loss 0.52, epoch 3\n", "approximate"), "loss 0.52, epoch 4\n")
    assert not agrees(block("loss 0.52\n"), "loss 0.5201\n")


def test_rewriting_leaves_out_what_was_left_out() -> None:
    old = block("$ c\n…\n conv   9,400\n…\ntotal … s\n")
    assert rewritten(old, PRINTED) == "$ c\n…\n conv   9,408\n…\ntotal … s\n"
    assert rewritten(block("something else\n"), PRINTED) == PRINTED.replace("2.5", "…")


@pytest.mark.parametrize(
    ("prose", "wrong"),
    [
        ("It has **9,408** weights.", 0),
        ("It has **9,409** weights.", 1),
        ("It has 9,409 weights.", 1),
        ("It has `3·3·3·64 = 1,728` and so 1,728 weights.", 0),
        ("It has `3·3·3·64 = 1,729` weights.", 1),
        ("A third, `1/3 ≈ 0.333`.", 0),
        ("A third, `1/3 ≈ 0.334`.", 1),
        ("Published in 2015 (arXiv:1512.03385).", 0),
    ],
)
def test_figures_must_be_printed_or_follow(prose: str, wrong: int, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"{prose}\n\n```console\n{PRINTED}```\n", encoding="utf-8")
    assert len(figures.unproved(page)) == wrong
