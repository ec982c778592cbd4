"""Recipes: a `train` body is run after its network's, in a frame of its own that sees the network's inputs, outputs,
symbols and parameters. What it says becomes a `Recipe`; its loss and metrics become outputs of the network's graph."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from netdsl.diagnostics import Note
from netdsl.elaborate.calls import Site
from netdsl.elaborate.class_ids import class_ids
from netdsl.elaborate.faults import Fault
from netdsl.elaborate.scope import Frame, LayerScope
from netdsl.elaborate.settings import NAMES, SETTINGS, TABLES
from netdsl.elaborate.statements import Statements
from netdsl.elaborate.suggest import did_you_mean
from netdsl.elaborate.values import Arguments, OperatorValue, SettingFunction, describe
from netdsl.ir.arguments import ArgumentError
from netdsl.ir.graph import Graph, Value
from netdsl.ir.recipe import METRICS, FreezeRule, MetricSpec, OptimizerSpec, Recipe, ScheduleSpec
from netdsl.ops.metric import MetricValue
from netdsl.source import Span
from netdsl.syntax import tree
from netdsl.syntax.bindings import bindings_of, target_names
from netdsl.syntax.bindings import children as tree_children

LOSS = "loss"


@dataclass(slots=True)
class RecipeRun:
    """What a recipe's body has said so far."""

    node: tree.Train
    frame: Frame
    outputs: Mapping[str, Value]  # of the network
    layers: LayerScope  # of the network
    targets: dict[str, Value] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)  # of the settings' names
    values: dict[str, Span] = field(default_factory=dict)  # of the settings' values
    metric_spans: dict[str, Span] = field(default_factory=dict)
    metrics: dict[str, MetricSpec] = field(default_factory=dict)
    results: dict[str, Value] = field(default_factory=dict)


