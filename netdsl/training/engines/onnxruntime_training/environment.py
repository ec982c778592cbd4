"""The engine's own environment: made once in the user's cache, with pinned packages, found again by every training.

It needs one of its own because onnxruntime-training overwrites the package onnxruntime. An environment is made beside
its place and moved there when it is complete and has answered, so what stands in its place always was whole once.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from netdsl.runtime.session import EnvironmentLack
from netdsl.training.engines.onnxruntime_training.interpreters import Version, find_interpreter
from netdsl.training.engines.onnxruntime_training.process import EngineProcess

NAME = "onnxruntime-training"
VERSION = "1.19.2"
INSTALL = f"netdsl engine install {NAME}"
Variant = Literal["cpu", "cuda"]
VARIANTS: tuple[Variant, ...] = ("cpu", "cuda")

#: the wheel, by what it computes on; the one for CUDA is of CUDA 11.8 and cuDNN 8
WHEELS: Mapping[Variant, str] = {"cpu": "onnxruntime-training-cpu", "cuda": "onnxruntime-training"}
#: versions of Python that have the wheel and run netdsl, the preferred one first
PYTHONS: Mapping[Variant, tuple[Version, ...]] = {"cpu": ((3, 11), (3, 12)), "cuda": ((3, 11),)}
#: what the engine needs besides, and no more: its other dependencies are never imported
PINNED = (
    "onnx==1.17.0",
    "numpy==1.26.4",
    "protobuf==5.29.5",
    "flatbuffers==25.2.10",
    "packaging==24.2",
    "ml-dtypes==0.5.1",
)
_STAMP = "netdsl-engine.json"
Say = Callable[[str], None]


@dataclass(frozen=True)
class Environment:
    """The place of one environment, whether or not it is there."""

    variant: Variant
    folder: Path

    @property
    def python(self) -> Path:
        return self.folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")

    @property
    def state(self) -> Literal["installed", "broken", "absent"]:
        """ "broken": something is there that is not a whole environment."""
        if not self.folder.exists():
            return "absent"
        try:
            stamp = json.loads((self.folder / _STAMP).read_text("utf-8"))
        except (OSError, ValueError):
            return "broken"
        fits = isinstance(stamp, dict) and stamp.get("packages") == _packages(self.variant)
        return "installed" if fits and self.python.exists() else "broken"


def cache_folder() -> Path:
    """Where environments are kept: NETDSL_CACHE, or the user's cache folder."""
    own = os.environ.get("NETDSL_CACHE")
    if own:
        return Path(own)
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "netdsl"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "netdsl"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "netdsl"


def environment(variant: Variant) -> Environment:
    return Environment(variant, cache_folder() / "engines" / f"{NAME}-{VERSION}-{variant}")


def environments() -> Iterator[Environment]:
    yield from (environment(v) for v in VARIANTS)


def here(variant: Variant) -> bool:
    """Whether the environment that netdsl itself runs in holds the engine."""
    try:
        return metadata.version(WHEELS[variant]) == VERSION
    except metadata.PackageNotFoundError:
        return False


def find_python(device: str) -> Path:
    """The Python to run the engine with, for "cpu", "cuda" or "auto". Raises EnvironmentLack where there is none."""
    wanted: tuple[Variant, ...] = {"cpu": ("cpu", "cuda"), "cuda": ("cuda",)}.get(device, ("cuda", "cpu"))  # type: ignore[assignment]  # variants
    for variant in wanted:
        if here(variant):
            return Path(sys.executable)
        found = environment(variant)
        if found.state == "installed":
            return found.python
    more = " --device cuda" if device == "cuda" else ""
    broken = [e.folder for e in map(environment, wanted) if e.state == "broken"]
    if broken:
        raise EnvironmentLack(f"the engine's environment in {broken[0]} is incomplete: {INSTALL}{more} makes it anew")
    raise EnvironmentLack(f"the engine {NAME} is not installed: {INSTALL}{more}")


def install(variant: Variant, say: Say = lambda line: None) -> Path:
    """Makes the environment, or makes it anew where it is broken, and returns its Python. Raises EnvironmentLack."""
    if here(variant):
        say(f"the environment that netdsl runs in holds {NAME} {VERSION} already")
        return Path(sys.executable)
    place = environment(variant)
    if place.state == "installed" and _answers(place.python):
        say(f"{NAME} {VERSION} is installed in {place.folder}")
        return place.python
    versions = PYTHONS[variant]
    interpreter = find_interpreter(versions)
    if interpreter is None:
        names = " or ".join(f"Python {a}.{b}" for a, b in versions)
        raise EnvironmentLack(f"{NAME} {VERSION} has wheels for {names} alone ({variant}), and none was found here")
    if place.state != "absent":
        say(f"the environment in {place.folder} is broken: making it anew")
        remove(variant)
    say(f"making an environment with {interpreter}")
    _make(place, interpreter, say)
    say(f"{NAME} {VERSION} is installed in {place.folder}")
    return place.python


def _make(place: Environment, interpreter: Path, say: Say) -> None:
    try:
        place.folder.parent.mkdir(parents=True, exist_ok=True)
        new = Environment(place.variant, Path(tempfile.mkdtemp(prefix=".making-", dir=place.folder.parent)))
    except OSError as reason:
        raise EnvironmentLack(f"{place.folder.parent} cannot be written: {reason.strerror}") from None
    try:
        _run([str(interpreter), "-m", "venv", str(new.folder)], "an environment could not be made")
        packages = _packages(place.variant)
        say(f"installing {', '.join(packages)}")
        pip = [str(new.python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        _run([*pip, "--only-binary", ":all:", *packages], "its packages could not be installed")
        EngineProcess(new.python, "this is what was just installed").close()
        (new.folder / _STAMP).write_text(json.dumps({"packages": packages}), "utf-8")
        try:
            new.folder.rename(place.folder)
        except OSError:
            if place.state != "installed":  # else another installation was faster
                raise
    except OSError as reason:
        raise EnvironmentLack(f"{new.folder} could not be made: {reason.strerror or reason}") from None
    finally:
        shutil.rmtree(new.folder, ignore_errors=True)


def _packages(variant: Variant) -> list[str]:
    return [f"{WHEELS[variant]}=={VERSION}", *PINNED]


def _run(command: list[str], what: str) -> None:
    """Raises EnvironmentLack with the last line that the command wrote."""
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(command, capture_output=True, text=True, env=own, stdin=subprocess.DEVNULL, check=False)
    if done.returncode:
        lines = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or [f"status {done.returncode}"]
        raise EnvironmentLack(f"{NAME} cannot be installed: {what}: {errors[-1].removeprefix('ERROR: ').strip()}")


def _answers(python: Path) -> bool:
    try:
        EngineProcess(python, "").close()
    except EnvironmentLack:
        return False
    return True


def remove(variant: Variant) -> bool:
    """Deletes an environment; whether there was one. Raises OSError."""
    place = environment(variant)
    if not place.folder.exists():
        return False
    doomed = Path(tempfile.mkdtemp(prefix=".removing-", dir=place.folder.parent))
    place.folder.rename(doomed / "environment")
    shutil.rmtree(doomed)
    return True
