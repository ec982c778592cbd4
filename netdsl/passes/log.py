"""What the passes did and what they refused to do, in the order in which it happened."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from netdsl.ir.dims import Dim, to_text
from netdsl.source import Place


@dataclass(frozen=True, slots=True)
class Savings:
    """What a rewrite took away: MACs, FLOPs (2 per MAC and every other operation), nodes that run, bytes of weights in
    the file. Negative: it added some."""

    macs: Dim = 0
    flops: Dim = 0
    nodes: int = 0
    bytes: Dim = 0

    def __add__(self, other: Savings) -> Savings:
        return Savings(
            self.macs + other.macs, self.flops + other.flops, self.nodes + other.nodes, self.bytes + other.bytes
        )

    def __str__(self) -> str:
        """`2 nodes, 1204224 FLOPs, 1024 bytes`; empty if nothing changed. MACs are counted in the FLOPs too."""
        parts = ((self.nodes, "nodes"), (self.macs, "MACs"), (self.flops, "FLOPs"), (self.bytes, "bytes"))
        return ", ".join(_amount(value, unit) for value, unit in parts if value != 0)


def _amount(value: Dim, unit: str) -> str:
    return f"{to_text(value)} {unit[:-1] if value == 1 else unit}"


@dataclass(frozen=True, slots=True)
class Rewrite:
    """Something that a pass did. `path` and `place` are the layer's, `what` is one sentence without a full stop."""

    pass_name: str
    path: str
    place: Place | None
    what: str
    saved: Savings = Savings()

    def __str__(self) -> str:
        saved = str(self.saved)
        return f"{_where(self.place)}{self.path}: {self.what} [{self.pass_name}]" + (
            f" (saves {saved})" if saved else ""
        )


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a pass saw and left alone, with the reason."""

    pass_name: str
    path: str
    place: Place | None
    reason: str

    def __str__(self) -> str:
        return f"{_where(self.place)}{self.path}: kept: {self.reason} [{self.pass_name}]"


def _where(place: Place | None) -> str:
    return f"{place}: " if place else ""


@dataclass
class RewriteLog:
    """Entries in order. A refusal is entered once, however often the pass comes by."""

    entries: list[Rewrite | Refusal] = field(default_factory=list)
    _refused: set[Refusal] = field(default_factory=set)

    def add(self, entry: Rewrite | Refusal) -> None:
        if isinstance(entry, Refusal):
            if entry in self._refused:
                return
            self._refused.add(entry)
        self.entries.append(entry)

    @property
    def rewrites(self) -> Iterator[Rewrite]:
        return (e for e in self.entries if isinstance(e, Rewrite))

    @property
    def refusals(self) -> Iterator[Refusal]:
        return (e for e in self.entries if isinstance(e, Refusal))

    @property
    def saved(self) -> Savings:
        """Everything saved, summed."""
        return sum((e.saved for e in self.rewrites), Savings())