class Recipes(Statements):
    """Runs bodies of networks, and then that of one recipe."""

    recipe: RecipeRun | None = None

    def run_recipe(self, node: tree.Train, frame: Frame, network: Frame) -> RecipeRun:
        """Runs a recipe's body in its frame, after the network's in another; faults are reported."""
        assert network.network is not None and network.scope is not None
        self.recipe = made = RecipeRun(node, frame, network.network.outputs, network.scope)
        self.run(node.body, frame)
        return made

    def statement(self, node: tree.Statement, frame: Frame) -> bool:
        recipe = self.recipe
        if recipe is None or frame is not recipe.frame:
            return super().statement(node, frame)
        match node:
            case tree.Input(kind="target"):
                self._target(node, recipe)
            case tree.Assign(targets=(tree.Identifier(id=name),)) if name in NAMES:
                self._setting(name, node, recipe)
            case tree.Assign() | tree.AugAssign() | tree.For() if misplaced := _settings_among(node):
                raise self._not_one_setting(misplaced[0])
            case tree.Metric():
                self._metric(node, recipe)
            case tree.Shared():
                self._shared_in_network(node, recipe)
            case tree.Labelled():
                message = f"'{node.setting.id}' is not part of this version"
                raise self.fault("setting", message, node.setting.span, help="augment the data before training")
            case _:
                return super().statement(node, frame)
        return False

    def _once(self, name: str, span: Span, recipe: RecipeRun, what: str) -> None:
        known = recipe.metric_spans if what == "metric" else recipe.spans
        if name in known:
            note = Note("it is here already", known[name])
            raise self.fault("duplicate", f"the {what} '{name}' is given twice", span, notes=[note])
        known[name] = span

    def _target(self, node: tree.Input, recipe: RecipeRun) -> None:
        name = node.name
        taken = dict.fromkeys((v.name for v in self.builder.inputs), "an input")
        taken |= dict.fromkeys(recipe.outputs, "an output") | dict.fromkeys(recipe.targets, "another target")
        taken[LOSS] = "the loss"
        if name.id in taken:
            message = f"the target '{name.id}' has the name of {taken[name.id]}"
            raise self.fault("duplicate", message, name.span, help="give each input, output and target its own name")
        value = self.builder.input(name.id, self.input_type(node.type, recipe.frame))
        self.origins[value] = name.span.to(node.type.span)
        recipe.targets[name.id] = value
        recipe.frame.bind(name.id, value, name.span)

    # --- settings ---------------------------------------------------------------------------------------------------

    def _setting(self, name: str, node: tree.Assign, recipe: RecipeRun) -> None:
        self._once(name, node.targets[0].span, recipe, "setting")
        recipe.values[name] = node.value.span
        value = self._looked_up(name, node.value, recipe.frame)
        if name == LOSS:
            recipe.results[LOSS] = self._loss(value, node.value, recipe)
            return
        try:
            recipe.settings[name] = SETTINGS[name](value)
        except ArgumentError as error:
            message = f"{name}: expected {error.expected}, found {describe(value)}"
            raise self.fault("setting", message, node.value.span, help=error.help or ()) from None

    def _looked_up(self, setting: str, node: tree.Expr, frame: Frame) -> Any:
        """A setting's value: names are those of its own table first, and a bare one is called."""
        table = TABLES.get(setting, {})
        value = self.eval(node, replace(frame, names={**frame.names, **table}))
        if isinstance(value, SettingFunction):
            return self.call(value, Arguments(), Site(node.span, node.span), frame)
        return value

    def _loss(self, value: Any, node: tree.Expr, recipe: RecipeRun) -> Value:
        if isinstance(value, Value) and value.dtype.is_float and value.rank == 0:
            if any(v.name == LOSS for v in self.builder.inputs) or recipe.outputs.get(LOSS, value) is not value:
                message = "the network has an input or output 'loss', and the recipe's loss has that name, too"
                raise self.fault("duplicate", message, node.span, help="rename the network's")
            return value
        help: str | tuple[str, ...] = ()
        if isinstance(value, Value):
            help = "take its mean: mean(…)" if value.dtype.is_float else "cast it: cast(…, float32)"
        message = f"the loss is a scalar float tensor, found {describe(value)}"
        raise self.fault("setting", message, node.span, help=help)

    def _metric(self, node: tree.Metric, recipe: RecipeRun) -> None:
        name = node.name.id
        self._once(name, node.name.span, recipe, "metric")
        if name == LOSS:
            raise self.fault("duplicate", "the loss is reported as 'loss' already", node.name.span)
        value = self._looked_up("metric", node.value, recipe.frame)
        if isinstance(value, OperatorValue):
            message = f"'{value.name}' needs its arguments: {value.name}(logits, label)"
            raise self.fault("setting", message, node.value.span)
        if isinstance(value, Value) and value.rank == 0 and value.dtype.is_float:
            value = MetricValue("scalar", {"value": value})
        if not isinstance(value, MetricValue):
            message = f"a metric is one of {', '.join(sorted(TABLES['metric']))}, or a scalar; found {describe(value)}"
            raise self.fault("setting", message, node.value.span)
        spec = MetricSpec.of(name, value.kind, average=value.average)
        recipe.metrics[name] = spec
        roles = METRICS[value.kind].statistics
        recipe.results |= {s: value.statistics[role] for s, role in zip(spec.statistics, roles, strict=True)}

    def _shared_in_network(self, node: tree.Shared, recipe: RecipeRun) -> None:
        """A recipe's own `frozen teacher = …` has the path `teacher`, as it would have in the network."""
        frame = recipe.frame
        own, frame.scope = frame.scope, recipe.layers
        try:
            self.shared(node, frame)
        finally:
            frame.scope = own

    def _not_one_setting(self, name: tree.Identifier) -> Fault:
        message = f"'{name.id}' is a setting: it is given once, in a statement of its own"
        return self.fault("setting", message, name.span, help=f"write {name.id} = value")

    def _unknown(self, name: str, span: Span, frame: Frame) -> Fault:
        recipe = self.recipe
        if recipe is None or frame.owner is not recipe.node:
            return super()._unknown(name, span, frame)
        if name not in {*recipe.spans, *recipe.metric_spans}:
            owner = next((setting for setting, table in TABLES.items() if name in table), None)
            if owner is None:
                return super()._unknown(name, span, frame)
            help = f"write {'metric name' if owner == 'metric' else owner} = {name}(…)"
            return self.fault("unknown-name", f"'{name}' has a meaning in '{owner}' only", span, help=help)
        what = "setting" if name in recipe.spans else "metric"
        message = f"'{name}' is a {what} of the recipe, which binds no name"
        help = f"bind the value to a name of its own first: n = …  {'metric ' * (what == 'metric')}{name} = n"
        return self.fault("unbound-name", message, span, help=help)

    # --- the end ----------------------------------------------------------------------------------------------------

    def finish_recipe(self, run: RecipeRun) -> tuple[Recipe, Graph] | None:
        """The recipe and its graph; None where something is missing, which is reported."""
        for check in (self._check_complete, self._check_unread, self._check_patterns, self._check_monitors):
            check(run)
        if self.reporter.failed:
            return None
        for name, value in {**run.outputs, **run.results}.items():
            self.builder.output(name, value)
        graph = self.builder.finish()
        settings = {name: value for name, value in run.settings.items() if value is not None}
        classes, ignored = class_ids(graph)
        recipe = Recipe(
            network=run.node.network.span.text,
            targets={name: value.type for name, value in run.targets.items()},
            label=run.node.label or "",
            metrics=tuple(run.metrics.values()),
            classes=classes,
            ignore=ignored,
            text=run.node.span.text,
            place=run.node.network.span.place,
            **{"optimizer": OptimizerSpec.of("sgd", {}), **settings},
        )
        return recipe, graph

    def _check_complete(self, run: RecipeRun) -> None:
        for name, example in (("loss", "cross_entropy(logits, label)"), ("optimizer", "sgd(lr=0.1, momentum=0.9)")):
            if name not in run.spans:
                span, help = run.node.network.span, f"write {name} = {example}"
                self.report(self.fault(f"no-{name}", f"the recipe has no {name}", span, help=help))

    def _check_unread(self, run: RecipeRun) -> None:
        """A name that is bound and never read is a setting misspelt."""
        bound = bindings_of(run.node.body).names
        read = _read_names(run.node.body)
        kinds = tree.Metric | tree.Input | tree.ParamDecl
        declared = {s.name.id for s in run.node.body.statements if isinstance(s, kinds)}
        declared |= {name.id for s in run.node.body.statements if isinstance(s, tree.Output) for name in s.names}
        for name, span in bound.items():
            if name in NAMES or name in read or name in declared:
                continue
            help = did_you_mean(name, NAMES, _argument_of(name) or f"settings are {', '.join(NAMES)}")
            message = f"'{name}' is no setting of a recipe, and nothing reads it"
            self.report(self.fault("unknown-setting", message, span, help=help))

    def _check_patterns(self, run: RecipeRun) -> None:
        names = [p.name for p in self.builder.parameters]
        for setting in ("freeze", "unfreeze", "weights"):
            rules: tuple[Any, ...] = run.settings.get(setting) or ()
            for rule in rules:
                what = "parameter" if isinstance(rule, FreezeRule) else "name"
                self._check_pattern(run, setting, rule.pattern, what, names)
        recompute = run.settings.get("recompute")
        if isinstance(recompute, tuple):
            layers = list(dict.fromkeys(n.path for n in self.builder.nodes if n.path))
            for pattern in recompute:
                self._check_pattern(run, "recompute", pattern, "layer", layers)

    def _check_pattern(self, run: RecipeRun, setting: str, pattern: str, what: str, names: Sequence[str]) -> None:
        if not any(fnmatchcase(name, pattern) for name in names):
            message = f'{setting}: the pattern "{pattern}" matches no {what} of the network'
            called = f"they are called {', '.join(names[:3])}, …" if names else "it has none"
            help = did_you_mean(pattern, names, called)
            self.report(self.fault("setting", message, run.values[setting], help=help))

    def _check_monitors(self, run: RecipeRun) -> None:
        """What a schedule or an early stop watches is the loss or a metric that is a number."""
        if len(run.metrics) < len(run.metric_spans):
            return  # one of them failed: it may be the one
        known = [LOSS, *(m.name for m in run.metrics.values() if m.definition.scalar)]
        for setting in ("schedule", "early_stop"):
            value = run.settings.get(setting)
            monitor = value.arguments.get("monitor") if isinstance(value, ScheduleSpec) else value and value.monitor
            if monitor not in (None, *known):
                message = f'{setting}: monitor is "loss" or a metric with one number, found {describe(monitor)}'
                choices = f"what can be watched: {', '.join(known)}"
                help = did_you_mean(monitor, known, choices) if isinstance(monitor, str) else choices
                self.report(self.fault("setting", message, run.values[setting], help=help))


