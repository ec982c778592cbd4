"""Short programs for the tests of the warnings."""

from __future__ import annotations

from netdsl.diagnostics import Severity, render_all
from netdsl.elaborate import check
from netdsl.source import SourceFile


def warned(text: str) -> list[str]:
    """The warnings of a program without errors, each as `name line:column`."""
    found = check(SourceFile("t.net", text))
    assert all(d.severity is Severity.WARNING for d in found), render_all(found)
    return [f"{d.name} {d.place.line}:{d.place.column}" for d in found]


def names(text: str) -> list[str]:
    """The names of a program's warnings."""
    return [found.split()[0] for found in warned(text)]


def image(body: str, before: str = "", shape: str = "N, 6, 32, 32") -> str:
    """A network with the input `x`, and as output the value that `body` gives `x` in the end."""
    return f"{before}\nnetwork Net {{\n input x: float32[{shape}]\n{body}\n output out = x\n}}"


def table(body: str, before: str = "") -> str:
    """The same for an input of 8 features."""
    return image(body, before, "N, 8")


def recipe(network: str, loss: str, target: str = "int64[N]") -> str:
    """A network and a recipe with a loss of the network's output `out` and the target `t`."""
    return f"{network}\ntrain Net {{\n target t: {target}\n loss = {loss}\n optimizer = adam(lr=1e-3)\n}}"
