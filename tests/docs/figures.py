"""Numbers in the prose of tutorials and concepts: each is printed on its page, or follows by arithmetic that is shown.

Those with a thousands comma or a fraction, and all in bold, must stand in the output of a block of the page, or be the
result of a span of code like `3·3·64 = 576`, which must be right (`≈`: right to the digits that are shown).
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.docs.pages import blocks, prose

_NUMBER = r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?"
_SPAN = re.compile(r"`([^`]*)`")
_ARITHMETIC = re.compile(r"[\d\s.,()+\-·×/²³]+(?:[=≈][\d\s.,()+\-·×/²³]+)+")
_BOLD = re.compile(rf"\*\*({_NUMBER})(?=[^\d,.]|[,.]\D)")
_PLAIN = re.compile(r"(?<![\w.,:])(\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+\.\d+)(?![\w.:]\d)")
_NO_PROSE = re.compile(r"\]\([^)]*\)|arXiv:[\d.]+|<!--.*?-->", re.DOTALL)


def unproved(page: Path) -> list[str]:
    """What is wrong, each with its line: arithmetic, and figures that nothing proves."""
    text = prose(page)
    proved = _printed(page)
    wrong = []
    for number, line in enumerate(text.splitlines(), 1):
        for span in _SPAN.findall(line):
            if _ARITHMETIC.fullmatch(span):
                wrong += [] if _holds(span) else [f"{page.name}:{number}: {span} is wrong"]
                proved |= _numbers(span)
    for number, line in enumerate(_NO_PROSE.sub(_blank, text).splitlines(), 1):
        plain = _SPAN.sub("", line)
        for figure in dict.fromkeys([*_BOLD.findall(plain), *_PLAIN.findall(plain)]):
            if _value(figure) not in proved:
                wrong.append(f"{page.name}:{number}: {figure} is in no output of this page")
    return wrong


def _printed(page: Path) -> set[float]:
    """All numbers in the outputs of a page."""
    shown = [b for b in blocks(page) if b.language == "console" or b.words[:2] == ("text", "output")]
    return {number for block in shown for number in _numbers(block.body)}


def _numbers(text: str) -> set[float]:
    return {_value(number) for number in re.findall(_NUMBER, text)}


def _value(text: str) -> float:
    return float(text.replace(",", ""))


def _blank(match: re.Match[str]) -> str:
    return "\n" * match.group().count("\n")


def _holds(span: str) -> bool:
    """Whether all sides of `a·b = c` are equal, to the digits shown behind `≈`."""
    first, *others = re.split(r"\s*([=≈])\s*", span)
    value = _evaluated(first)
    for sign, side in zip(others[::2], others[1::2], strict=True):
        slack = 0.5 * 10 ** -len(side.partition(".")[2]) if sign == "≈" else 1e-9
        if abs(_evaluated(side) - value) > slack * 1.0001:
            return False
    return True


def _evaluated(side: str) -> float:
    plain = re.sub(r"(?<=\d),(?=\d{3})", "", side)
    for sign, python in {"·": "*", "×": "*", "²": "**2", "³": "**3"}.items():
        plain = plain.replace(sign, python)
    return float(eval(plain, {"__builtins__": {}}))
