"""Texts of netdsl programs over the whole grammar: they parse, and mean nothing.

`programs()` gives text laid out by chance: white space, line breaks and comments between any two words.
"""

from __future__ import annotations

from hypothesis import strategies as st

Words = list[str]

NAMES = ("x", "y", "conv", "a1", "_private", "long_name_of_a_layer_in_a_deep_network", "N", "Block", "_9")
SOFT_KEYWORDS = (
    "input",
    "output",
    "target",
    "metric",
    "param",
    "shared",
    "frozen",
    "block",
    "network",
    "train",
    "repeat",
)

_plain_names = st.sampled_from(NAMES)
_names = st.sampled_from(NAMES + SOFT_KEYWORDS)
_numbers = st.sampled_from(("0", "1", "007", "224", "1e-4", "0.5", "1E5", "12345678901234567890", "3.0e+2"))
_strings = st.sampled_from(
    ('"same"', "'it'", "'say \"hi\"'", '"tab\\\\ \\n \\" \\\'"', '""', '"# no comment"', '"ünï"')
)
_constants = st.sampled_from(("true", "false", "none", "_"))


def _joined(items: list[Words], separator: str) -> Words:
    out: Words = []
    for i, item in enumerate(items):
        out += [separator, *item] if i else item
    return out


def _commas(items: list[Words], trailing: bool) -> Words:
    return _joined(items, ",") + ([","] if trailing and items else [])


