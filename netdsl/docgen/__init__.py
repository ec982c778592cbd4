"""The reference pages that are generated: from the tables and rules of the compiler, its commands and its docstrings.

    python -m netdsl.docgen

writes them; the text is never edited by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from netdsl.docgen.commands import commands_page
from netdsl.docgen.library import library_page
from netdsl.docgen.operators import operators_page
from netdsl.docgen.python_api import python_page
from netdsl.docgen.warnings import warnings_page

#: Each generated page's file, and what makes its text.
PAGES: Mapping[str, Callable[[], str]] = MappingProxyType(
    {
        "docs/operators.md": operators_page,
        "docs/library.md": library_page,
        "docs/warnings.md": warnings_page,
        "docs/cli.md": commands_page,
        "docs/python.md": python_page,
    }
)
