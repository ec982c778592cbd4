"""What a file binds and never reads: values, inputs and targets, parameters, imported names."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from netdsl.diagnostics import Diagnostic
from netdsl.lint.liveness import Dead, dead_bindings
from netdsl.lint.rule import Rule, note_at
from netdsl.syntax import tree
from netdsl.syntax.bindings import Reads, bindings_of

_UNDERSCORE = "A name that starts with `_` is never warned about."

VALUE = Rule(
    name="unused-value",
    title="A value that is never read",
    what="A statement binds a name, and nothing reads this value: the name is never used, or bound again before it is. "
    "So is a loop's variable, an item of several, a `shared` function. Names that `as` gives to layers are not "
    f"meant. {_UNDERSCORE}",
    why="It is most often a slip: a chain that goes on from the wrong name, so that a layer is left out of the "
    "network, or a list of skips that is filled and forgotten.",
    mend="Use the value or delete the statement. `_` discards an item (`sequence, _ = x -> lstm(64)`) or a loop's "
    "variable; a loop that needs none is `repeat n { … }`.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1) -> relu
    y = image -> conv(32, 3, padding=1) -> relu
    output z = y -> conv(4, 1)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]

    x = image -> conv(16, 3, padding=1) -> relu
    y = x -> conv(32, 3, padding=1) -> relu
    output z = y -> conv(4, 1)
}
""",
)

INPUT = Rule(
    name="unused-input",
    title="An input that is never read",
    what="Nothing reads a network's input, neither its body nor a recipe of the file, or nothing in a recipe reads its "
    "target. An input that only gives a size (`x.shape[0]`, or a symbol that the body computes with) is read.",
    why="Who runs the model must hand in data that changes nothing.",
    mend="Use it, or delete its line.",
    example="""\
network Net {
    input image: float32[N, 3, 32, 32]
    input mask: float32[N, 1, 32, 32]

    output y = image -> conv(4, 1)
}
""",
    mended="""\
network Net {
    input image: float32[N, 3, 32, 32]
    input mask: float32[N, 1, 32, 32]

    output y = (image * mask) -> conv(4, 1)
}
""",
)

PARAMETER = Rule(
    name="unused-parameter",
    title="A parameter that is never read",
    what="A block, network or recipe has a parameter that its body does not read (for a network's: nor do its "
    f"recipes), or a `param` declares a weight that nothing uses. {_UNDERSCORE}",
    why="Who calls the block sets something that has no effect: the `stride` that was meant to reach the convolution "
    "does not. A `param` that nothing uses is stored in every checkpoint, and never trained.",
    mend="Use it or delete it. Where a block needs a parameter because others that take its place have it, let its "
    "name start with `_`.",
    example="""\
block Unit(x, channels, stride=1) {
    return x -> conv(channels, 3, padding=1) -> relu
}

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> Unit(16, stride=2)
}
""",
    mended="""\
block Unit(x, channels, stride=1) {
    return x -> conv(channels, 3, stride, padding=1) -> relu
}

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> Unit(16, stride=2)
}
""",
)

IMPORT = Rule(
    name="unused-import",
    title="An imported name that is never used",
    what="A file imports a name, or another file, and uses it nowhere. A file that defines no block, network or recipe "
    f"passes on what it imports, and is left alone. {_UNDERSCORE}",
    why="Readers look for what the file does with it.",
    mend="Delete it.",
    example="""\
from "std:layers" import ConvBN, SqueezeExcite

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> ConvBN(16)
}
""",
    mended="""\
from "std:layers" import ConvBN

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> ConvBN(16)
}
""",
)


def check(file: tree.File, exported: Collection[str]) -> Iterator[Diagnostic]:
    """Names `exported` are used by other files."""
    reads = Reads()
    recipes = [d for d in file.definitions if isinstance(d, tree.Train)]
    for definition in file.definitions:
        if isinstance(definition, tree.Block):
            yield from _body(definition, (), reads)
        elif isinstance(definition, tree.Network):
            own = [r for r in recipes if r.network.span.text == definition.name.id]
            yield from _body(definition, {name for recipe in own for name in reads.of(recipe)}, reads)
        elif isinstance(definition, tree.Train):
            yield from _recipe(definition, file, reads)
    yield from _imports(file, exported, reads)


def _meant(name: tree.Identifier) -> bool:
    return not name.id.startswith("_")


# --- blocks and networks ---------------------------------------------------------------------------------------------


