"""How a parameter gets its first values: a name, its arguments, and the fans that scale it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar


@dataclass(frozen=True, slots=True)
class Initializer:
    """A distribution of the language (`he_normal`, `normal(0, 0.02)`, …).

    `arguments` are in the order of `SIGNATURES`; `fan_in` and `fan_out` are the numbers of connections into and out of
    one unit, set by the layer that makes the parameter.
    """

    name: str
    arguments: tuple[float, ...] = ()
    fan_in: int = 1
    fan_out: int = 1

    #: Every initializer with its arguments' names and defaults (None: required).
    SIGNATURES: ClassVar[dict[str, tuple[tuple[str, float | None], ...]]] = {
        "zeros": (),
        "ones": (),
        "constant": (("value", None),),
        "uniform": (("low", 0.0), ("high", 1.0)),
        "normal": (("mean", 0.0), ("std", 1.0)),
        "truncated_normal": (("mean", 0.0), ("std", 1.0)),
        "xavier_uniform": (),
        "xavier_normal": (),
        "he_uniform": (),
        "he_normal": (),
        "lecun_uniform": (),
        "lecun_normal": (),
        "orthogonal": (("gain", 1.0),),
    }

    def with_fans(self, fan_in: int, fan_out: int) -> Initializer:
        return replace(self, fan_in=fan_in, fan_out=fan_out)

    def __str__(self) -> str:
        arguments = ", ".join(f"{a:g}" if float(f"{a:g}") == a else repr(a) for a in self.arguments)
        return f"{self.name}({arguments})" if self.arguments else self.name


ZEROS = Initializer("zeros")
ONES = Initializer("ones")
HE_NORMAL = Initializer("he_normal")
XAVIER_UNIFORM = Initializer("xavier_uniform")
