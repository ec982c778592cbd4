"""Speed and memory of the main job, as ratios against peers of the same run.

    python benchmarks/compile.py [--runs 3] [--torch PYTHON]

`--torch` names a Python that has torch and onnxscript (default: this one, if it has them).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from measure import best

HERE = Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
NETDSL = [str(Path(sys.executable).parent / "netdsl")]
WEIGHTS = {"resnet50": 25_557_032 + 53_120, "vgg16": 138_357_544}


def has_torch(python: str) -> bool:
    return subprocess.run([python, "-c", "import torch, onnxscript"], capture_output=True, check=False).returncode == 0


def row(what: str, measured: str, peer: str, ratio: float | str, goal: str) -> None:
    shown = ratio if isinstance(ratio, str) else f"{ratio:.2f}"
    print(f"| {what} | {measured} | {peer} | {shown} | {goal} |", flush=True)


def start_up(runs: int) -> None:
    for what, arguments, goal in (
        ("netdsl --help", ["--help"], 0.15),
        ("netdsl check resnet50.net", ["check", str(EXAMPLES / "resnet50.net")], 0.6),
    ):
        seconds = best([*NETDSL, *arguments], runs + 4).seconds
        python = best([sys.executable, "-c", "pass"], runs + 4).seconds
        row(what, f"{seconds:.3f} s", f"bare Python {python:.3f} s", seconds / python, f"≤ {goal} s")


def compile_resnet(runs: int, torch: str, folder: Path) -> None:
    out = str(folder / "out.onnx")
    ours = best([*NETDSL, "compile", str(EXAMPLES / "resnet50.net"), "-o", out], runs).seconds
    floor = best([sys.executable, str(HERE / "floor.py"), str(WEIGHTS["resnet50"]), out], runs).seconds
    row("compile resnet50.net", f"{ours:.2f} s", f"floor {floor:.2f} s", ours / floor, "≤ 2.5")
    if has_torch(torch):
        peer = best([torch, str(HERE / "torch_resnet50.py"), out], 1).seconds
        row("compile resnet50.net", f"{ours:.2f} s", f"torch.onnx.export {peer:.2f} s", f"1/{peer / ours:.1f}", "≤ 1/8")


def memory(folder: Path) -> None:
    for name, weights in WEIGHTS.items():
        peak = best([*NETDSL, "compile", str(EXAMPLES / f"{name}.net"), "-o", str(folder / "out.onnx")], 1).peak_bytes
        limit = 2.5 * 4 * weights + 200e6
        shown = f"{peak / 1e6:.0f} MB"
        row(
            f"peak memory, compile {name}.net",
            shown,
            f"weights {4 * weights / 1e6:.0f} MB",
            peak / (4 * weights),
            f"≤ {limit / 1e6:.0f} MB",
        )


def chain(length: int, folder: Path, unrolled: bool) -> Path:
    """A chain of convolutions, as one long chain of text or as a loop."""
    body = (
        "x = x -> " + "\n -> ".join(["conv(4, 3, padding=1)"] * length)
        if unrolled
        else f"repeat {length} {{ x = x -> conv(4, 3, padding=1) }}"
    )
    path = folder / f"chain_{length}_{'text' if unrolled else 'loop'}.net"
    path.write_text(f"network Chain {{\n input x: float32[N, 4, 16, 16]\n {body}\n output y = x\n}}\n")
    return path


def scaling(runs: int, folder: Path) -> None:
    out = ["-o", str(folder / "out.onnx")]
    for command, extra in (("check", []), ("compile", out)):
        for unrolled in (True, False):
            half, full = (
                best([*NETDSL, command, str(chain(n, folder, unrolled)), *extra], runs).seconds for n in (5000, 10000)
            )
            form = "written out" if unrolled else "repeat"
            row(f"{command} 10,000 convolutions, {form}", f"{full:.2f} s", f"5,000: {half:.2f} s", full / half, "≤ 2.3")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--torch", default=sys.executable)
    options = parser.parse_args()
    print("| what | netdsl | against | ratio | goal |\n| --- | --- | --- | --- | --- |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start_up(options.runs)
        compile_resnet(options.runs, options.torch, folder)
        memory(folder)
        scaling(options.runs, folder)


if __name__ == "__main__":
    main()
