"""Files and their imports: each file is read and parsed once; what it defines, by name."""

from __future__ import annotations

import re
from bisect import bisect_left
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from netdsl.diagnostics import Diagnostic, DiagnosticError, Note, error, nearest
from netdsl.elaborate.library import LIBRARY_PREFIX, elsewhere, library_file, library_name, no_library_file_help
from netdsl.elaborate.suggest import did_you_mean, suggest
from netdsl.elaborate.values import POISON, ModuleValue
from netdsl.source import SourceFile, Span
from netdsl.syntax import tree
from netdsl.syntax.parse import parse
from netdsl.syntax.read import read_source

_WORD = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True, eq=False)
class Imported:
    """A name taken from another file."""

    module: Module
    name: str


@dataclass(slots=True, eq=False)
class Module:
    """A file. `entries` holds what each name stands for: a definition, an imported name or file, or POISON where its
    definition is broken; `values` what was evaluated so far."""

    file: tree.File
    library: bool
    entries: dict[str, Any] = field(default_factory=dict)
    spans: dict[str, Span] = field(default_factory=dict)
    values: dict[str, Any] = field(default_factory=dict)
    lost: set[str] = field(default_factory=set)  # words of definitions that the parser gave up
    faulty: set[int] = field(default_factory=set)  # ids of definitions with a syntax error inside

    @property
    def networks(self) -> list[tree.Network]:
        return [d for d in self.file.definitions if isinstance(d, tree.Network)]

    @property
    def recipes(self) -> list[tree.Train]:
        return [d for d in self.file.definitions if isinstance(d, tree.Train)]

    def names(self) -> list[str]:
        return list(self.entries)


class Loader:
    """Reads a file and all that it imports. `diagnostics` says what is wrong with them."""

    def __init__(self) -> None:
        self.diagnostics: list[Diagnostic] = []
        self.modules: list[Module] = []
        self._loaded: dict[Path, Module | None] = {}
        self._stack: list[tuple[Path | None, str]] = []

    def load(self, source: SourceFile) -> Module:
        """The module of a file that was read, with its imports."""
        path = Path(source.path)
        return self._load(source, path.resolve() if path.is_file() else None, path.parent, library=False)

    def _load(self, source: SourceFile, path: Path | None, folder: Path, library: bool) -> Module:
        file, problems = parse(source)
        self.diagnostics += problems
        module = Module(file, library)
        if problems:
            _mark_faults(module, problems)
        self.modules.append(module)
        self._stack.append((path, source.path))
        for definition in file.definitions:
            self._define(module, definition, folder)
        self._stack.pop()
        if path:
            self._loaded[path] = module
        return module

    def _define(self, module: Module, definition: tree.Definition, folder: Path) -> None:
        if isinstance(definition, tree.Import):
            imported = self._import(definition, module, folder)
            value = ModuleValue(definition.alias.id, imported) if imported else POISON
            self._bind(module, definition.alias, value)
        elif isinstance(definition, tree.FromImport):
            imported = self._import(definition, module, folder)
            for item in definition.names:
                self._bind(module, item.alias or item.name, self._imported(imported, item, definition.path))
        elif isinstance(definition, tree.Constant | tree.Block | tree.Network):
            self._bind(module, definition.name, POISON if id(definition) in module.faulty else definition)

    def _bind(self, module: Module, name: tree.Identifier, value: Any) -> None:
        if name.id in module.entries:
            note = Note(f"'{name.id}' is defined here already", module.spans[name.id])
            message = f"'{name.id}' is defined twice in this file"
            self.diagnostics.append(error("duplicate", message, name.span, notes=[note], help="rename one of them"))
            return
        module.entries[name.id] = value
        module.spans[name.id] = name.span

    def _imported(self, module: Module | None, item: tree.ImportedName, path: str) -> Any:
        if module is None or item.name.id in module.lost:
            return POISON
        if item.name.id in module.entries:
            return Imported(module, item.name.id)
        help = unknown_member_help(module, item.name.id)
        self.diagnostics.append(
            error("unknown-name", f"\"{path}\" defines no '{item.name.id}'", item.name.span, help=help)
        )
        return POISON

    # --- finding files ----------------------------------------------------------------------------------------------

    def _import(self, definition: tree.Import | tree.FromImport, module: Module, folder: Path) -> Module | None:
        try:
            path, shown, library = self._locate(definition, module, folder)
        except DiagnosticError as fault:
            self.diagnostics += fault.diagnostics
            return None
        resolved = path.resolve()
        if resolved in self._loaded:
            return self._loaded[resolved]
        if any(resolved == p for p, _ in self._stack):
            self._report_cycle(definition, resolved, shown)
            return None
        try:
            source = read_source(path, shown)
        except DiagnosticError as fault:
            note = Note("imported here", definition.path_span)
            self.diagnostics += [d.with_trace([note]) for d in fault.diagnostics]
            self._loaded[resolved] = None
            return None
        return self._load(source, resolved, path.parent, library)

    def _locate(
        self, definition: tree.Import | tree.FromImport, module: Module, folder: Path
    ) -> tuple[Path, str, bool]:
        """The file of an import, its name in messages, and whether it is the library's."""
        text, span = definition.path, definition.path_span
        if text.startswith(LIBRARY_PREFIX):
            if found := library_file(text):
                return found, library_name(text), True
            help = no_library_file_help(text)
            raise DiagnosticError([error("import", f"the library has no '{text}'", span, help=help)])
        path = folder / text
        shown = str(path) if not module.library else text
        if not text.strip() or "\0" in text:
            raise DiagnosticError([error("import", "an import needs the path of a file", span)])
        try:
            if path.is_file():
                return path, shown, False
            reason = "there is no such file"
            if path.exists():
                reason = "it is a folder" if path.is_dir() else "it is no file"
        except OSError as fault:
            reason = fault.strerror or "it cannot be reached"
        raise DiagnosticError(
            [error("import", f"cannot import '{shown}': {reason}", span, help=_near_files(path, text))]
        )

    def _report_cycle(self, definition: tree.Import | tree.FromImport, resolved: Path, shown: str) -> None:
        start = next(i for i, (path, _) in enumerate(self._stack) if path == resolved)
        names = [name for _, name in self._stack[start:]]
        cycle = " imports ".join([*names, names[0]])
        self.diagnostics.append(
            error(
                "import-cycle",
                f"import cycle: {cycle}",
                definition.path_span,
                help="move what both need into a third file",
            )
        )


