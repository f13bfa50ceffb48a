"""Writes this folder's data files: the labels of the language model, and two digits that training never saw.

python examples/quickstart/write_files.py
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from backends.handwriting import picture, split
from backends.served_model import load

HERE = Path(__file__).parent


def main() -> None:
    """Write ``languages.txt``, ``three.png`` and ``seven.jpg``."""
    (HERE / "languages.txt").write_text("".join(f"{label}\n" for label in load("language").labels))
    _, _, images, digits = split()
    for digit, name in ((3, "three.png"), (7, "seven.jpg")):
        first = next(image for image, shown in zip(images, digits, strict=True) if shown == digit)
        page: Image.Image = picture(first)
        page.save(HERE / name, optimize=True)


if __name__ == "__main__":
    main()
