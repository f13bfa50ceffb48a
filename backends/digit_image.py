"""A picture of one handwritten digit in the style of scikit-learn's digits: 8 by 8, ink bright on dark.

The dataset's pictures are scans whose digit fills the frame, averaged down to 8 by 8 (UCI "Optical Recognition of
Handwritten Digits"). The same is done here: find the ink, crop, centre in a square, average down.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from backends.served_model import InputError

SIDE: Final = 8
MAX_PIXELS: Final = 40_000_000
_DATA_URI: Final = "data:image/"
#: Ink is what is brighter than this share of the brightest.
_INK: Final = 0.25
#: Pictures with less contrast than this (of 255) show nothing.
_LEAST_CONTRAST: Final = 16
#: Longest side that ink is looked for in: more pixels cost time and tell nothing.
_WORKING_SIDE: Final = 256

Pixels = NDArray[np.float32]


def decode(text: str) -> Image.Image:
    """The picture of a base64 text (or data URI) holding a PNG or JPEG.

    Raises:
        InputError: it is neither, damaged, or has more than :data:`MAX_PIXELS`.
    """
    if text.startswith(_DATA_URI):
        text = text.partition(",")[2]
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError("the image is not base64") from error
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as image:
            if image.width * image.height > MAX_PIXELS:
                raise InputError(f"the image has more than {MAX_PIXELS} pixels")
            # JPEG decodes to a fraction of its size at once, PNG ignores this
            image.draft(None, (_WORKING_SIDE, _WORKING_SIDE))
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError("the image is not a readable PNG or JPEG") from error


def to_pixels(image: Image.Image) -> Pixels:
    """The digit as 64 values from 0 to 1, row by row.

    Raises:
        InputError: there is nothing to see.
    """
    ink = _ink(_gray(image))
    rows, columns = np.flatnonzero(ink.max(axis=1) > _INK), np.flatnonzero(ink.max(axis=0) > _INK)
    digit = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(digit.shape)
    square = np.zeros((side, side), dtype=np.float32)
    top, left = (side - digit.shape[0]) // 2, (side - digit.shape[1]) // 2
    square[top : top + digit.shape[0], left : left + digit.shape[1]] = digit
    small = Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small, dtype=np.float32).ravel()
    scaled: Pixels = pixels / max(pixels.max(), np.float32(1e-6))
    return scaled


def _gray(image: Image.Image) -> Pixels:
    """Brightness 0 to 255 on a white ground."""
    image.thumbnail((_WORKING_SIDE, _WORKING_SIDE), Image.Resampling.BOX)
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    elif image.mode.startswith("I"):
        # 16-bit pictures: Pillow clips instead of scaling
        return np.asarray(image, dtype=np.float32) / np.float32(257)
    return np.asarray(image.convert("L"), dtype=np.float32)


def _ink(gray: Pixels) -> Pixels:
    """Ink from 0 to 1: the border tells the ground, and the far end of the scale is ink."""
    border = np.concatenate([gray[0], gray[-1], gray[:, 0], gray[:, -1]])
    ground = float(np.median(border))
    darkest, brightest = float(gray.min()), float(gray.max())
    if brightest - darkest < _LEAST_CONTRAST:
        raise InputError("the image shows no digit: it has one colour only")
    ink = ground - gray if ground - darkest >= brightest - ground else gray - ground
    clipped: Pixels = np.clip(ink / ink.max(), 0, 1)
    return clipped
