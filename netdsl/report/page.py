"""A report as an HTML page."""

from __future__ import annotations

import html
from collections.abc import Sequence

from netdsl.report.compare import compared
from netdsl.report.formats import NUMERIC, conventions, signature
from netdsl.report.model import TOTALS, Report, Row
from netdsl.report.text import COLUMNS, cells, figure

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#222;background:#fff}
table{border-collapse:collapse;width:100%;margin:1rem 0}
th,td{padding:.25rem .6rem;text-align:left;border-bottom:1px solid #ddd}
thead th{position:sticky;top:0;background:#fff;border-bottom:2px solid #888}
.n{text-align:right;font-variant-numeric:tabular-nums}
code{font-family:ui-monospace,monospace}
@media(prefers-color-scheme:dark){body,thead th{background:#181818;color:#ddd}th,td{border-color:#444}}
"""


def to_html(report: Report, rows: Sequence[Row], other: Report | None = None) -> str:
    """A page that needs no other file."""
    if other is None:
        tables = [
            _table(("total", report.network), [(w, figure(report.totals[k])) for k, w in TOTALS.items()], {1}),
            _table(COLUMNS, [cells(row) for row in rows], {i for i, c in enumerate(COLUMNS) if c in NUMERIC}),
        ]
    else:
        lines = [(w, *compared(report, other, k, figure)) for k, w in TOTALS.items()]
        tables = [_table(("total", report.network, other.network, "ratio"), lines, {1, 2, 3})]
    name = html.escape(report.network)
    types = "".join(f"<li>{_escape_code(line)}</li>" for line in signature(report))
    notes = "".join(f"<p>{html.escape(line)}</p>" for line in conventions(report))
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{name}</title>\n'
        f"<style>{_STYLE}</style></head>\n<body><h1>{name}</h1>\n<ul>{types}</ul>\n{''.join(tables)}\n{notes}</body></html>\n"
    )


def _escape_code(line: str) -> str:
    kind, _, rest = line.removeprefix("- ").partition(" ")
    return f"{kind} <code>{html.escape(rest.strip('`'))}</code>"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]], numeric: set[int]) -> str:
    def line(values: Sequence[str], tag: str) -> str:
        made = (
            f"<{tag}{' class=n' if i in numeric else ''}>{html.escape(value)}</{tag}>" for i, value in enumerate(values)
        )
        return f"<tr>{''.join(made)}</tr>"

    body = "\n".join(line(values, "td") for values in lines)
    return f"<table><thead>{line(head, 'th')}</thead>\n<tbody>{body}</tbody></table>\n"
