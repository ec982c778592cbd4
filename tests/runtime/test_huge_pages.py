"""Large pages: what is asked for, and where nothing is."""

from __future__ import annotations

import mmap
from pathlib import Path

import numpy as np
import pytest

from netdsl.runtime import huge_pages
from netdsl.runtime.huge_pages import HUGE, SETTING, take_huge_pages

ON_REQUEST = SETTING.exists() and "[madvise]" in SETTING.read_text()


@pytest.mark.parametrize("text", ["[always] madvise never", "always madvise [never]", None])
def test_nothing_is_asked_where_there_is_no_choice(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: str | None
) -> None:
    setting = tmp_path / "enabled"
    if text is not None:
        setting.write_text(text)
    monkeypatch.setattr(huge_pages, "SETTING", setting)
    assert take_huge_pages() == 0


@pytest.mark.skipif(not ON_REQUEST, reason="the system gives huge pages to all programs, or to none")
def test_large_memory_gets_huge_pages() -> None:
    array, unused = np.ones(32 << 20, np.uint8), np.empty(64 << 20, np.uint8)
    before = _resident()
    assert array.nbytes - 2 * HUGE <= take_huge_pages()
    assert _resident() - before < unused.nbytes // 2  # what is not in use is left alone
    where = array.ctypes.data + (2 << 20)  # a page that lies within
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        first = line.split()[0]
        if "-" in first:
            start, end = (int(number, 16) for number in first.split("-"))
            inside = start <= where < end
        elif inside and first == "VmFlags:":
            assert "hg" in line.split()  # huge pages were asked for
            break
    assert np.all(array == 1)


def _resident() -> int:
    """Bytes of the process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


@pytest.mark.parametrize(
    "line, expected",
    [
        ("7f0000000000-7f0001000000 rw-p 00000000 00:00 0", [(0x7F0000000000, 16 << 20)]),
        ("550000000000-550001000000 rw-p 00000000 00:00 0   [heap]", [(0x550000000000, 16 << 20)]),
        ("7f0000000000-7f0001000000 rw-p 00000000 00:00 0   [stack]", []),
        ("7f0000000000-7f0000100000 rw-p 00000000 00:00 0", []),
        ("7f0000000000-7f0001000000 r--p 00000000 00:00 0", []),
        ("7f0000000000-7f0001000000 rw-p 00000000 fe:00 26  /lib/a file.so", []),
    ],
)
def test_which_regions_count(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str, expected: list[tuple[int, int]]
) -> None:
    table = tmp_path / "maps"
    table.write_text(line + "\n")
    monkeypatch.setattr(huge_pages, "MAP", table)
    assert list(huge_pages._regions()) == expected
