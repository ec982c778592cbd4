"""A rule's page: as Markdown for the reference, and as plain text for `netdsl check --explain`."""

from __future__ import annotations

import re
from textwrap import fill, indent

from netdsl.lint.rule import Rule

WIDTH = 100
_LINK = re.compile(r"\[(?P<text>[^]]*)\]\((?P<to>[^)]*)\)")


def markdown(rule: Rule, shown: str) -> str:
    """The rule's section; `shown` is what its example prints. The docs' tests run both programs."""
    return f"""\
## {rule.name}

**{rule.title}.** {rule.what}

{rule.why}

{rule.mend}

```net warning={rule.name} file={rule.name}.net
{rule.example}```

```console
$ netdsl check {rule.name}.net
{shown}
```

Without the warning:

```net
{rule.mended}```

`# netdsl: allow {rule.name}` silences it.
"""


def plain(rule: Rule) -> str:
    """The page for a terminal, in lines of at most WIDTH columns where that can be."""
    parts = [
        f"{rule.name}: {rule.title}",
        *(_filled(_LINK.sub(r"\g<text>, \g<to>", text)) for text in (rule.what, rule.why, rule.mend)),
        "This program gets the warning:",
        indent(rule.example.rstrip(), "    "),
        "This one does not:",
        indent(rule.mended.rstrip(), "    "),
        f"To silence it, write  # netdsl: allow {rule.name}",
        _filled(SCOPES),
    ]
    return "\n\n".join(parts)


def _filled(text: str) -> str:
    return fill(text, WIDTH, break_long_words=False, break_on_hyphens=False)


SCOPES = (
    "Behind a statement the comment covers that statement; on a line of its own the statement, loop or definition that "
    "follows; before the first definition or import the whole file. Several names are separated by commas, and a "
    "remark may follow in parentheses."
)