@st.composite
def _arguments(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    positional = draw(st.lists(values, max_size=3))
    keywords = draw(st.lists(_names, max_size=3, unique=True))
    items = positional + [[name, "=", *draw(values)] for name in keywords]
    return ["(", *_commas(items, draw(st.booleans())), ")"]


@st.composite
def _subscripts(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    def part() -> Words:
        return draw(values) if draw(st.booleans()) else []

    items: list[Words] = []
    for kind in draw(st.lists(st.sampled_from(("value", "slice", "step", "rest")), min_size=1, max_size=3)):
        if kind == "value":
            items.append(draw(values))
        elif kind == "rest":
            items.append(["..."])
        else:
            items.append([*part(), ":", *part(), *([":", *part()] if kind == "step" else [])])
    return ["[", *_commas(items, trailing=False), "]"]


@st.composite
def _postfix(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    out = draw(_atoms(values))
    for kind in draw(st.lists(st.sampled_from(("call", "attribute", "index")), max_size=2)):
        if kind == "call":
            out = out + draw(_arguments(values))
        elif kind == "attribute":
            out = [*out, ".", draw(_names)]
        else:
            out = out + draw(_subscripts(values))
    return out


@st.composite
def _atoms(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    kind = draw(st.sampled_from(("name", "name", "number", "string", "constant", "paren", "tuple", "list")))
    if kind == "paren":
        return ["(", *draw(values), ")"]
    if kind == "list":
        return ["[", *_commas(draw(st.lists(values, max_size=3)), draw(st.booleans())), "]"]
    if kind == "tuple":
        items = draw(st.lists(values, max_size=3))
        return ["(", *_commas(items, len(items) == 1 or draw(st.booleans())), ")"]
    words = {"name": _names, "number": _numbers, "string": _strings, "constant": _constants}
    return [draw(words[kind])]


@st.composite
def _operators(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    """`or` down to `**`, built bottom up so that no parentheses are needed."""

    def power() -> Words:
        out = ["-"] * draw(st.integers(0, 2)) + draw(_postfix(values))
        return [*out, "**", *draw(_postfix(values))] if draw(st.integers(0, 4)) == 0 else out

    def product() -> Words:
        out = power()
        for operator in draw(st.lists(st.sampled_from(("*", "/", "//", "%", "@")), max_size=1)):
            out = [*out, operator, *power()]
        return out

    def sums() -> Words:
        out = product()
        for operator in draw(st.lists(st.sampled_from(("+", "-")), max_size=2)):
            out = [*out, operator, *product()]
        return out

    def comparison() -> Words:
        out = sums()
        if draw(st.integers(0, 3)) == 0:
            operator = draw(st.sampled_from(("==", "!=", "<", "<=", ">", ">=", "in", "not in")))
            out = [*out, *operator.split(), *sums()]
        return ["not", *out] if draw(st.integers(0, 5)) == 0 else out

    return _joined([comparison() for _ in range(draw(st.integers(1, 2)))], draw(st.sampled_from(("and", "or"))))


@st.composite
def _chains(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    out = draw(_postfix(values))
    for _ in range(draw(st.integers(1, 4))):
        out = [*out, "->", *draw(_postfix(values))]
        if draw(st.booleans()):
            out += ["as", draw(_names)]
    return out


@st.composite
def _conditionals(draw: st.DrawFn, values: st.SearchStrategy[Words]) -> Words:
    return ["if", *draw(values), "then", *draw(values), "else", *draw(values)]


def _grown(values: st.SearchStrategy[Words]) -> st.SearchStrategy[Words]:
    return st.one_of(_operators(values), _postfix(values), _chains(values), _conditionals(values))


_leaves = st.one_of(_names, _numbers, _strings, _constants).map(lambda word: [word])


def expressions() -> st.SearchStrategy[Words]:
    """The words of an expression."""
    return st.recursive(_leaves, _grown, max_leaves=6)


# --- statements -----------------------------------------------------------------------------------------------------

_simple = _operators(_leaves)  # what may stand in a loop's header: neither chain nor conditional


@st.composite
def _targets(draw: st.DrawFn, depth: int = 1) -> Words:
    items: list[Words] = []
    for _ in range(draw(st.integers(1, 3))):
        if depth and draw(st.integers(0, 3)) == 0:
            items.append(["(", *draw(_targets(depth - 1)), ")"])
        else:
            items.append([draw(st.one_of(_names, st.just("_")))])
    return _joined(items, ",")


@st.composite
def _types(draw: st.DrawFn) -> Words:
    dims = draw(st.lists(expressions(), max_size=4))
    return [draw(st.sampled_from(("float32", "int64", "bool"))), "[", *_commas(dims, draw(st.booleans())), "]"]


@st.composite
def _values(draw: st.DrawFn) -> Words:
    return _joined(draw(st.lists(expressions(), min_size=1, max_size=2)), ",")


@st.composite
def statements(draw: st.DrawFn, depth: int = 2) -> Words:
    """The words of a statement; `depth` bounds the bodies within."""
    compound = ("for", "repeat", "if") if depth else ()
    kind = draw(
        st.sampled_from(("assign", "assign", "augmented", "bind", "type", "output", "flow", "labelled", *compound))
    )
    if kind == "assign":
        first = draw(st.one_of(_names, st.just("_")))
        more = [",", *draw(_targets())] if draw(st.integers(0, 3)) == 0 else []
        return [first, *more, "=", *draw(_values())]
    if kind == "augmented":
        return [draw(_names), draw(st.sampled_from(("+=", "-=", "*="))), *draw(expressions())]
    if kind == "bind":
        word = draw(st.sampled_from(("shared", "frozen", "metric", "output")))
        return [word, draw(_names), "=", *draw(expressions())]
    if kind == "type":
        word = draw(st.sampled_from(("input", "target", "param")))
        initializer = ["=", *draw(expressions())] if word == "param" and draw(st.booleans()) else []
        return [word, draw(_names), ":", *draw(_types()), *initializer]
    if kind == "output":
        return ["output", *_joined([[name] for name in draw(st.lists(_names, min_size=1, max_size=3))], ",")]
    if kind == "flow":
        return draw(st.one_of(_values().map(lambda words: ["return", *words]), _asserts()))
    if kind == "labelled":
        return ["augment", draw(_names), "=", *draw(expressions())]
    return draw(_compounds(kind, depth))


@st.composite
def _asserts(draw: st.DrawFn) -> Words:
    return ["assert", *draw(expressions()), *([",", *draw(expressions())] if draw(st.booleans()) else [])]


@st.composite
def _compounds(draw: st.DrawFn, kind: str, depth: int) -> Words:
    label = ["as", draw(_names)] if draw(st.booleans()) else []
    if kind == "for":
        return ["for", *draw(_targets()), "in", *draw(_simple), *label, *draw(_bodies(depth - 1))]
    if kind == "repeat":
        return ["repeat", *draw(_simple), *label, *draw(_bodies(depth - 1))]
    out = ["if", *draw(expressions()), *draw(_bodies(depth - 1))]
    for _ in range(draw(st.integers(0, 2))):
        out += ["else", "if", *draw(expressions()), *draw(_bodies(depth - 1))]
    return out + (["else", *draw(_bodies(depth - 1))] if draw(st.booleans()) else [])


@st.composite
def _bodies(draw: st.DrawFn, depth: int = 2) -> Words:
    out = ["{"]
    for statement in draw(st.lists(statements(depth), max_size=3)):
        out += ["", *statement]
    return [*out, "", "}"]


# --- definitions ----------------------------------------------------------------------------------------------------


@st.composite
def _parameters(draw: st.DrawFn) -> Words:
    plain = draw(st.lists(_names, max_size=3, unique=True))
    given = [name for name in draw(st.lists(_names, max_size=2, unique=True)) if name not in plain]
    items = [[name] for name in plain] + [[name, "=", *draw(expressions())] for name in given]
    return ["(", *_commas(items, draw(st.booleans())), ")"]


@st.composite
def definitions(draw: st.DrawFn) -> Words:
    """The words of a definition."""
    kind = draw(st.sampled_from(("import", "from", "constant", "block", "network", "train")))
    if kind == "import":
        return ["import", draw(_strings), "as", draw(_names)]
    if kind == "from":
        names = [[draw(_names), *draw(st.sampled_from(([], ["as", "alias"])))] for _ in range(draw(st.integers(1, 3)))]
        return ["from", draw(_strings), "import", *_joined(names, ",")]
    if kind == "constant":
        return [draw(_names), "=", *draw(_values())]
    if kind == "block":
        return ["block", draw(_names), *draw(_parameters()), *draw(_bodies())]
    parameters = draw(_parameters()) if draw(st.booleans()) else []
    if kind == "network":
        return ["network", draw(_names), *parameters, *draw(_bodies())]
    label = [draw(_strings)] if draw(st.booleans()) else []
    dotted = [draw(_names), *([".", draw(_names)] if draw(st.booleans()) else [])]
    return ["train", *dotted, *label, *parameters, *draw(_bodies())]


_SPACES = (
    " ",
    " ",
    " ",
    " ",
    "  ",
    "\n",
    "\n    ",
    "\n\n\n",
    "\t",
    "\r\n",
    " # remark {}\n",
    "\n# a line of its own {}\n",
    ' # one {} \n # "and another" -> {{ ( \n',
    "#close ünï {}\r\n\t\n",
    "\n\n\n# netdsl: allow unused-value # {}\n\n\n",
    "  #\n",
)


@st.composite
def programs(draw: st.DrawFn) -> str:
    """The text of a file. Between any two words stands white space by chance, comments included. They have numbers, so
    that none can take another's place unseen."""
    words = [word for definition in draw(st.lists(definitions(), max_size=4)) for word in ["", *definition]]
    wild = draw(st.booleans())
    out: list[str] = []
    random = draw(st.randoms(use_true_random=False))
    for number, word in enumerate(words):
        # An empty word stands where a statement starts.
        out.append(word or "\n")
        out.append(random.choice(_SPACES).format(number) if wild and random.random() < 0.3 else " ")
    end = draw(st.sampled_from(("", "# the end", "\n# the end", "\n\n#\n#")))
    return "".join(out) + end
