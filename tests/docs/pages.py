"""The pages of the documentation: their blocks of code, and what these print when a reader runs them.

The first line of a block says what it is:

- `net`: a whole file, in canonical layout, without errors or warnings;
- `net error`: a whole file that has one;
- `net warning=NAME`: a whole file in canonical layout with that warning and no other;
- `net fragment`: statements inside of a network with the input that `FRAGMENT` declares;
- `file=NAME` behind a language: the file of that name in the reader's folder, from there on;
- `text parameters=NAME.net`: the names of that file's parameters and buffers, in order;
- `console`: commands, each behind `$ `, and exactly what they print;
- `python`: a program, run in one namespace with the others of its page; `text output` behind it is what it prints;
- `sh`: in the README, commands that must succeed; elsewhere only shown.

`…` in shown output stands for any text in its line, and alone in a line for any lines. `approximate` behind `console`
or `output`: decimal fractions may differ by a quarter or by 0.1, as those of short trainings do between processors,
where every rounding differs.
"""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from click.testing import CliRunner
from PIL import Image

from netdsl.cli.main import command_line

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
#: Fragments show values that nothing reads.
FRAGMENT = """\
# netdsl: allow unused-value, unused-allow
network Fragment {{
    input image: float32[N, 3, 32, 32]

{}
    output result = image
}}
"""
FENCE = re.compile(r"^(?P<indent> *)```(?P<info>[^\n`]*)\n(?P<body>.*?)^ *```$", re.DOTALL | re.MULTILINE)
_FRACTION = re.compile(r"(\d+\.\d+(?:e[-+]?\d+)?)")
#: What differs from run to run, by the text that follows it.
_VOLATILE = re.compile(
    r"(?:best, )?[\d.,]+(?= s$| s \|$| s left$| items/s)|(?<=best in epoch )\d+|(?<=  )[\d,]+(?= bytes$)"
    r"|(?<=at most )[\d.e-]+, [\d.e-]+(?= of its)",
    re.MULTILINE,
)
#: Commands of the README that take minutes, and what makes them short.
_SHORTENED = {"netdsl train": "--epochs 1", "python examples/gallery.py": "lenet5"}
_SET_UP = ("python3", ".", "pip", "apt-get", "tests/run", "pre-commit", "mkdocs")


@dataclass(frozen=True)
class Block:
    """A fenced block: the words of its first line, its text and where this lies in the page's."""

    page: Path
    line: int
    words: tuple[str, ...]
    body: str
    start: int
    end: int

    @property
    def language(self) -> str:
        return self.words[0] if self.words else ""

    def value(self, name: str) -> str | None:
        return next((word.removeprefix(f"{name}=") for word in self.words if word.startswith(f"{name}=")), None)

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> Iterator[Block]:
    text = page.read_text(encoding="utf-8")
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        words = tuple(match["info"].split())
        body = re.sub(f"^{match['indent']}", "", match["body"], flags=re.MULTILINE)
        yield Block(page, line, words, body, match.start("body"), match.end("body"))


def every(language: str) -> list[Block]:
    return [block for page in PAGES for block in blocks(page) if block.language == language]


def prose(page: Path) -> str:
    """A page's text with blank lines in place of its blocks, so that lines keep their numbers."""
    text = page.read_text(encoding="utf-8")
    return FENCE.sub(lambda match: "\n" * match.group().count("\n"), text)


# --- running a page --------------------------------------------------------------------------------------------------


