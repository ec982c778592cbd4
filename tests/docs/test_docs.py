"""What the documentation shows is what netdsl does. `pages` says how pages are written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from netdsl.diagnostics import Severity, render_all
from netdsl.docgen import PAGES as GENERATED
from netdsl.elaborate import check, elaborate
from netdsl.source import SourceFile
from netdsl.syntax.format import format_source
from tests.docs.figures import unproved
from tests.docs.pages import FRAGMENT, PAGES, ROOT, Block, Reader, agrees, blocks, every, prose

_LINK = re.compile(r"\]\((?P<file>[^)#:\s]*)(?:#(?P<anchor>[^)\s]+))?\)")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("block", every("net"), ids=str)
def test_programs_compile(block: Block, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for other in blocks(block.page):
        if name := other.value("file"):
            Path(name).write_text(other.body, encoding="utf-8")
    text = block.body
    if "fragment" in block.words:
        text = FRAGMENT.format("".join(f"    {line}" for line in text.splitlines(keepends=True)))
    source = SourceFile(block.value("file") or str(block), text)
    found = check(source)
    if "error" in block.words:
        assert any(d.severity is Severity.ERROR for d in found)
        return
    named = block.value("warning")
    assert [d.name for d in found] == ([named] if named else []), render_all(found)
    assert format_source(source) == text
    if re.search("^network ", text, flags=re.MULTILINE):
        assert elaborate(source).graph.outputs


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_pages_print_what_they_show(page: Path, tmp_path: Path) -> None:
    for block, printed in Reader(tmp_path).follow(page):
        hint = f"{block} shows something else (python -m tests.docs.pages {name_of(page)} rewrites it)"
        assert agrees(block, printed), f"{hint}:\n{printed}"


@pytest.mark.parametrize("page", [p for p in PAGES if p.parent.name in ("concepts", "tutorial")], ids=name_of)
def test_figures_are_printed(page: Path) -> None:
    assert not unproved(page)


@pytest.mark.parametrize("block", [b for b in every("text") if b.value("parameters")], ids=str)
def test_parameters_have_the_names_shown(block: Block) -> None:
    name = block.value("parameters")
    assert name
    source = next(b.body for b in blocks(block.page) if b.value("file") == name)
    graph = elaborate(SourceFile(name, source)).graph
    assert [p.name for p in graph.parameters] == block.body.split()


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and mkdocs make them."""
    headings = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for match in _LINK.finditer(re.sub(r"`[^`\n]*`", "", prose(page))):
        target = page.parent / match["file"] if match["file"] else page
        assert target.exists(), match.group()
        if match["anchor"]:
            assert match["anchor"] in anchors(target), match.group()


@pytest.mark.parametrize("name", GENERATED)
def test_generated_pages_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text(encoding="utf-8") == GENERATED[name](), "run python -m netdsl.docgen"


def test_the_site_builds_without_warnings(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # the theme's announcement is none of the site's
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert not re.search("WARNING|ERROR", done.stdout + done.stderr)
    html = (tmp_path / "language.html").read_text(encoding="utf-8")
    assert '<span class="nf">max_pool</span>' in html, "net blocks are coloured"
    outside = [found for page in tmp_path.rglob("*.html") for found in _loaded(page.read_text(encoding="utf-8"))]
    assert not outside, "pages load nothing from elsewhere"


def _loaded(html: str) -> list[str]:
    """What a page loads from other hosts: links that a reader may follow are none of it."""
    embedded = r"<(?:script|img|iframe)[^>]*src=\"?(?:https?:)?//[^>]*"
    return re.findall(rf"{embedded}|<link[^>]*stylesheet[^>]*=\"?https?:[^>]*", html)


def test_the_gallery_names_every_example() -> None:
    named = re.findall(r"`(\w+)`", prose(ROOT / "docs" / "gallery.md"))
    assert sorted(named) == sorted(path.stem for path in ROOT.glob("examples/*.net"))


def test_every_kind_of_block_is_there() -> None:
    """The patterns above find blocks at all."""
    words = {word for block in every("net") for word in block.words}
    assert {"error", "fragment"} <= words
    assert every("console")
    assert any(block.page.name == "README.md" for block in every("net"))
