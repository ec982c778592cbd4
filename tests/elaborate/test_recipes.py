"""Recipes: what a `train` body becomes, which one is chosen, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from netdsl.diagnostics import DiagnosticError, render_all
from netdsl.elaborate import ElaboratedRecipe, UsageError, check, elaborate, elaborate_recipe
from netdsl.ir.recipe import EarlyStop, FreezeRule, InitialWeights, MetricSpec, OptimizerSpec, ScheduleSpec
from netdsl.source import SourceFile
from netdsl.syntax.read import read_source

NETWORK = """network Net(c=10) {
    input x: float32[N, 4]
    h = x -> dense(8, bias=false) as stem -> batch_norm -> relu
    output logits = h -> dense(c) as head
}
"""
TARGET = "target label: int64[N] "
LOSS = "loss = cross_entropy(logits, label) "
OPTIMIZER = "optimizer = sgd(lr=0.1) "
BASE = TARGET + LOSS + OPTIMIZER


def recipe_of(body: str, header: str = "train Net", network: str = NETWORK, **settings: object) -> ElaboratedRecipe:
    return elaborate_recipe(SourceFile("t.net", f"{network}{header} {{ {body} }}"), settings=settings)


def refused(body: str, header: str = "train Net", network: str = NETWORK) -> str:
    with pytest.raises(DiagnosticError) as error:
        recipe_of(body, header, network)
    return render_all(error.value.diagnostics)


def outputs(made: ElaboratedRecipe) -> dict[str, str]:
    return {o.name: str(o.value.type) for o in made.graph.outputs}


def test_defaults() -> None:
    made = recipe_of(BASE)
    recipe = made.recipe
    assert (recipe.network, recipe.label, recipe.epochs, recipe.batch, recipe.seed) == ("Net", "", 1, 32, 0)
    assert (recipe.accumulate, recipe.precision, recipe.clip_norm, recipe.early_stop) == (1, "float32", None, None)
    assert recipe.schedule == ScheduleSpec()
    assert {name: str(t) for name, t in recipe.targets.items()} == {"label": "int64[N]"}
    assert recipe.classes == {"label": 10}
    assert [v.name for v in made.graph.inputs] == ["x", "label"]
    assert outputs(made) == {"logits": "float32[N, 10]", "loss": "float32[]"}


CLASSES: list[tuple[str, dict[str, int], dict[str, int]]] = [
    ("cross_entropy(logits, label)", {"label": 10}, {}),
    ("cross_entropy(logits, cast(label, int32))", {"label": 10}, {}),
    ("cross_entropy(logits, label, ignore=255)", {"label": 10}, {"label": 255}),
    ("cross_entropy(logits, label, ignore=-1, label_smoothing=0.1)", {"label": 10}, {"label": -1}),
    ("cross_entropy(logits, label, ignore=9) + cross_entropy(logits, label)", {"label": 10}, {}),
    ("cross_entropy(logits[:, :5], label) + cross_entropy(logits, label)", {"label": 5}, {}),
    ("cross_entropy(logits, label + 1)", {}, {}),
    ("cross_entropy(logits, where(label > 3, label, 0))", {}, {}),
]


@pytest.mark.parametrize(("loss", "classes", "ignored"), CLASSES, ids=[c[0] for c in CLASSES])
def test_ids_that_data_may_hold(loss: str, classes: dict[str, int], ignored: dict[str, int]) -> None:
    recipe = recipe_of(f"{TARGET}{OPTIMIZER}loss = {loss}").recipe
    assert (recipe.classes, recipe.ignore) == (classes, ignored)


OPTIMIZERS = [
    ("sgd", "sgd", {}),
    ("sgd()", "sgd", {}),
    ("sgd(0.1, 0.9, true, 1e-4)", "sgd", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-4}),
    ("adam(1e-2, (0.8, 0.9))", "adam", {"lr": 1e-2, "betas": (0.8, 0.9)}),
    ("adamw(weight_decay=0.1)", "adamw", {"weight_decay": 0.1}),
    ("rmsprop(alpha=0.9)", "rmsprop", {"alpha": 0.9}),
    ("adagrad", "adagrad", {}),
    ("adadelta", "adadelta", {}),
    ("if c == 10 then adam else sgd(lr=1)", "adam", {}),
]


@pytest.mark.parametrize(("text", "name", "given"), OPTIMIZERS, ids=[o[0] for o in OPTIMIZERS])
def test_optimizers(text: str, name: str, given: dict[str, object]) -> None:
    assert recipe_of(f"{TARGET}{LOSS}optimizer = {text}").recipe.optimizer == OptimizerSpec.of(name, given)


SCHEDULES = [
    ("constant", "constant", {}),
    ("step(30)", "step", {"step_size": 30}),
    ("multi_step([3, 6], 0.5)", "multi_step", {"milestones": (3, 6), "gamma": 0.5}),
    ("exponential(0.9)", "exponential", {"gamma": 0.9}),
    ("cosine(warmup=0.05)", "cosine", {"warmup": 0.05}),
    ("cosine(warmup=5)", "cosine", {"warmup": 5}),
    ("one_cycle(max_lr=1)", "one_cycle", {"max_lr": 1.0}),
    ('plateau(patience=3, monitor="top1")', "plateau", {"patience": 3, "monitor": "top1"}),
]


@pytest.mark.parametrize(("text", "name", "given"), SCHEDULES, ids=[s[0] for s in SCHEDULES])
def test_schedules(text: str, name: str, given: dict[str, object]) -> None:
    made = recipe_of(f"{BASE}metric top1 = accuracy(logits, label) schedule = {text}")
    assert made.recipe.schedule == ScheduleSpec.of(name, given)


SETTINGS: list[tuple[str, str, object]] = [
    ("epochs = 3 * 30", "epochs", 90),
    ("batch = 256", "batch", 256),
    ("seed = 7", "seed", 7),
    ("clip_norm = 1", "clip_norm", 1.0),
    ("clip_norm = none", "clip_norm", None),
    ("accumulate = 4", "accumulate", 4),
    ('precision = "bfloat16"', "precision", "bfloat16"),
    ("early_stop = early_stop", "early_stop", EarlyStop()),
    ("early_stop = early_stop(patience=9)", "early_stop", EarlyStop(patience=9)),
    ("early_stop = none", "early_stop", None),
    ('weights = "a.safetensors"', "weights", (InitialWeights("a.safetensors"),)),
    ('weights = [("stem.*", "a.npz")]', "weights", (InitialWeights("a.npz", "stem.*"),)),
    ('freeze = "stem.*"', "freeze", (FreezeRule("stem.*"),)),
    ('freeze = ["stem.*", "*.bias"]', "freeze", (FreezeRule("stem.*"), FreezeRule("*.bias"))),
    ('unfreeze = [("stem.*", 5)]', "unfreeze", (FreezeRule("stem.*", 5),)),
    ('recompute = "auto"', "recompute", "auto"),
    ("if c == 10 { epochs = 3 }", "epochs", 3),
    ("n = 4 epochs = n batch = 2 * n", "batch", 8),
]


@pytest.mark.parametrize(("text", "field", "value"), SETTINGS, ids=[s[0] for s in SETTINGS])
def test_settings(text: str, field: str, value: object) -> None:
    assert getattr(recipe_of(BASE + text).recipe, field) == value


METRICS = [
    ("accuracy(logits, label)", "accuracy", ["int64[]", "int64[]"]),
    ("top_k_accuracy(logits, label, 3)", "top_k_accuracy", ["int64[]", "int64[]"]),
    ("precision(logits, label)", "precision", ["int64[10, 10]"]),
    ("recall(logits, label)", "recall", ["int64[10, 10]"]),
    ("f1(logits, label)", "f1", ["int64[10, 10]"]),
    ("iou(logits, label)", "iou", ["int64[10, 10]"]),
    ("confusion_matrix(logits, label)", "confusion_matrix", ["int64[10, 10]"]),
    ("auc(logits, label)", "auc", ["float32[N, 10]", "int64[N]"]),
    ("roc(logits[:, 0], label)", "roc", ["float32[N]", "int64[N]"]),
    ("mse(logits, 2 * logits)", "mse", ["float32[]", "int64[]"]),
    ("rmse(logits, 2 * logits)", "rmse", ["float32[]", "int64[]"]),
    ("mae(logits, 2 * logits)", "mae", ["float32[]", "int64[]"]),
    ("mean(abs(logits))", "scalar", ["float32[]"]),
]


@pytest.mark.parametrize(("text", "kind", "types"), METRICS, ids=[m[1] for m in METRICS])
def test_metrics(text: str, kind: str, types: list[str]) -> None:
    made = recipe_of(f"{BASE}metric m = {text}")
    (spec,) = made.recipe.metrics
    assert spec == MetricSpec.of("m", kind)
    assert [outputs(made)[s] for s in spec.statistics] == types


LOSSES = [
    "cross_entropy(logits, label, label_smoothing=0.1)",
    "cross_entropy(logits, label) + 1e-4 * l2('*.weight') + 1e-5 * l1('stem.*')",
    "mean((logits - unsqueeze(cast(label, float32), 1)) ** 2)",
    "mean(maximum(1 - logits, 0)) * c / N",
    "focal(logits, one_hot(label, 10))",
    "sum(x * 0) + mean(logits -> dense(1) as probe)",
    "own(logits, label)",
]


@pytest.mark.parametrize("loss", LOSSES)
def test_losses_of_the_users_own(loss: str) -> None:
    network = NETWORK + "block own(p, ids) { return mean(p) + cross_entropy(p, ids) }\n"
    assert outputs(recipe_of(f"{TARGET}{OPTIMIZER}loss = {loss}", network=network))["loss"] == "float32[]"


def test_a_loss_of_the_network() -> None:
    network = "network Net { input x: float32[N, 4] y = x -> dense(3) output y output loss = mean(y * y) }\n"
    made = recipe_of("loss = loss optimizer = adam", network=network)
    assert outputs(made) == {"y": "float32[N, 3]", "loss": "float32[]"}


REFUSED = [
    ("", "the recipe has no loss"),
    ("", "the recipe has no optimizer"),
    (BASE + "epoch = 3", "did you mean 'epochs'?"),
    (BASE + "weight_decay = 0.1", "optimizer = sgd(weight_decay=…)"),
    (BASE + "epochs = 3 epochs = 4", "the setting 'epochs' is given twice"),
    (BASE + "metric a = mean(x) metric a = mean(x)", "the metric 'a' is given twice"),
    (BASE + "epochs, batch = (3, 4)", "'epochs' is a setting"),
    (BASE + "epochs = 3 epochs += 4", "'epochs' is a setting"),
    (BASE + "for epochs in [1] { }", "'epochs' is a setting"),
    (BASE + "epochs = 3 schedule = step(epochs)", "first: n = …  epochs = n"),
    (BASE + "metric a = mean(x) metric b = a", "first: n = …  metric a = n"),
    (BASE + "target label: int64[N]", "the target 'label' has the name of another target"),
    (BASE + "target x: int64[N]", "the target 'x' has the name of an input"),
    (BASE + "target logits: int64[N]", "the target 'logits' has the name of an output"),
    (BASE + "target loss: float32[]", "the target 'loss' has the name of the loss"),
    (BASE + "schedule = plateau(monitor='los')", "did you mean 'loss'?"),
    (BASE + "early_stop = early_stop(monitor='acc')", "what can be watched: loss"),
    (BASE + "metric r = roc(logits[:, 0], label) early_stop = early_stop(monitor='r')", "one number"),
    (BASE + "weights = 'a.pt'", ".safetensors"),
    (BASE + "weights = [('tail.*', 'a.npz')]", 'the pattern "tail.*" matches no name'),
    (BASE + "freeze = 'stm.*'", "matches no parameter of the network"),
    (BASE + "precision = float16", 'write "float16"'),
    (BASE + "metric m = acuracy(logits, label)", "did you mean 'accuracy'?"),
    (BASE + "metric m = accuracy", "needs its arguments"),
    (BASE + "metric loss = mean(x)", "reported as 'loss' already"),
    (BASE + "output y = x", "'output' does not stand in a recipe"),
    (BASE + "augment x = [flip]", "'augment' is not part of this version"),
    (BASE + "metric m = mean(h)", "unknown name 'h'"),
    (TARGET + OPTIMIZER + "loss = logits", "mean(…)"),
    (TARGET + OPTIMIZER + "loss = accuracy(logits, label)", "metric name = accuracy(…)"),
    (TARGET + LOSS + "optimizer = cosine", "schedule = cosine(…)"),
    (TARGET + LOSS + "optimizer = sgd(lr=-1)", "at least 0"),
    (TARGET + LOSS + "optimizer = sgd(nesterov=true)", "a momentum above 0"),
    (TARGET + LOSS + "optimizer = sgd(momentun=0.9)", "did you mean 'momentum'?"),
]


@pytest.mark.parametrize(("body", "expected"), REFUSED, ids=[f"{b[-40:]}|{e[:20]}" for b, e in REFUSED])
def test_refusals(body: str, expected: str) -> None:
    assert expected in refused(body)


@pytest.mark.parametrize("text", ["epochs = 0", "batch = 2.5", "batch = N", "seed = -1", "accumulate = true"])
def test_wrong_kinds(text: str) -> None:
    assert f"{text.split()[0]}: expected" in refused(BASE + text)


def test_one_error_each() -> None:
    text = refused("loss = mean(logitss) optimizer = sgd(lrr=1) epoch = 3 batch = 2.5 freeze = 'a' metric m = acc(x)")
    assert text.count(": error: ") == 6


def test_the_network_s_loss_is_not_hidden() -> None:
    network = "network Net { input x: float32[N, 4] y = x -> dense(3) output loss = mean(y) }\n"
    assert "rename the network's" in refused("loss = mean(loss * 2) optimizer = adam", network=network)


def test_settings_names_mean_two_things() -> None:
    network = "step = 5\nnetwork Net(sgd=3) { input x: float32[N, 4] output y = x -> dense(sgd) as constant }\n"
    made = recipe_of("loss = mean(y) * step + sgd optimizer = sgd(lr=1) schedule = step(3)", network=network)
    assert made.recipe.schedule.name == "step"
    assert made.recipe.optimizer.name == "sgd"


def test_a_frozen_teacher_in_the_recipe() -> None:
    network = NETWORK + "block Teacher(x) { return x -> dense(5) -> batch_norm -> dense(10) }\n"
    body = "frozen teacher = Teacher(_) loss = mse(logits, x -> teacher) optimizer = adam "
    made = recipe_of(body + 'weights = [("teacher.*", "t.npz")]', network=network)
    own = {p.name: p.trainable for p in made.graph.parameters if p.name.startswith("teacher.")}
    assert len(own) == 8
    assert not any(own.values())


# --- which recipe ----------------------------------------------------------------------------------------------------


def chosen(text: str, label: str | None = None, network: str | None = None) -> tuple[str, str, int]:
    recipe = elaborate_recipe(SourceFile("t.net", NETWORK + text), label=label, network=network).recipe
    return recipe.network, recipe.label, recipe.epochs


def test_the_unlabelled_recipe_is_the_default() -> None:
    text = f'train Net "a" {{ {BASE} }} train Net {{ {BASE} epochs = 2 }} train Net "b" {{ {BASE} }}'
    assert chosen(text) == ("Net", "", 2)
    assert chosen(text, "a") == ("Net", "a", 1)


def test_else_the_last() -> None:
    assert chosen(f'train Net "a" {{ {BASE} }} train Net "b" {{ {BASE} }}')[1] == "b"


def test_the_recipe_of_a_network() -> None:
    other = "network Other { input x: float32[N, 2] output logits = x -> dense(2) }"
    text = f"train Net {{ {BASE} epochs = 2 }} {other} train Other {{ {BASE} }}"
    assert chosen(text)[0] == "Other"
    assert chosen(text, network="Net") == ("Net", "", 2)


def test_unknown_label_and_network() -> None:
    text = f'train Net "base" {{ {BASE} }}'
    with pytest.raises(UsageError, match='did you mean "base"'):
        chosen(text, "bse")
    with pytest.raises(UsageError, match="did you mean 'Net'"):
        chosen(text, network="Nett")


def test_two_recipes_of_one_label() -> None:
    found = check(SourceFile("t.net", f"{NETWORK} train Net {{ {BASE} }} train Net {{ {BASE} }}"))
    assert [d.message for d in found] == ["two recipes for 'Net' without a label"]


def test_no_recipe() -> None:
    with pytest.raises(DiagnosticError, match="there is no recipe in this file"):
        chosen("")


def test_an_imported_network(tmp_path: Path) -> None:
    (tmp_path / "r.net").write_text(NETWORK)
    path = tmp_path / "t.net"
    path.write_text(f'import "r.net" as r from "r.net" import Net train r.Net {{ {BASE} }} train Net "b" {{ {BASE} }}')
    source = read_source(str(path))
    assert check(source) == ()
    assert elaborate_recipe(source).recipe.network == "r.Net"
    assert elaborate_recipe(source, label="b").recipe.network == "Net"


# --- parameters of the recipe ----------------------------------------------------------------------------------------


def test_parameters_are_set() -> None:
    body = f"{TARGET}{LOSS}optimizer = sgd(lr=lr)"
    assert recipe_of(body, "train Net(lr=0.1)").recipe.optimizer.lr == 0.1
    assert recipe_of(body, "train Net(lr=0.1)", lr="0.5 / 2").recipe.optimizer.lr == 0.25
    assert recipe_of(body, "train Net(lr)", lr=1).recipe.optimizer.lr == 1.0


def test_a_name_that_network_and_recipe_share_sets_both() -> None:
    made = recipe_of(BASE + "epochs = c", "train Net(c=5)", c="7")
    assert made.recipe.epochs == 7
    assert outputs(made)["logits"] == "float32[N, 7]"


def test_a_symbol_is_set() -> None:
    assert str(recipe_of(BASE, N="4").recipe.targets["label"]) == "int64[4]"


def test_missing_values_are_reported() -> None:
    text = refused(f"{TARGET}{LOSS}optimizer = sgd(lr=lr)", "train Net(lr)", NETWORK.replace("c=10", "c"))
    assert "the network 'Net' needs a value for 'c'" in text
    assert "the recipe needs a value for 'lr'" in text


def test_a_check_does_without_missing_values() -> None:
    assert check(SourceFile("t.net", f"{NETWORK} train Net(lr) {{ {TARGET}{LOSS}optimizer = sgd(lr=lr) }}")) == ()


def test_unknown_parameters() -> None:
    with pytest.raises(UsageError, match="did you mean 'lr'"):
        recipe_of(BASE, "train Net(lr=0.1)", lrr=1)


def test_compile_checks_recipes() -> None:
    with pytest.raises(DiagnosticError, match="the recipe has no loss"):
        elaborate(SourceFile("t.net", NETWORK + "train Net { optimizer = adam }"))


def test_ids_that_an_embedding_may_read() -> None:
    """An input of ids is checked like a target: by the smaller of the vocabularies that it meets."""
    network = """network Net {
        input ids: int64[N, T]
        h = concat(ids -> embedding(9, 4), ids -> embedding(7, 4), axis=2)
        output logits = h -> mean(1) -> dense(3)
    }
    """
    assert recipe_of(BASE, network=network).recipe.classes == {"ids": 7, "label": 3}
