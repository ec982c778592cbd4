"""What the documentation shows is what netdsl does.

Blocks of docs/*.md and of the README say in their first line what they are:

- `net`: a whole file, without errors or warnings, in canonical layout;
- `net error`: a whole file with an error;
- `net warning=NAME`: a whole file in canonical layout with that warning and no other;
- `net fragment`: statements inside of a network with the input `FRAGMENT` declares;
- `file=NAME.net` behind one of them: the file that later blocks of the same document mean;
- `text parameters=NAME.net`: the names of that file's parameters and buffers, in order;
- `console`: commands, each after `$ `, and exactly what they print, run in a folder with those files.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner

from netdsl.cli.main import command_line
from netdsl.diagnostics import render_all
from netdsl.docgen import PAGES as GENERATED
from netdsl.elaborate import check, elaborate
from netdsl.source import SourceFile
from netdsl.syntax.format import format_source

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Fragments show values that nothing reads.
FRAGMENT = """\
# netdsl: allow unused-value, unused-allow
network Fragment {{
    input image: float32[N, 3, 32, 32]

{}
    output result = image
}}
"""
_FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\((?P<file>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    words: tuple[str, ...]
    body: str

    def value(self, name: str) -> str | None:
        return next((word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")), None)

    def __str__(self) -> str:
        return f"{self.page.name}:{self.line}"


def blocks(page: Path, language: str) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in _FENCE.finditer(text):
        words = tuple(match["info"].split())
        if words[:1] == (language,):
            yield Block(page, text.count("\n", 0, match.start()) + 1, words, dedent(match["body"]))


def sources(page: Path) -> dict[str, str]:
    return {name: block.body for block in blocks(page, "net") if (name := block.value("file"))}


def every(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page, language)]


@pytest.mark.parametrize("block", every("net"), ids=str)
def test_programs_compile(block: Block) -> None:
    text = block.body
    if "fragment" in block.words:
        text = FRAGMENT.format("".join(f"    {line}" for line in text.splitlines(keepends=True)))
    source = SourceFile(block.value("file") or str(block), text)
    found = check(source)
    if "error" in block.words:
        assert found
        return
    named = block.value("warning")
    assert [d.name for d in found] == ([named] if named else []), render_all(found)
    assert format_source(source) == text
    if elaborate(source).networks:
        assert elaborate(source).graph.outputs


@pytest.mark.parametrize("block", every("console"), ids=str)
def test_commands_print_what_is_shown(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in sources(block.page).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    for part in re.split(r"^\$ ", block.body, flags=re.MULTILINE)[1:]:
        command, _, shown = part.partition("\n")
        program, *arguments = command.split()
        assert program == "netdsl"
        result = CliRunner().invoke(command_line, arguments)
        assert (result.stdout + result.stderr).rstrip("\n") == shown.rstrip("\n")


@pytest.mark.parametrize("block", [b for b in every("text") if b.value("parameters")], ids=str)
def test_parameters_have_the_names_shown(block: Block) -> None:
    name = block.value("parameters")
    assert name
    graph = elaborate(SourceFile(name, sources(block.page)[name])).graph
    assert [p.name for p in graph.parameters] == block.body.split()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    prose = re.sub(r"`[^`\n]*`", "", _FENCE.sub("", page.read_text(encoding="utf-8")))
    for match in _LINK.finditer(prose):
        target = page.parent / match["file"] if match["file"] else page
        assert target.exists(), match.group()
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match.group()


@pytest.mark.parametrize("path", GENERATED, ids=str)
def test_the_generated_references_are_up_to_date(path: Path) -> None:
    assert (ROOT / path).read_text(encoding="utf-8") == GENERATED[path](), "run python -m netdsl.docgen"


def test_every_kind_of_block_is_there() -> None:
    """The patterns above find blocks at all."""
    words = {word for block in every("net") for word in block.words}
    assert {"error", "fragment"} <= words
    assert every("console")
    assert any(block.page.name == "README.md" for block in every("net"))
