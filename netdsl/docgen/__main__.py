"""`python -m netdsl.docgen`, in the root of the repository: writes the generated pages of docs/.

`--check` writes nothing and exits with status 1 where a page is out of date.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from netdsl.docgen import PAGES


def main(arguments: Sequence[str]) -> int:
    """Writes the pages, or with `--check` compares them."""
    status = 0
    for name, make in PAGES.items():
        page, text = Path(name), make()
        if "--check" not in arguments:
            page.write_text(text, encoding="utf-8")
        elif not page.is_file() or page.read_text(encoding="utf-8") != text:
            print(f"{page} is out of date: run python -m netdsl.docgen", file=sys.stderr)
            status = 1
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
