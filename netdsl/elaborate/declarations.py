"""Inputs, outputs, parameters of the user's own, shared callables; and the bodies of blocks and networks called."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from netdsl.diagnostics import Note
from netdsl.elaborate.binding import BindError, bind_names
from netdsl.elaborate.calls import Site
from netdsl.elaborate.core import CallSite
from netdsl.elaborate.faults import Fault
from netdsl.elaborate.layers import SharedStore
from netdsl.elaborate.scope import Frame, LayerScope, NetworkRun
from netdsl.elaborate.types import Types, is_pattern, shown_pattern
from netdsl.elaborate.values import (
    POISON,
    Arguments,
    BlockValue,
    Given,
    InitializerFunction,
    NetworkValue,
    PlainFunction,
    Results,
    SharedCallable,
    describe,
    is_callable,
)
from netdsl.ir.dims import Dim, Expr, decide, solve, symbol
from netdsl.ir.graph import Value
from netdsl.ir.initializer import ZEROS, Initializer
from netdsl.ir.opdef import OpError
from netdsl.ir.types import TensorType
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import inputs_of


class Declarations(Types):
    """Runs declarations and calls bodies; what is inside a body is the subclass's."""

    @abstractmethod
    def run(self, body: tree.Body, frame: Frame) -> bool: ...

    # --- blocks -----------------------------------------------------------------------------------------------------

    def call_block(self, block: BlockValue, arguments: Arguments, site: Site, frame: Frame) -> Any:
        node = block.block
        if id(node) in block.module.faulty:
            raise Fault
        self.budget.operator()
        names = [p.name.id for p in node.parameters]
        given = bind_names(node.name.id, names, arguments)
        missing = [p for p in node.parameters if p.default is None and p.name.id not in given]
        if missing:
            raise self._missing(node.name, missing, node.parameters)
        self.require_layers(frame, f"'{block.name}'", site.span)
        path = self.take_path(block.name, site, frame)
        inner = Frame(
            block.module,
            LayerScope(path),
            frame.source,
            node,
            frame.frozen,
            self._site_of(block.module.library, site, frame),
        )
        self._enter(block.name, path, site)
        for parameter in node.parameters:
            self._bind_parameter(parameter, given.get(parameter.name.id), inner)
        if not self.run(node.body, inner):
            message = f"the block '{node.name.id}' ends without 'return'"
            raise self.fault("no-return", message, node.name.span, help="end it with 'return value'")
        self.stack.pop()
        if inner.result is POISON:
            raise Fault
        self._returned(inner.result, given, site.whole)
        return inner.result

    def _missing(
        self, name: tree.Identifier, missing: list[tree.Parameter], parameters: tuple[tree.Parameter, ...]
    ) -> BindError:
        first = missing[0].name.id
        usage = ", ".join(p.name.id if p.default is None else f"{p.name.id}=…" for p in parameters)
        what = "the input" if missing[0] is parameters[0] else "the argument"
        help = f"its arguments are {name.id}({usage})"
        return BindError(f"{name.id}: {what} '{first}' is missing", help=help)

    def _site_of(self, library: bool, site: Site, frame: Frame) -> Span | None:
        """Layers of the library are reported at the place in the user's own file."""
        return (frame.site or site.span) if library else None

    def _bind_parameter(self, parameter: tree.Parameter, given: Given | None, frame: Frame) -> None:
        if given is not None:
            value = given.value
            if isinstance(value, InitializerFunction) and value.default is not None:
                value = value.default
        else:
            assert parameter.default is not None
            value = self.eval(parameter.default, frame)
        frame.bind(parameter.name.id, value, parameter.name.span)

    def _enter(self, name: str, path: str, site: Site) -> None:
        self.budget.call(name, len(self.stack) + 1)
        self.stack.append(CallSite(site.whole, path))

    def _returned(self, result: Any, given: dict[str, Given], span: Span) -> None:
        """What a block returns was made, for its caller, where it was called; arguments that pass through aside."""
        values = result if isinstance(result, tuple) else (result,)
        passed = {id(g.value) for g in given.values()}
        for value in values:
            if isinstance(value, Value) and id(value) not in passed and value in self.origins:
                self.origins[value] = span

    # --- networks as callables --------------------------------------------------------------------------------------

    def call_network(self, network: NetworkValue, arguments: Arguments, site: Site, frame: Frame) -> Any:
        node = network.network
        if id(node) in network.module.faulty:
            raise Fault
        self.budget.operator()
        self.called.add(id(node))
        inputs = inputs_of(node)
        given = bind_names(node.name.id, [*inputs, *(p.name.id for p in node.parameters)], arguments)
        for name in inputs:
            if name in given and not isinstance(given[name].value, Value):
                message = (
                    f"{node.name.id}: expected a tensor for the input '{name}', found {describe(given[name].value)}"
                )
                raise BindError(message, given=given[name])
        needed = [s.name.id for s in node.body.statements if isinstance(s, tree.Input)]
        needed += [p.name.id for p in node.parameters if p.default is None]
        for name in needed:
            if name not in given:
                what = "input" if name in inputs else "argument"
                raise BindError(f"{node.name.id}: the {what} '{name}' is missing")
        self.require_layers(frame, f"'{network.name}'", site.span)
        path = self.take_path(network.name, site, frame)
        run = NetworkRun({name: given.get(name) for name in inputs}, {})
        inner = Frame(
            network.module,
            LayerScope(path),
            frame.source,
            node,
            frame.frozen,
            self._site_of(network.module.library, site, frame),
            run,
        )
        self._enter(network.name, path, site)
        for parameter in node.parameters:
            self._bind_parameter(parameter, given.get(parameter.name.id), inner)
        self.run(node.body, inner)
        self.stack.pop()
        results = run.outputs
        if not results or (len(results) == 1 and POISON in results.values()):
            raise Fault
        result = next(iter(results.values())) if len(results) == 1 else Results.of(results)
        self._returned(result, given, site.whole)
        return result

    # --- declarations -----------------------------------------------------------------------------------------------

    def input(self, node: tree.Input, frame: Frame) -> bool:
        run = frame.network
        if run is None or node.kind != "input":
            raise Fault  # the check of names said so
        name = node.name
        if name.id in run.inputs:
            note = Note("it is declared here already", run.inputs[name.id])
            raise self.fault(
                "duplicate",
                f"the input '{name.id}' is declared twice",
                name.span,
                notes=[note],
                help="give each input its own name",
            )
        run.inputs[name.id] = name.span
        type = self.input_type(node.type, frame)
        if run.arguments is None:
            value = self.builder.input(name.id, type)
            self.origins[value] = name.span.to(node.type.span)
        else:
            value = self._argument(node, type, run, frame)
        frame.bind(name.id, value, name.span)
        return False

    def _argument(self, node: tree.Input, pattern: TensorType, run: NetworkRun, frame: Frame) -> Value:
        """The argument that a called network gets for an input; solves the symbols of the input's type."""
        assert run.arguments is not None and frame.owner is not None
        given: Given | None = run.arguments.get(node.name.id)
        if given is None:
            raise self.fault("argument", f"the input '{node.name.id}' gets no argument in this call", node.name.span)
        value: Value = given.value
        solved = self._solve(pattern, value.type)
        if solved is not None:
            type = self.settle_symbols(pattern, value.type, frame, solved)
            if all(decide("==", a, b) for a, b in zip(type.shape, value.shape, strict=True)):
                return value
            pattern = type
        shape = ", ".join(shown_pattern(d) for d in pattern.shape)
        message = f"the input '{node.name.id}' is {pattern.dtype}[{shape}], but the argument is {value.type}"
        notes = [self.operand_note(value, given.name, "the argument")]
        raise self.fault("shape-mismatch", message, node.type.span, notes=notes)

    def _solve(self, pattern: TensorType, actual: TensorType) -> dict[str, Dim] | None:
        """Values of the called network's symbols; None where rank or element type differ or there is no solution."""
        if pattern.dtype is not actual.dtype or pattern.rank != actual.rank:
            return None
        env: dict[str, Dim] = {}
        for dim in pattern.shape:
            if isinstance(dim, Expr):
                env.update({name: symbol(name) for name in dim.symbols if not is_pattern(name)})
        solved: dict[str, Dim] = {}
        open_pairs = [(p, a) for p, a in zip(pattern.shape, actual.shape, strict=True) if isinstance(p, Expr)]
        progress = True
        while progress:
            progress = False
            for p, a in open_pairs:
                unknown = p.symbols - env.keys()
                if len(unknown) == 1:
                    value = solve(p, a, env)
                    if value is None:
                        return None
                    (name,) = unknown
                    env[name] = solved[name] = value
                    progress = True
        wanted = {name for p, _ in open_pairs for name in p.symbols if is_pattern(name)}
        return solved if wanted <= solved.keys() else None

    def output(self, node: tree.Output, frame: Frame) -> bool:
        run = frame.network
        if run is None:
            raise Fault
        for name in node.names:
            expression = node.value if node.value is not None else tree.Name(name.span, name.id)
            try:
                value = self.eval(expression, frame)
                self._output(name, value, expression, run, frame)
            except Fault as fault:
                self.report(fault)
                run.outputs.setdefault(name.id, POISON)
                run.output_spans.setdefault(name.id, name.span)
                if node.value is not None:
                    frame.bind(name.id, POISON, name.span)
        return False

    def _output(self, name: tree.Identifier, value: Any, node: tree.Expr, run: NetworkRun, frame: Frame) -> None:
        if not isinstance(value, Value):
            help: tuple[str, ...] = ()
            if isinstance(value, list | tuple) and value and isinstance(value[0], Value):
                help = ("give each an output of its own: a, b = …, then output a, b",)
            elif is_callable(value):
                help = (f"call it: x -> {getattr(value, 'name', 'f')}",)
            raise self.fault("output", f"an output is a tensor, found {describe(value)}", node.span, help=help)
        for kind, places in (("output", run.output_spans), ("input", run.inputs)):
            if name.id in places:
                note = Note(f"this {kind} has that name already", places[name.id])
                raise self.fault(
                    "duplicate",
                    f"the name '{name.id}' of this output is taken",
                    name.span,
                    notes=[note],
                    help="give every input and output a name of its own",
                )
        run.outputs[name.id] = value
        run.output_spans[name.id] = name.span
        frame.bind(name.id, value, name.span)

    def parameter(self, node: tree.ParamDecl, frame: Frame) -> bool:
        type = self.static_type(node.type, frame)
        initializer: Any = ZEROS if node.initializer is None else self.eval(node.initializer, frame)
        if isinstance(initializer, InitializerFunction):
            initializer = initializer.default or initializer
        if not isinstance(initializer, Initializer):
            assert node.initializer is not None
            help = (
                "write constant(0.5) for a value"
                if isinstance(initializer, int | float)
                else "such as zeros, ones or normal(0, 0.02)"
            )
            message = f"expected an initializer, found {describe(initializer)}"
            raise self.fault("argument", message, node.initializer.span, help=help)
        if not type.dtype.is_float:
            raise self.fault("dimension", f"a parameter holds floats, found {type}", node.type.dtype.span)
        assert frame.scope is not None and frame.source is not None
        self.budget.operator()
        path = frame.scope.take(node.name.id)
        place = (frame.site or node.name.span).place
        initializer = initializer.with_fans(*_fans(type))
        trainable = not frame.frozen
        try:
            value = frame.source.get(
                path,
                type,
                lambda: (
                    self.builder.parameter(
                        path, type.shape, initializer, dtype=type.dtype, trainable=trainable, place=place
                    ).value
                ),
            )
        except OpError as error:
            raise self.op_fault(error, {}, None, Site(node.name.span, node.span)) from None
        self.made(value, node.name.span.to(node.type.span))
        frame.bind(node.name.id, value, node.name.span)
        return False

    def shared(self, node: tree.Shared, frame: Frame) -> bool:
        value = self.eval(node.value, frame)
        word = "frozen" if node.frozen else "shared"
        if not is_callable(value) or isinstance(value, PlainFunction | InitializerFunction):
            help = f"write {word} {node.name.id} = conv(_, 64, 3), a call with a hole"
            message = f"'{word}' takes a function: an operator, a block or a call with a hole; found {describe(value)}"
            raise self.fault("argument", message, node.value.span, help=help)
        assert frame.scope is not None and frame.source is not None
        store = SharedStore(node.name.id, frame.scope.take(node.name.id), frame.source)
        frame.bind(node.name.id, SharedCallable(node.name.id, value, store, node.frozen), node.name.span)
        return False


def _fans(type: TensorType) -> tuple[int, int]:
    """Connections into and out of one unit, as PyTorch counts them: [out, in, *kernel]."""
    shape = [int(d) for d in type.shape if isinstance(d, int)]
    if len(shape) < 2:
        return (shape[0], shape[0]) if shape else (1, 1)
    receptive = 1
    for size in shape[2:]:
        receptive *= size
    return shape[1] * receptive, shape[0] * receptive
