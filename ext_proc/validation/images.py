"""Is a string really the image that it claims to be: base64, format, size and every pixel.

The type is told by content, never by name. Width and height are read and judged before a pixel is decoded; what can
still cost much per byte is bounded too: compressed text and profile chunks (by Pillow) and the scans of a JPEG (here:
each scan is a pass over the whole picture for a few bytes of input).
"""

from __future__ import annotations

import base64
import binascii
import io
import re
import struct
import zlib
from typing import Final

from PIL import ImageFile, JpegImagePlugin, PngImagePlugin

from ext_proc.refusal import Refused, unprocessable
from gateway.policy import ImageFormat, ImageRule

_DATA_URI = re.compile(r"data:([a-z0-9.+-]+/[a-z0-9.+-]+)(?:;[a-z0-9-]+=[^;,]*)*;base64,", re.IGNORECASE)
_LONGEST_DATA_URI: Final = 128
_MEDIA_TYPES: Final[dict[str, ImageFormat]] = {"image/png": "png", "image/jpeg": "jpeg", "image/jpg": "jpeg"}
_PNG_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"
_PNG_END: Final = b"IEND\xaeB`\x82"
_JPEG_SIGNATURE: Final = b"\xff\xd8\xff"
_JPEG_SCAN: Final = b"\xff\xda"
#: Encoders write at most about a dozen.
_MAX_JPEG_SCANS: Final = 100

#: What Pillow's plugins raise on malformed files (`PIL.Image.open` catches the same).
_UNREADABLE: Final = (
    OSError,
    EOFError,
    SyntaxError,
    ValueError,
    IndexError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
)


def strip_data_uri(text: str) -> tuple[str | None, str]:
    """The media type (None without a data URI) and the base64 text behind it.

    >>> strip_data_uri("data:image/png;base64,AAAA")
    ('image/png', 'AAAA')
    """
    found = _DATA_URI.match(text, 0, _LONGEST_DATA_URI)
    return (None, text) if found is None else (found[1].lower(), text[found.end() :])


def check_image(value: object, rule: ImageRule) -> str:
    """Check the value at the rule's place by decoding it completely.

    Returns:
        The base64 text alone, without a data URI's prefix.

    Raises:
        Refused: 422 with the rule's pointer.
    """
    if not isinstance(value, str):
        raise _refused(rule, "invalid_image", "an image must be a string of base64")
    claimed, text = strip_data_uri(value)
    data = _decode_base64(text, rule)
    found = _format(data)
    if found is None or found not in rule.formats:
        raise _refused(rule, "unsupported_image", f"an image must be {' or '.join(rule.formats)}, told by its content")
    if claimed is not None and _MEDIA_TYPES.get(claimed) != found:
        raise _refused(rule, "mislabelled_image", f"the image is {found}, not what its data URI says")
    if found == "jpeg" and data.count(_JPEG_SCAN) > _MAX_JPEG_SCANS:
        raise _refused(rule, "invalid_image", f"the image has more than {_MAX_JPEG_SCANS} scans")
    if found == "png" and _PNG_END not in data:
        raise _truncated(rule)
    _decode_pixels(data, found, rule)
    return text


def _decode_base64(text: str, rule: ImageRule) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _refused(rule, "invalid_base64", "the image is not base64 (RFC 4648, section 4, with padding)") from None
    # Python ignores bits that are set behind the last byte: two texts would name one image.
    if base64.b64encode(data[len(data) - len(data) % 3 :]) != (text[-4:].encode() if len(data) % 3 else b""):
        raise _refused(rule, "invalid_base64", "the image's base64 has bits behind its last byte")
    return data


def _format(data: bytes) -> ImageFormat | None:
    if data.startswith(_PNG_SIGNATURE):
        return "png"
    return "jpeg" if data.startswith(_JPEG_SIGNATURE) else None


def _decode_pixels(data: bytes, found: ImageFormat, rule: ImageRule) -> None:
    # The plugins are called directly: `Image.open` would consult the process-wide MAX_IMAGE_PIXELS, the limit here is
    # this model's.
    try:
        with _open(data, found) as image:
            width, height = image.size
            if width * height > rule.max_pixels:
                raise _refused(
                    rule, "image_too_large", f"the image has {width} x {height} pixels, the limit is {rule.max_pixels}"
                )
            image.load()
    except _UNREADABLE as error:
        raise _truncated(rule) if "truncated" in str(error) else _unreadable(rule) from None


def _open(data: bytes, found: ImageFormat) -> ImageFile.ImageFile:
    file = io.BytesIO(data)
    if found == "png":
        return PngImagePlugin.PngImageFile(file)
    return JpegImagePlugin.JpegImageFile(file)


def _refused(rule: ImageRule, code: str, message: str) -> Refused:
    return unprocessable(code, message, rule.source)


def _truncated(rule: ImageRule) -> Refused:
    return _refused(rule, "truncated_image", "the image ends before its last pixel")


def _unreadable(rule: ImageRule) -> Refused:
    return _refused(rule, "invalid_image", "the image cannot be decoded")
