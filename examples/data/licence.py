"""Writes a text for character models: `python examples/data/licence.py FOLDER`.

`licence.txt` is NumPy's licence as it is installed here, some 47,000 characters of legal English.
"""

import sys
from importlib.metadata import files
from pathlib import Path


def main(folder: Path) -> None:
    found = [Path(str(file.locate())) for file in files("numpy") or [] if file.name.startswith("LICENSE")]
    if not found:
        sys.exit("this installation of NumPy holds no licence file; any other text will do")
    largest = max(found, key=lambda path: path.stat().st_size)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "licence.txt").write_text(largest.read_text("utf-8"), "utf-8")


main(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
