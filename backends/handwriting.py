"""scikit-learn's bundled handwritten digits, as pictures. For training and tests: the server does not need it."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

#: Share of the pictures that training never sees.
UNSEEN: Final = 0.25
_SIDE: Final = 96
_MARGIN: Final = 24

Pixels = NDArray[Any]


def split() -> tuple[Pixels, Pixels, Pixels, Pixels]:
    """Pictures (8 by 8, 0 to 16) and digits for training, then those that stay unseen; always the same."""
    data = load_digits()
    seen, unseen, seen_digits, unseen_digits = train_test_split(
        data.images, data.target, test_size=UNSEEN, random_state=0, stratify=data.target
    )
    return seen, seen_digits, unseen, unseen_digits


def picture(image: Pixels) -> Image.Image:
    """A digit as a person would send it: black on white, larger, with a margin."""
    small = Image.fromarray((255 - image * (255 / 16)).astype(np.uint8))
    page = Image.new("L", (_SIDE + 2 * _MARGIN,) * 2, 255)
    page.paste(small.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC), (_MARGIN, _MARGIN))
    return page


def varied(image: Pixels, random: np.random.Generator) -> Image.Image:
    """The same digit turned by up to 12 degrees, slanted and stretched, from a thin or thick, crisp or soft pen."""
    page = picture(image)
    level, hardness = random.uniform(90, 190), random.choice([1, 4, 12])
    if hardness > 1:
        page = page.point([min(255, max(0, round((value - level) * hardness + 128))) for value in range(256)])
    page = page.rotate(random.uniform(-12, 12), Image.Resampling.BILINEAR, fillcolor=255)
    slant, stretch = random.uniform(-0.2, 0.2), random.uniform(0.85, 1.2)
    middle = page.width / 2
    shift = middle - stretch * middle - slant * middle
    return page.transform(
        page.size, Image.Transform.AFFINE, (stretch, slant, shift, 0, 1, 0), Image.Resampling.BILINEAR, fillcolor=255
    )