def _argument_of(name: str) -> str:
    """The help for a name that is no setting but an argument of one's functions."""
    for setting, table in TABLES.items():
        for function in table.values():
            if isinstance(function, SettingFunction) and any(p.name == name for p in function.signature):
                return f"it is an argument of '{setting}': {setting} = {function.name}({name}=…)"
    return ""


def _settings_among(node: tree.Assign | tree.AugAssign | tree.For) -> list[tree.Identifier]:
    """Names of settings among those that a statement other than `setting = value` binds."""
    match node:
        case tree.Assign(targets=targets):
            names = [name for target in targets for name in target_names(target)]
        case tree.AugAssign(target=target):
            names = [target]
        case tree.For(target=loop):
            names = list(target_names(loop))
    return [name for name in names if name.id in NAMES]


def _read_names(body: tree.Body) -> set[str]:
    """Names that an expression of the body reads, and those of chains' steps: they name layers, too."""
    from_expressions: set[str] = set()
    pending: list[Any] = [body]
    while pending:
        node = pending.pop()
        if isinstance(node, tree.Name):
            from_expressions.add(node.id)
        elif isinstance(node, tree.AugAssign):
            from_expressions.add(node.target.id)
        elif isinstance(node, tree.Chain):
            from_expressions |= {step.label.id for step in node.steps if step.label}
        pending += list(tree_children(node))
    return from_expressions
