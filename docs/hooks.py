"""What the site makes of a page: the words behind a block's language are the tests', not the highlighter's."""

from __future__ import annotations

import re

_FENCE = re.compile(r"^( *)```([a-z]+) +([^\n`]*)$", re.MULTILINE)


def on_page_markdown(markdown: str, **_: object) -> str:
    """A block with `file=NAME` gets the name as its title; other words are dropped."""
    return _FENCE.sub(_titled, markdown)


def _titled(match: re.Match[str]) -> str:
    indent, language, words = match.groups()
    name = re.search(r"file=(\S+)", words)
    return f'{indent}```{language} title="{name[1]}"' if name else f"{indent}```{language}"
