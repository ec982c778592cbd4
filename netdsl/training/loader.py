"""Batches: in an order that seed and epoch alone decide, read ahead on a thread."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from types import TracebackType

import numpy as np

from netdsl.ir.types import NDArrayAny
from netdsl.training.data import Dataset, shuffled
from netdsl.training.data.faults import fault

AHEAD = 3  # batches that wait, at most
_PATIENCE = 0.1  # seconds between two looks at whether the reader should stop


@dataclass(frozen=True)
class Batch:
    """Some items. `number` counts the batches of an epoch from 0."""

    number: int
    arrays: dict[str, NDArrayAny]
    items: int


def batch_bounds(count: int, batch: int, minimum_last: int = 1) -> list[tuple[int, int]]:
    """Begin and end of every batch of `count` items.

    The last partial batch is kept. One with fewer than `minimum_last` items (a batch norm has no statistics of one)
    joins the batch before it, which then has up to `batch + minimum_last - 1` items.
    """
    bounds = [(start, min(start + batch, count)) for start in range(0, count, batch)]
    if len(bounds) > 1 and bounds[-1][1] - bounds[-1][0] < minimum_last:
        (start, _), (_, end) = bounds[-2:]
        bounds[-2:] = [(start, end)]
    return bounds


def check_batches(dataset: Dataset, batch: int, minimum_last: int) -> None:
    """Raises DiagnosticError where a batch of fewer than `minimum_last` items cannot be avoided."""
    smallest = min(batch, len(dataset))
    if smallest < minimum_last:
        what = f"batch = {batch}" if batch < minimum_last else f"a data set of {len(dataset)}"
        raise fault(
            "batch-of-one",
            f"{what} gives batches of {smallest}: a batch norm trains on at least {minimum_last}",
            dataset.where,
            help="take larger batches, or a normalisation that does not look at other items, such as group_norm",
        )


class Loader:
    """One pass over a data set, as an iterator of batches; a context manager that ends the reading thread.

    With a `seed` the items come in the order of that seed and `epoch`, else in their own. `start` is the number of the
    first batch, to go on within an epoch.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch: int,
        *,
        seed: int | None = None,
        epoch: int = 0,
        start: int = 0,
        minimum_last: int = 1,
    ) -> None:
        self._dataset, self._start = dataset, start
        self._bounds = batch_bounds(len(dataset), batch, minimum_last)
        count = len(dataset)
        self._order = np.arange(count) if seed is None else shuffled(count, seed, epoch)
        self._ready: Queue[Batch | BaseException | None] = Queue(AHEAD)
        self._stop = Event()
        self._thread = Thread(target=self._fill, name="netdsl-loader", daemon=True)

    def __len__(self) -> int:
        return len(self._bounds)

    def __enter__(self) -> Loader:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def __iter__(self) -> Iterator[Batch]:
        while (found := self._next()) is not None:
            if isinstance(found, BaseException):
                raise found
            yield found

    def _next(self) -> Batch | BaseException | None:
        """Waits in short turns, so that Ctrl-C is heard on every system."""
        while True:
            try:
                return self._ready.get(timeout=_PATIENCE)
            except Empty:
                continue

    def _fill(self) -> None:
        try:
            for number, (begin, end) in enumerate(self._bounds[self._start :], self._start):
                batch = Batch(number, self._dataset.read(self._order[begin:end]), end - begin)
                if not self._put(batch):
                    return
            self._put(None)
        except BaseException as error:  # whatever it is, the consumer raises it
            self._put(error)

    def _put(self, item: Batch | BaseException | None) -> bool:
        """False where nobody wants it any more."""
        while not self._stop.is_set():
            try:
                self._ready.put(item, timeout=_PATIENCE)
            except Full:
                continue
            return True
        return False
