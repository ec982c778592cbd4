"""Columns of text in as many characters as there are."""

from __future__ import annotations

from netdsl.report.grid import grid

COLUMNS = ("layer", "output", "MACs")
ROWS = [("stage_2.Bottleneck.conv", "float32[N, 64, 7, 7]", "1,204,224"), ("relu", "float32[N, 8]", "0")]


def test_columns_are_as_wide_as_their_longest_cell() -> None:
    assert grid(COLUMNS, ROWS, {"MACs"}, None) == [
        " layer                     output                      MACs",
        " ──────────────────────────────────────────────────────────",
        " stage_2.Bottleneck.conv   float32[N, 64, 7, 7]   1,204,224",
        " relu                      float32[N, 8]                  0",
    ]


def test_text_folds_and_numbers_do_not() -> None:
    assert grid(COLUMNS, ROWS, {"MACs"}, 40) == [
        " layer          output              MACs",
        " ───────────────────────────────────────",
        " stage_2.Bott   float32[N,     1,204,224",
        " leneck.conv    64, 7, 7]",
        " relu           float32[N,             0",
        "                8]",
    ]


def test_what_cannot_fit_is_still_printed() -> None:
    lines = grid(COLUMNS, ROWS, {"MACs"}, 10)
    assert any(line.endswith("1,204,224") for line in lines)
    assert grid(("total",), [], set(), None) == [" total", " ─────"]
