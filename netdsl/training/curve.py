"""The curve of a run: the loss, and under it the metrics, over epochs, as SVG and as PNG."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from itertools import pairwise
from typing import Literal
from xml.sax.saxutils import escape

WIDTH, PANEL, MARGIN = 640, 240, 24
LEFT, RIGHT, TOP, BOTTOM = 64, 150, 30, 34
COLORS = ("#1f77b4", "#d62728", "#2ca02c", "#9467bd", "#ff7f0e", "#17becf", "#8c564b", "#e377c2")
INK, GRID = "#333333", "#dddddd"
SCALE = 2  # pixels of the PNG per unit

Point = tuple[float, float]
Anchor = Literal["start", "middle", "end"]


@dataclass(frozen=True)
class Line:
    points: tuple[Point, ...]
    color: str
    width: float = 1.0
    dashed: bool = False


@dataclass(frozen=True)
class Text:
    at: Point  #: the middle of the text's height
    text: str
    anchor: Anchor = "start"
    bold: bool = False


@dataclass(frozen=True)
class Drawing:
    """What both formats show; units are the SVG's pixels."""

    height: int
    lines: tuple[Line, ...]
    texts: tuple[Text, ...]


def draw(records: Sequence[Mapping[str, object]]) -> Drawing:
    """A drawing of lines of metrics.jsonl: a panel for the loss and one for the metrics, if there are any."""
    panels = [("loss", _series(records, loss=True)), ("metrics", _series(records, loss=False))]
    panels = [panel for panel in panels if panel[1]]
    lines: list[Line] = []
    texts: list[Text] = []
    for number, (title, series) in enumerate(panels):
        _Panel(title, series, number * PANEL).draw(lines, texts)
    return Drawing(max(1, len(panels)) * PANEL + MARGIN, tuple(lines), tuple(texts))


Series = dict[str, list[Point]]


def _series(records: Sequence[Mapping[str, object]], *, loss: bool) -> Series:
    """The finite numbers by what they are called."""
    found: Series = {}
    for record in records:
        for part, label in (("train", "train"), ("val", "validation")):
            values = record.get(part)
            for name, value in values.items() if isinstance(values, Mapping) else ():
                if (name == "loss") is loss and isinstance(value, int | float) and math.isfinite(value):
                    epoch = record.get("epoch")
                    assert isinstance(epoch, int)
                    found.setdefault(label if loss else f"{name}, {label}", []).append((epoch, float(value)))
    return found


