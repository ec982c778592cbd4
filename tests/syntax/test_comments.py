"""Comments at every place where the grammar lets white space stand: `netdsl fmt` keeps each, in order, and its own
output as it is."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from netdsl.source import SourceFile
from netdsl.syntax.compare import tree_equal
from netdsl.syntax.format import format_source
from netdsl.syntax.lalr import END
from netdsl.syntax.lex import lex
from netdsl.syntax.parse import parse
from netdsl.syntax.tree import File

EXAMPLES = Path(__file__).parent.parent.parent / "examples"

#: Every kind of statement and expression.
PROGRAM = """\
from "std:layers" import ConvBN, MLP as M
import "a.net" as r
A = [1, 2, (3, 4)]
block B(x, channels=A[0], norm=batch_norm(_, epsilon=1e-3)) {
    if channels == 1 { y = x } else if channels > 2 and not (channels in A) { y = -x } else { y = x ** 2 }
    if channels == 1 {
        y = x
    }
    else {
        y = x[0:2, ..., ::2]
    }
    for a, (b, _) in zip(A, [(1, 2), (3, 4)]) as stage { x = x -> conv(a, 3) }
    repeat 3 as layer { x += conv(x, b, 3) }
    assert x.rank == 4, "bad"
    param s: float32[channels, 1] = constant(1e-6)
    shared f = conv(_, 64, 3)
    z = x -> f as first -> norm(epsilon=1e-3) -> relu
          -> max_pool(2) as second
    a, b = z -> lstm(64)[0], if channels == 1 then x else z
    return concat([x, y], axis=1), z
}
network N(classes=10) {
    input image: float32[N, 3, 32*h, 32*w]
    output logits, other
    output l = image -> B(64) -> flatten -> dense(classes)
}
train N "label" (lr=0.1) {
    target label: int64[N]
    loss = cross_entropy(l, label) + 1e-4 * l2("*.weight")
    metric top1 = accuracy(l, label)
    optimizer = sgd(lr=lr)
}
"""
#: What is put between two words: behind the line, on lines of its own, with other line ends and tabs.
COMMENTS = ("# c\n", "\n# c\n", "# c\r\n", "\n\n\t# c\n# d\n\n", "  # c\n\t  # d\n", "# netdsl: allow unused-value\n")


def parsed(text: str) -> File:
    file, diagnostics = parse(SourceFile("m.net", text))
    assert not diagnostics, text
    return file


def places(text: str) -> list[int]:
    """Offsets in front of each word, and the end."""
    tokens = lex(SourceFile("m.net", text)).tokens
    return [token.start for token in tokens if token.type != END] + [len(text)]


def keeps_its_comments(text: str) -> None:
    before = parsed(text)
    formatted = format_source(before.source)
    after = parsed(formatted)
    assert [c.text for c in after.comments] == [c.text for c in before.comments], text
    assert tree_equal(before, after), text
    assert format_source(after.source) == formatted, text
    assert all(line == line.rstrip() for line in formatted.split("\n")), text
    assert "\t" not in formatted and "\r" not in formatted, text


@pytest.mark.parametrize("kind", range(len(COMMENTS)))
def test_a_comment_between_any_two_words(kind: int) -> None:
    """Each place gets two of the six kinds: all of them take long."""
    for at in places(PROGRAM)[kind % 3 :: 3]:
        keeps_its_comments(PROGRAM[:at] + COMMENTS[kind] + PROGRAM[at:])


@pytest.mark.parametrize("seed", range(60))
def test_many_comments_at_once(seed: int) -> None:
    random = Random(seed)
    text = random.choice([PROGRAM, *(p.read_text() for p in sorted(EXAMPLES.glob("*.net"))[:6])])
    for at in sorted(random.sample(places(text), random.randint(2, 12)), reverse=True):
        text = text[:at] + random.choice((*COMMENTS, f"#{at}\n", f"\n\n# {at}\n\n", "\n", " \t ", "\r\n")) + text[at:]
    ends = (
        text,
        text.rstrip("\n"),
        text + "# end",
        text + "\n\n# end  ",
        text.replace("\r\n", "\n").replace("\n", "\r\n"),
    )
    keeps_its_comments(random.choice(ends))
