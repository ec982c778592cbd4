"""What every part of the evaluator shares: limits, diagnostics, the graph being built, where each tensor came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from netdsl.diagnostics import MAX_REPORTED, Diagnostic, Note, Severity, error
from netdsl.elaborate.budget import Budget
from netdsl.elaborate.faults import Abort, Exhausted, Fault, Refusal
from netdsl.elaborate.scope import Frame
from netdsl.ir.build import GraphBuilder
from netdsl.ir.graph import Value
from netdsl.source import Span

MAX_FAULTS = 500  # faults raised, repeated ones too, before an evaluation is given up
MAX_RANK = 64  # axes of a tensor
MAX_SIZE = 2**63 - 1  # of an axis: what ONNX can say
_TRACE_HEAD, _TRACE_TAIL = 4, 2


@dataclass(frozen=True, slots=True)
class CallSite:
    """A call in progress: where it stands, and the path of what it calls."""

    span: Span
    path: str


class Reporter:
    """Collects diagnostics. The same fault in another turn or call is reported once."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._seen: set[tuple[object, ...]] = set()

    def report(self, diagnostic: Diagnostic) -> None:
        span = diagnostic.span
        place = (id(span.file), span.start, span.end) if span else (diagnostic.path, diagnostic.message)
        key = (diagnostic.name, *place)
        if key not in self._seen:
            self._seen.add(key)
            self.diagnostics.append(diagnostic)

    @property
    def full(self) -> bool:
        """Whether nobody is going to read more: no use in looking for help."""
        return len(self.diagnostics) > 4 * MAX_REPORTED

    @property
    def failed(self) -> bool:
        return any(d.severity is Severity.ERROR for d in self.diagnostics)


class Core:
    """The state of one evaluation."""

    def __init__(self, reporter: Reporter, builder: GraphBuilder, budget: Budget) -> None:
        self.reporter = reporter
        self.builder = builder
        self.budget = budget
        self.origins: dict[Value, Span] = {}
        self.stack: list[CallSite] = []
        self.evaluating: list[tuple[object, str, Span]] = []  # constants in progress
        self.called: set[int] = set()  # ids of the networks that were called
        self._faults = 0

    # --- faults -----------------------------------------------------------------------------------------------------

    def fault(
        self,
        name: str,
        message: str,
        span: Span,
        *,
        notes: Sequence[Note] = (),
        help: Sequence[str] | str = (),
    ) -> Fault:
        """A fault, with the calls that led to it."""
        return Fault([error(name, message, span, notes=notes, help=help).with_trace(self.trace())])

    def refused(self, refusal: Refusal, span: Span, notes: Sequence[Note] = ()) -> Fault:
        """The fault of a refused operation. Raises Abort where a limit on everything is reached."""
        fault = self.fault(refusal.name, refusal.message, span, help=refusal.help, notes=notes)
        if isinstance(refusal, Exhausted):
            self.report(fault)
            raise Abort
        return fault

    def trace(self) -> list[Note]:
        """The calls in progress, innermost first; the middle of a long recursion is left out."""
        notes = [Note(f"called from here as {_shortened(site.path)}", site.span) for site in reversed(self.stack)]
        if len(notes) <= _TRACE_HEAD + _TRACE_TAIL + 1:
            return notes
        left_out = len(notes) - _TRACE_HEAD - _TRACE_TAIL
        return [*notes[:_TRACE_HEAD], Note(f"… and {left_out} calls more …"), *notes[-_TRACE_TAIL:]]

    def report(self, fault: Fault) -> None:
        if not fault.diagnostics:
            return
        for diagnostic in fault.diagnostics:
            self.reporter.report(diagnostic)
        self._faults += 1
        if self._faults > MAX_FAULTS:
            raise Abort

    def internal(self, operator: str, error: Exception, span: Span) -> Fault:
        """A fault of netdsl's own, said where it happened."""
        message = f"{operator}: internal error of netdsl: {type(error).__name__}: {error}"
        return self.fault("internal", message, span, help="please report it with this program")

    # --- tensors ----------------------------------------------------------------------------------------------------

    def made(self, result: Any, span: Span) -> Any:
        """Notes where the tensors of a result were made."""
        for value in result if isinstance(result, tuple) else (result,):
            if isinstance(value, Value):
                if value.rank > MAX_RANK:
                    raise self.fault("limit", f"a tensor of {value.rank} axes; the limit is {MAX_RANK}", span)
                if any(isinstance(size, int) and size > MAX_SIZE for size in value.shape):
                    raise self.fault("limit", "an axis of more than 2**63 - 1 elements", span)
                self.origins.setdefault(value, span)
        return result

    def operand_note(self, value: Value, name: str | None, fallback: str) -> Note:
        """`'x' is float32[N, 64], from here`."""
        subject = f"'{name}'" if name else fallback
        span = self.origins.get(value)
        return Note(f"{subject} is {value.type}{', from here' if span else ''}", span)

    def require_layers(self, frame: Frame, what: str, span: Span) -> None:
        """Refuses to make a layer where there is no network, as in a constant."""
        if frame.scope is None:
            raise self.fault(
                "no-network",
                f"{what} makes a tensor, and tensors are made in networks and blocks only",
                span,
                help="call it there, or leave a hole: f(_, …) is a function",
            )


def _shortened(path: str) -> str:
    """A path with the middle of a deep one left out."""
    segments = path.split(".")
    return path if len(segments) <= 8 else ".".join([*segments[:2], "…", *segments[-2:]])