@dataclass
class Reader:
    """Somebody who does what a page says, block by block, in a folder of their own."""

    folder: Path
    names: dict[str, object] = field(default_factory=dict)
    printed: str = ""

    def follow(self, page: Path) -> Iterator[tuple[Block, str]]:
        """Each block that shows output, with what it ought to show."""
        if "examples/" in page.read_text(encoding="utf-8"):
            shutil.copytree(ROOT / "examples", self.folder / "examples", ignore=shutil.ignore_patterns("*.onnx*"))
        if "cat.jpg" in page.read_text(encoding="utf-8"):
            Image.new("RGB", (320, 240), "orange").save(self.folder / "cat.jpg")
        for block in blocks(page):
            with contextlib.chdir(self.folder):
                if name := block.value("file"):
                    Path(name).write_text(block.body, encoding="utf-8")
                elif block.language == "console":
                    yield block, self.commands(block)
                elif block.language == "python":
                    self.printed = self.program(block)
                elif block.words[:2] == ("text", "output"):
                    yield block, self.printed
                elif block.language == "sh" and page.name == "README.md":
                    self.shell(block)

    def commands(self, block: Block) -> str:
        """The block again, with what its commands print."""
        commands = re.findall(r"^\$ (.*)$", block.body, flags=re.MULTILINE)
        return "\n".join(f"$ {command}\n{self.command(command)[1]}".rstrip("\n") for command in commands)

    def command(self, line: str) -> tuple[int, str]:
        """A command's exit status and all that it prints. Patterns of names are those of the shell."""
        words = [name for word in shlex.split(line, comments=True) for name in _expanded(word)]
        program, *arguments = words
        if program == "netdsl":
            result = CliRunner().invoke(command_line, arguments, catch_exceptions=False)
            return result.exit_code, result.output
        assert program == "python", f"no test knows how to run {program}"
        done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    def program(self, block: Block) -> str:
        out = io.StringIO()
        code = compile("\n" * block.line + block.body, str(block.page), "exec")
        with contextlib.redirect_stdout(out):
            exec(code, self.names)
        return out.getvalue()

    def shell(self, block: Block) -> None:
        """Commands that must succeed, without those that set up; long ones are shortened."""
        for line in block.body.splitlines():
            for command in line.split("&&"):
                if not command.strip() or command.split()[0] in _SET_UP:
                    continue
                command = command.partition("#")[0].strip()
                more = next((more for start, more in _SHORTENED.items() if command.startswith(start)), "")
                status, out = self.command(f"{command} {more}")
                assert status == 0, f"{block}: {command}\n{out}"


def _expanded(word: str) -> list[str]:
    found = sorted(map(str, Path().glob(word))) if "*" in word else []
    return found or [word]


# --- shown and printed -----------------------------------------------------------------------------------------------

Agree = Callable[[str, str], bool]


def agrees(block: Block, printed: str) -> bool:
    """Whether a block shows what was printed."""
    same = _about_same if "approximate" in block.words else _same
    return aligned(_lines(block.body), _lines(printed), same) is not None


def _lines(text: str) -> list[str]:
    return [line.rstrip() for line in text.strip("\n").split("\n")]


def aligned(shown: Sequence[str], out: Sequence[str], same: Agree) -> list[str] | None:
    """The printed line for each shown one, None where they disagree; `…` alone stands for any number of lines."""
    if "…" not in shown:
        fits = len(shown) == len(out) and all(map(same, shown, out))
        return list(out) if fits else None
    first = shown.index("…")
    head, rest = aligned(shown[:first], out[:first], same), shown[first + 1 :]
    if head is None or not rest:
        return None if head is None else [*head, "…"]
    tails = (aligned(rest, out[at:], same) for at in range(first, len(out)))
    tail = next((tail for tail in tails if tail is not None), None)
    return None if tail is None else [*head, "…", *tail]


def _same(shown: str, out: str) -> bool:
    return re.fullmatch(_pattern(shown), out) is not None


def _about_same(shown: str, out: str) -> bool:
    """Every second part of `shown` is a fraction that may differ."""
    parts = _FRACTION.split(shown)
    match = re.fullmatch(r"(\d+(?:\.\d+)?(?:e[-+]?\d+)?)".join(map(_pattern, parts[::2])), out)
    return match is not None and all(map(_close, parts[1::2], match.groups()))


def _close(shown: str, out: str) -> bool:
    a, b = float(shown), float(out)
    return abs(a - b) <= max(0.1, abs(a) / 4)


def _alike(shown: str, out: str) -> bool:
    """Whether a line is what a shown one has become: the same but for numbers and widths, or begun by the same word."""
    pattern = r"[-\d.,×/\s─e]*".join(map(_pattern, re.split(r"[-\d.,×/\s─]+", shown)))
    return re.fullmatch(pattern, out) is not None or shown.split()[:1] == out.split()[:1]


def _pattern(shown: str) -> str:
    return re.escape(shown).replace("…", ".*")


# --- the command -----------------------------------------------------------------------------------------------------


def main() -> None:
    """Rewrites the output that the given pages show, or that all do, where it is not what is printed."""
    for page in [Path(name).resolve() for name in sys.argv[1:]] or PAGES:
        rewrite(page)


def rewrite(page: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        wrong = [(block, out) for block, out in Reader(Path(folder)).follow(page) if not agrees(block, out)]
    text = page.read_text(encoding="utf-8")
    for block, out in reversed(wrong):
        print(f"{block}: rewritten")
        text = text[: block.start] + rewritten(block, out) + text[block.end :]
    page.write_text(text, encoding="utf-8")


def rewritten(block: Block, printed: str) -> str:
    """What a block ought to show: it leaves out what it left out, where that can still be seen."""
    out = _lines(_VOLATILE.sub("…", printed))
    lines = aligned(_lines(block.body), out, _alike) if "…" in block.body else None
    return "\n".join(out if lines is None else lines) + "\n"


if __name__ == "__main__":
    main()