def _body(node: tree.Block | tree.Network, after: Collection[str], reads: Reads) -> Iterator[Diagnostic]:
    inside, parameters = dead_bindings(node.body, node.parameters, after, reads)
    read = reads.of(node).union(after)
    sizes = _names_of_sizes(node, reads)
    # Of names that nothing at all reads the first binding says so for all of them.
    told = {dead.name.id for dead in parameters} - read
    for dead in inside:
        name = dead.name
        if name.id in told or not _meant(name):
            continue
        if name.id not in read:
            told.add(name.id)
        if dead.kind != "input" or name.id not in sizes:
            yield _warning(dead, unused=name.id not in read)
    for dead in parameters:
        if _meant(dead.name):
            yield _unused_parameter(dead, node)


def _names_of_sizes(node: tree.Block | tree.Network, reads: Reads) -> set[str]:
    """The inputs whose types hold a symbol that the body computes with."""
    known = {p.name.id for p in node.parameters}
    computed = frozenset[str]().union(*(reads.of(s) for s in node.body.statements if not isinstance(s, tree.Input)))
    return {i.name.id for i in bindings_of(node.body).inputs if (reads.of(i.type) - known) & computed}


def _warning(dead: Dead, *, unused: bool) -> Diagnostic:
    name, span = dead.name.id, dead.name.span
    match dead.kind:
        case "input":
            return INPUT.warn(f"the input '{name}' is never read", span, help="use it, or delete this line")
        case "param":
            help = "use it, or delete this line: it would be stored in every checkpoint"
            return PARAMETER.warn(f"the parameter '{name}' is never read", span, help=help)
        case "shared":
            return VALUE.warn(f"the function '{name}' is never used", span, help="call it, or delete this line")
    helps = {
        "item": "write '_' in its place",
        "turn": "write '_' in its place, or 'repeat n' for a loop that only counts",
        "value": "use it, or delete this line" if unused else "go on from it, or delete this line",
    }
    message = f"'{name}' is never read" if unused else f"this value of '{name}' is never read"
    notes = note_at(f"'{name}' is bound again here", dead.again, span) if dead.again else ()
    return VALUE.warn(message, span, notes=notes, help=helps[dead.kind])


def _unused_parameter(dead: Dead, owner: tree.Block | tree.Network) -> Diagnostic:
    name, what = dead.name.id, "block" if isinstance(owner, tree.Block) else "network"
    notes = note_at(f"'{name}' is bound again here", dead.again, dead.name.span) if dead.again else ()
    message = f"the {what} '{owner.name.id}' never reads its parameter '{name}'"
    help = f"use it, delete it, or call it '_{name}'" if what == "block" else "use it or delete it"
    return PARAMETER.warn(message, dead.name.span, notes=notes, help=help)


# --- recipes and imports ---------------------------------------------------------------------------------------------


def _recipe(recipe: tree.Train, file: tree.File, reads: Reads) -> Iterator[Diagnostic]:
    """Targets and parameters; other names that a recipe never reads are errors. A parameter that is the network's, too,
    is set together with that."""
    read = reads.of(recipe)
    networks = (d for d in file.definitions if isinstance(d, tree.Network) and d.name.id == recipe.network.span.text)
    shared = {p.name.id for network in networks for p in network.parameters}
    for target in bindings_of(recipe.body).inputs:
        if target.name.id not in read and _meant(target.name):
            message = f"the target '{target.name.id}' is never read"
            yield INPUT.warn(message, target.name.span, help="use it in the loss or a metric, or delete this line")
    for name in (p.name for p in recipe.parameters):
        if name.id not in read and name.id not in shared and _meant(name):
            message = f"the recipe never reads its parameter '{name.id}'"
            yield PARAMETER.warn(message, name.span, help="use it or delete it")


def _imports(file: tree.File, exported: Collection[str], reads: Reads) -> Iterator[Diagnostic]:
    if not any(isinstance(d, tree.Block | tree.Network | tree.Train) for d in file.definitions):
        return
    used = frozenset(exported).union(*(reads.of(definition) for definition in file.definitions))
    for definition in file.definitions:
        if isinstance(definition, tree.Import):
            names = [definition.alias]
        elif isinstance(definition, tree.FromImport):
            names = [item.alias or item.name for item in definition.names]
        else:
            continue
        for name in names:
            if name.id not in used and _meant(name):
                yield IMPORT.warn(f"'{name.id}' is imported and never used", name.span, help="delete it")