def unknown_member_help(module: Module, name: str) -> tuple[str, ...]:
    """The help for a name that a file does not define: the nearest one, or what there is. Of a library's file all names
    are listed, as nobody looks into it, and the library's file that has the name is stated."""
    if not module.library:
        names = [n for n, v in module.entries.items() if not isinstance(v, ModuleValue)]
        more = ", …" if len(names) > 12 else ""
        listed = f"it defines {', '.join(names[:12])}{more}" if names else "it defines nothing"
        return did_you_mean(name, names, listed)
    own = [n for n, v in module.entries.items() if not isinstance(v, ModuleValue | Imported)]
    near, home = suggest(name, own), elsewhere(name)
    found = [f"did you mean '{near}'?"] if near else [f"'{name}' is in \"{home}\""] if home else []
    return (*found, f'"{module.file.source.path}" defines {", ".join(own)}')


def _near_files(path: Path, text: str) -> str | tuple[str, ...]:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.suffix == ".net")
    except OSError:
        return "paths are relative to the importing file"
    near = nearest(path.name, names)
    if near:
        return f'did you mean "{text.removesuffix(path.name)}{near}"?'
    return "paths are relative to the importing file; the library's start with std:"


def _mark_faults(module: Module, problems: tuple[Diagnostic, ...]) -> None:
    """Finds the definitions that a syntax error touches: what they hold cannot be trusted, and says no more."""
    places = sorted(d.span.start for d in problems if d.span)
    end = 0
    text = module.file.source.text
    for definition in module.file.definitions:
        span = definition.span
        module.lost.update(_WORD.findall(text, end, span.start))
        end = span.end
        first = bisect_left(places, span.start)
        if first < len(places) and places[first] < span.end:
            module.faulty.add(id(definition))
    module.lost.update(_WORD.findall(text, end))
