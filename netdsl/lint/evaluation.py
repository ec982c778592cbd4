"""Warnings that the evaluation of a program gives itself, where it meets them."""

from netdsl.lint.rule import Rule

NEW_SYMBOL = Rule(
    name="new-symbol",
    title="A new symbol that looks like a slip",
    what="A name in an input's type is bound to nothing, so that it becomes a symbol of the network, and it is one "
    "letter away from a name that is known.",
    why="The size that was meant to be 10 is then any size at all, known only when the model runs.",
    mend="Correct the name, or give the symbol one that cannot be mistaken.",
    example="""\
network Net(channels=3) {
    input image: float32[N, chanels, 32, 32]

    output y = image * channels
}
""",
    mended="""\
network Net(channels=3) {
    input image: float32[N, channels, 32, 32]

    output y = image * channels
}
""",
)

UNREACHABLE = Rule(
    name="unreachable",
    title="A statement that never runs",
    what="A statement stands behind a `return` in the same body.",
    why="What it says has no effect.",
    mend="Delete it, or move the `return`.",
    example="""\
block Unit(x) {
    return x -> relu
    x = x -> gelu
}

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> Unit
}
""",
    mended="""\
block Unit(x) {
    return x -> relu
}

network Net {
    input image: float32[N, 3, 32, 32]

    output y = image -> Unit
}
""",
)
