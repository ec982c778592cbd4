"""The run folder, its curve, and what a user sees while a network trains."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from netdsl.training.curve import draw, ticks, to_png, to_svg
from netdsl.training.data import Dataset
from netdsl.training.data.columns import ArrayColumn
from netdsl.training.progress import Bars, Display, Lines, Position, Silent, duration, listed, make_display
from netdsl.training.run_folder import RunFolder

ROOT = Path(__file__).parents[2]
SVG = "{http://www.w3.org/2000/svg}"


def records(epochs: int = 5, *, held: bool = True) -> list[dict[str, object]]:
    found: list[dict[str, object]] = []
    for epoch in range(1, epochs + 1):
        record: dict[str, object] = {"epoch": epoch, "train": {"loss": 1 / epoch, "top1": 1 - 0.5 / epoch}}
        found.append(record | ({"val": {"loss": 1.2 / epoch, "top1": 1 - 0.6 / epoch}} if held else {}))
    return found


OTHER = """
import sys
from pathlib import Path
from netdsl.diagnostics import DiagnosticError
from netdsl.training.run_folder import RunFolder
try:
    with RunFolder(Path(sys.argv[1])).reserved():
        print("reserved")
except DiagnosticError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no locks of folders")
def test_two_trainings_do_not_share_a_folder(tmp_path: Path) -> None:
    def other() -> str:
        command = [sys.executable, "-c", OTHER, str(tmp_path / "m.run")]
        return subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout

    folder = RunFolder(tmp_path / "m.run")
    with folder.reserved():
        assert "m.run: error: another training writes to this folder" in other()
    assert other() == "reserved\n"
    with folder.reserved():
        pass


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def test_the_curve_names_axes_and_lines() -> None:
    found = texts(to_svg(draw(records())))
    assert {"loss", "metrics", "epoch", "train", "validation", "top1, train", "top1, validation", "5"} <= set(found)


def test_lines_go_where_the_values_are() -> None:
    drawing = draw([{"epoch": e, "train": {"loss": v}} for e, v in [(1, 4.0), (2, 2.0), (3, 3.0)]])
    (line,) = [line for line in drawing.lines if line.width == 2 and len(line.points) == 3]
    (x1, y1), (x2, y2), (x3, y3) = line.points
    assert x2 - x1 == pytest.approx(x3 - x2) and x1 < x2
    assert y2 - y1 == pytest.approx(2 * (y2 - y3)) and y1 < y2  # the y of a picture grows downwards


@pytest.mark.parametrize("epochs", [1, 2, 300])
def test_both_formats_of_any_length(epochs: int) -> None:
    drawing = draw(records(epochs))
    picture = Image.open(io.BytesIO(to_png(drawing)))
    assert picture.size == (1280, 2 * drawing.height)
    assert len(picture.convert("RGB").getcolors(maxcolors=1 << 20) or ()) > 10
    ElementTree.fromstring(to_svg(drawing))


def test_names_are_escaped_and_gaps_left_out() -> None:
    svg = to_svg(
        draw([{"epoch": 1, "train": {"loss": 1.0, "a<b": None}}, {"epoch": 2, "train": {"loss": 2, "a<b": 3}}])
    )
    assert "a<b, train" in texts(svg)


@pytest.mark.parametrize(
    "low, high, expected",
    [(0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1]), (0.013, 0.047, [0.02, 0.03, 0.04]), (1, 4, [1, 2, 3, 4]), (5, 5, [5])],
)
def test_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == pytest.approx(expected)


def test_a_resumed_run_keeps_the_lines_that_its_checkpoint_holds(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "m.run")
    run.begin("a", {})
    for record in records(3):
        run.epoch(record)
    with (run.path / "metrics.jsonl").open("a") as stream:
        stream.write('{"epoch": 4, "tr')  # killed while it wrote
    again = RunFolder(tmp_path / "m.run")
    again.begin("b", {"seed": 1}, epochs_done=2)
    again.epoch({"epoch": 3})
    lines = (run.path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2, 3]
    assert (run.path / "recipe.net").read_text() == "b"
    assert json.loads((run.path / "settings.json").read_text()) == {"seed": 1}
    RunFolder(tmp_path / "m.run").begin("c", {})
    assert (run.path / "metrics.jsonl").read_text() == ""


def test_names_of_ids_are_kept(tmp_path: Path) -> None:
    column = {"x": ArrayColumn(np.zeros(2))}
    run = RunFolder.beside(tmp_path / "cats.safetensors")
    run.describe(Dataset(column, "", class_names=["cat", "dog"]))
    run.describe(Dataset(column, "", vocabulary=["\n", "ä"]))
    assert run.path == tmp_path / "cats.run"
    assert (run.path / "classes.txt").read_text() == "cat\ndog\n"
    assert json.loads((run.path / "vocabulary.json").read_text()) == ["\n", "ä"]


def position(items: int, epoch: int = 1) -> Position:
    return Position(epoch, 3, items, 100, 0.01, lambda: {"loss": 0.5, "top1": 0.75})


def play(display: Display) -> None:
    display.begin(position(0))
    for items in (50, 100):
        display.batch(position(items))
    display.end(position(100), "loss 0.5")
    display.message("all [bold] done")
    display.close()


def test_plain_lines() -> None:
    lines: list[str] = []
    play(Lines(lines.append))
    assert lines[0].startswith("epoch 1/3: loss 0.5, ") and "items/s" in lines[0] and lines[0].endswith(" left")
    assert lines[1:] == ["all [bold] done"]


def test_plain_lines_within_a_long_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("netdsl.training.progress.BETWEEN_LINES", -1.0)
    lines: list[str] = []
    play(Lines(lines.append))
    assert "50 of 100 items: loss 0.5, top1 0.75, rate 0.01" in lines[0]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "140")
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    display = make_display(stream)
    assert isinstance(display, Bars)
    play(display)
    shown = stream.getvalue()
    assert "epoch 1/3: loss 0.5" in shown and "all [bold] done" in shown and "top1 0.75" in shown and "left" in shown


def test_quiet_and_piped() -> None:
    stream = io.StringIO()
    assert isinstance(make_display(Terminal(), quiet=True), Silent)
    play(make_display(stream))
    assert stream.getvalue().count("\n") == 2 and "\x1b" not in stream.getvalue()


def test_words() -> None:
    assert [duration(s) for s in (4.4, 125, 11220)] == ["4 s", "2 min 05 s", "3 h 07 min"]
    assert listed({"loss": 0.12345, "top1": 1.0}, "val ") == "val loss 0.1235, val top1 1"