def ticks(low: float, high: float, wanted: int = 5) -> list[float]:
    """Round numbers between two values, about as many as wanted."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next((power * m for m in (1, 2, 5) if span / (power * m) <= wanted), power * 10)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 12) for n in range(first, math.floor(high / step + 1e-9) + 1)]


class _Panel:
    """One pair of axes."""

    def __init__(self, title: str, series: Series, top: float) -> None:
        self.title, self.series, self.top = title, series, top
        values = [y for points in series.values() for _, y in points]
        epochs = [x for points in series.values() for x, _ in points]
        pad = (max(values) - min(values)) * 0.05 or abs(max(values)) * 0.05 or 0.5
        self.low, self.high = min(values) - pad, max(values) + pad
        self.first, self.last = min(epochs), max(epochs)

    def x(self, epoch: float) -> float:
        share = (epoch - self.first) / (self.last - self.first) if self.last > self.first else 0.5
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return self.top + PANEL - BOTTOM - share * (PANEL - TOP - BOTTOM)

    def draw(self, lines: list[Line], texts: list[Text]) -> None:
        right, bottom = WIDTH - RIGHT, self.top + PANEL - BOTTOM
        texts.append(Text((LEFT, self.top + TOP / 2), self.title, bold=True))
        for value in ticks(self.low, self.high):
            lines.append(Line(((LEFT, self.y(value)), (right, self.y(value))), GRID))
            texts.append(Text((LEFT - 6, self.y(value)), f"{value:.6g}", "end"))
        for epoch in ticks(self.first, self.last, 8):
            if epoch == round(epoch):
                lines.append(Line(((self.x(epoch), bottom), (self.x(epoch), bottom + 4)), INK))
                texts.append(Text((self.x(epoch), bottom + 13), f"{epoch:.0f}", "middle"))
        lines.append(Line(((LEFT, self.top + TOP), (LEFT, bottom), (right, bottom)), INK))
        texts.append(Text((right + 14, bottom + 13), "epoch"))
        self._draw_series(lines, texts)

    def _draw_series(self, lines: list[Line], texts: list[Text]) -> None:
        names = sorted({name.rpartition(", ")[0] for name in self.series})
        for row, (name, points) in enumerate(self.series.items()):
            metric, _, part = name.rpartition(", ")
            color = COLORS[(names.index(metric) if metric else row) % len(COLORS)]
            dashed = part == "train" and f"{metric}, validation" in self.series
            lines.append(Line(tuple(self._dots(points)), color, 2.0, dashed))
            y, x = self.top + TOP + 8 + 16 * row, WIDTH - RIGHT + 10
            lines.append(Line(((x, y), (x + 20, y)), color, 2.0, dashed))
            texts.append(Text((x + 26, y), name if len(name) <= 22 else name[:21] + "…"))

    def _dots(self, points: Sequence[Point]) -> Iterator[Point]:
        """A single point becomes a short line, so that it is seen."""
        for epoch, value in points:
            yield self.x(epoch), self.y(value)
        if len(points) == 1:
            yield self.x(points[0][0]) + 3, self.y(points[0][1])


def to_svg(drawing: Drawing) -> str:
    size = f'width="{WIDTH}" height="{drawing.height}" viewBox="0 0 {WIDTH} {drawing.height}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for line in drawing.lines:
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in line.points)
        dash = ' stroke-dasharray="5 3"' if line.dashed else ""
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{line.color}" stroke-width="{line.width:g}"{dash}/>'
        )
    for text in drawing.texts:
        weight = ' font-weight="bold"' if text.bold else ""
        parts.append(
            f'<text x="{text.at[0]:.1f}" y="{text.at[1] + 4:.1f}" text-anchor="{text.anchor}" fill="{INK}"{weight}>'
            f"{escape(text.text)}</text>"
        )
    return "\n".join([*parts, "</svg>", ""])


def to_png(drawing: Drawing) -> bytes:
    """The same picture in pixels, twice as many as the SVG's."""
    from PIL import Image, ImageDraw, ImageFont

    image = Image.new("RGB", (WIDTH * SCALE, drawing.height * SCALE), "white")
    canvas, font = ImageDraw.Draw(image), ImageFont.load_default(11 * SCALE)
    for line in drawing.lines:
        width = max(1, round(line.width * SCALE))
        for piece in _dashes(line.points) if line.dashed else [line.points]:
            canvas.line([(x * SCALE, y * SCALE) for x, y in piece], line.color, width, joint="curve")
    anchors = {"start": "lm", "middle": "mm", "end": "rm"}
    for text in drawing.texts:
        at = (text.at[0] * SCALE, text.at[1] * SCALE)
        canvas.text(at, text.text, INK, font, anchors[text.anchor], stroke_width=int(text.bold))
    out = BytesIO()
    image.save(out, "PNG", optimize=True)
    return out.getvalue()


def _dashes(points: Sequence[Point], on: float = 5.0, off: float = 3.0) -> Iterator[tuple[Point, Point]]:
    """The drawn pieces of a dashed line."""
    at = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        length = math.hypot(x1 - x0, y1 - y0)
        start = -(at % (on + off))
        at += length
        while start < length:
            begin, end = max(start, 0.0), min(start + on, length)
            if end > begin:
                yield (
                    (x0 + (x1 - x0) * begin / length, y0 + (y1 - y0) * begin / length),
                    (x0 + (x1 - x0) * end / length, y0 + (y1 - y0) * end / length),
                )
            start += on + off
