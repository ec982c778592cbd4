"""What a user sees while a network trains: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import IO, TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

REFRESH = 0.1  # seconds between two looks of the bar
BETWEEN_LINES = 30.0  # seconds between two plain lines within an epoch

Numbers = Mapping[str, float]


@dataclass(frozen=True)
class Position:
    """Where a run is: `epoch` counts from 1; items of this epoch; `numbers` is called only when they are shown."""

    epoch: int
    epochs: int
    items: int
    total: int
    rate: float
    numbers: Callable[[], Numbers]


class Display(Protocol):
    def begin(self, position: Position) -> None:
        """An epoch starts, or goes on after a resume."""

    def batch(self, position: Position) -> None:
        """A batch is done."""

    def end(self, position: Position, text: str) -> None:
        """An epoch is done; `text` sums it up."""

    def message(self, text: str) -> None:
        """Something else to know."""

    def close(self) -> None:
        """Leaves the terminal as it was."""


class Pace:
    """Items per second and the time that is left, from what this process has done."""

    def __init__(self) -> None:
        self._start: float | None = None
        self._done = 0
        self._last = 0

    def begin(self, position: Position) -> None:
        self._start = monotonic() if self._start is None else self._start
        self._last = position.items

    def seen(self, position: Position) -> None:
        self._done += position.items - self._last
        self._last = position.items

    @property
    def per_second(self) -> float:
        seconds = monotonic() - self._start if self._start is not None else 0.0
        return self._done / seconds if seconds > 0 else 0.0

    def text(self, position: Position) -> str:
        """`1,234 items/s, 2 min 05 s left`."""
        speed = self.per_second
        if not speed:
            return ""
        left = (position.epochs - position.epoch + 1) * position.total - position.items
        return f"{speed:,.0f} items/s, {duration(left / speed)} left"


def duration(seconds: float) -> str:
    """`42 s`, `2 min 05 s`, `3 h 07 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def listed(numbers: Numbers, prefix: str = "") -> str:
    """`loss 0.1234, top1 0.9650`."""
    return ", ".join(f"{prefix}{name} {value:.4g}" for name, value in numbers.items())


class Silent:
    """Shows nothing."""

    def begin(self, position: Position) -> None: ...

    def batch(self, position: Position) -> None: ...

    def end(self, position: Position, text: str) -> None: ...

    def message(self, text: str) -> None: ...

    def close(self) -> None: ...


class Lines:
    """A line for each epoch, and now and then one within a long epoch. `write` gets lines without their break."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write, self._pace = write, Pace()
        self._shown = monotonic()

    def begin(self, position: Position) -> None:
        self._pace.begin(position)

    def batch(self, position: Position) -> None:
        self._pace.seen(position)
        if monotonic() - self._shown > BETWEEN_LINES:
            share = f"{position.items:,} of {position.total:,} items"
            self._line(position, f"{share}: {listed(position.numbers())}, rate {position.rate:.3g}")

    def end(self, position: Position, text: str) -> None:
        self._line(position, text)

    def message(self, text: str) -> None:
        self._write(text)

    def close(self) -> None: ...

    def _line(self, position: Position, text: str) -> None:
        pace = self._pace.text(position)
        self._write(f"epoch {position.epoch}/{position.epochs}: {text}" + (f", {pace}" if pace else ""))
        self._shown = monotonic()


class Bars:
    """rich's bar for the epoch at hand, with a line for each epoch above it."""

    def __init__(self, stream: IO[str]) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        text = TextColumn("{task.description}", markup=False)
        share = TextColumn("{task.percentage:>3.0f}%  {task.fields[text]}", markup=False)
        console = Console(file=stream, highlight=False)
        self._bar: Bar = Progress(text, BarColumn(24), share, console=console, transient=True)
        self._task: Any = None
        self._pace = Pace()
        self._shown = 0.0

    def begin(self, position: Position) -> None:
        self._pace.begin(position)
        description = f"epoch {position.epoch}/{position.epochs}"
        if self._task is None:
            self._task = self._bar.add_task(description, text="")
            self._bar.start()
        self._bar.reset(self._task, total=position.total, completed=position.items, description=description, text="")

    def batch(self, position: Position) -> None:
        self._pace.seen(position)
        if monotonic() - self._shown > REFRESH:
            numbers = f"{listed(position.numbers())}, rate {position.rate:.3g}, {self._pace.text(position)}"
            self._bar.update(self._task, completed=position.items, text=numbers)
            self._shown = monotonic()

    def end(self, position: Position, text: str) -> None:
        self.message(f"epoch {position.epoch}/{position.epochs}: {text}")

    def message(self, text: str) -> None:
        self._bar.console.print(text, markup=False)

    def close(self) -> None:
        if self._task is not None:
            self._bar.stop()


def make_display(stream: IO[str], *, quiet: bool = False) -> Display:
    """The display that suits a stream."""
    if quiet:
        return Silent()
    if stream.isatty():
        return Bars(stream)

    def write(line: str) -> None:
        stream.write(line + "\n")
        stream.flush()

    return Lines(write)
