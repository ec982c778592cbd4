"""What the trainer asks of an engine: one trainer, several engines."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from netdsl.ir.types import NDArrayAny, TensorType

#: Which part of a group of batches, whose gradients are accumulated, a step is; "only" where the group is one batch.
Phase = Literal["only", "first", "middle", "last"]


@dataclass(frozen=True)
class Step:
    """What to train on, and how. `seed` (0 … 2³¹ - 1) decides dropout and augmentation alone; `share` is the part of
    the group's items that are in this batch."""

    batch: Mapping[str, NDArrayAny]
    rate: float
    seed: int
    phase: Phase = "only"
    share: float = 1.0


@dataclass(frozen=True)
class StepResult:
    """The mean loss over the batch, and the metrics' statistics by the names that the recipe gives them. Arrays may be
    the engine's own buffers: they hold until its next result is asked for."""

    loss: float
    statistics: Mapping[str, NDArrayAny] = field(default_factory=dict)


class Engine(Protocol):
    """Holds the weights and the optimizer's state, and changes them.

    The same calls with the same arguments from the same state give the same bits.
    """

    @property
    def name(self) -> str:
        """`standard`, `onnxruntime-training`: what a checkpoint says it was made by."""

    @property
    def weights(self) -> Mapping[str, TensorType]:
        """Parameters and buffers by name, in the order of the program."""

    @property
    def trainable(self) -> tuple[str, ...]:
        """The parameters that may be trained: those that neither are buffers nor stand in a `frozen`."""

    def steps(self, steps: Iterable[Step]) -> Iterator[StepResult]:
        """Makes one step after the other; gives their results in order, and ends after a loss that is not finite: no
        step is made after that one.

        An engine may ask for a step, and begin it, before it gives the result of the one before, so that it never waits
        for its caller. Until the iterator has ended nothing else may be asked of the engine but `explain_overflow`;
        then its state is the one after the last result.
        """

    def evaluate(self, batch: Mapping[str, NDArrayAny]) -> StepResult:
        """The loss and the statistics in inference mode; nothing changes."""

    def state(self) -> Mapping[str, NDArrayAny]:
        """Everything that training changes, by name: the weights, the optimizer's state (`optimizer/…`), accumulated
        gradients, the loss scale. The arrays hold until the next call of the engine."""

    def load(self, state: Mapping[str, NDArrayAny]) -> None:
        """Takes a state that `state` gave. It has every name of `weights`; what else it lacks starts anew, and what
        the engine does not know is ignored."""

    def rebuild(self, trained: Mapping[str, int]) -> None:
        """Trains those parameters alone from now on; `trained` says since which epoch each is. Weights, and the
        optimizer's state of parameters that stay, are kept; that of the others is dropped, so that a resumed run equals
        one that went on."""

    def explain_overflow(self, batch: Mapping[str, NDArrayAny]) -> str:
        """Where in the network NaN or infinity began for a batch, in a sentence ("stem.conv: the output …"); empty
        where it cannot be found. Called once, after a step whose loss is not finite, before anything else."""

    def close(self) -> None:
        """Ends whatever the engine holds: sessions, processes, device memory."""
