"""Writes text with a trained character model: `python examples/generate.py MODEL.net CHECKPOINT [--start TEXT] …`.

The file's network `Generator` is compiled with the checkpoint's weights. It reads ids and a state, and makes logits
and `next_NAME` for each state `NAME`; so the text so far is read once, and each new character costs one step. The
characters are those of the text that was trained on, from `vocabulary.json` in the run's folder beside the checkpoint.
"""

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

import netdsl


def drawn(logits: np.ndarray, temperature: float, rng: np.random.Generator) -> int:
    """An id by the probabilities that the logits give; at temperature 0 the likeliest."""
    if not temperature:
        return int(logits.argmax())
    scaled = (logits - logits.max()) / temperature
    return int(rng.choice(len(scaled), p=np.exp(scaled) / np.exp(scaled).sum()))


def generate(model: netdsl.Model, vocabulary: list[str], start: str, length: int, temperature: float, seed: int) -> str:
    """`start` and `length` characters more. `model` is a `Generator` for one text at a time."""
    rng = np.random.default_rng(seed)
    states = {name: np.zeros(type.shape, np.float32) for name, type in model.inputs.items() if name != "ids"}
    ids, text = [vocabulary.index(c) for c in start], start
    for _ in range(length):
        made = model.run({"ids": np.asarray([ids], np.int64), **states})
        states = {name: made[f"next_{name}"] for name in states}
        # The network may know more ids than the text had characters.
        ids = [drawn(made["logits"][0, -1, : len(vocabulary)].astype(np.float64), temperature, rng)]
        text += vocabulary[ids[0]]
    return text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, help="the .net file")
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--start", default="The ", help="what the text begins with")
    parser.add_argument("--length", type=int, default=400, help="characters to write")
    parser.add_argument("--temperature", type=float, default=0.7, help="0: always the likeliest; 1: as learnt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=INTEGER", help="as in training")
    options = parser.parse_args()
    known = options.checkpoint.with_suffix(".run") / "vocabulary.json"
    if not known.is_file():
        sys.exit(f"{known} is missing: it lists the characters of the text that the checkpoint was trained on")
    vocabulary = json.loads(known.read_text("utf-8"))
    strange = sorted(set(options.start) - set(vocabulary))
    if strange:
        sys.exit(f"--start: the trained text has no {', '.join(map(repr, strange))}")
    if not options.start:
        sys.exit("--start is empty: the model goes on from one character at least")
    settings = {name: int(value) for name, _, value in (item.partition("=") for item in options.set)}
    try:
        model = netdsl.compile(
            options.network, network="Generator", weights=options.checkpoint, set={"N": 1, **settings}
        )
    except (netdsl.DiagnosticError, OSError) as reason:
        sys.exit(str(reason))
    text = generate(model, vocabulary, options.start, options.length, options.temperature, options.seed)
    try:
        print(text, flush=True)
    except BrokenPipeError:  # of a reader that wanted no more, such as head; Python itself flushes once more at its end
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


if __name__ == "__main__":
    main()
