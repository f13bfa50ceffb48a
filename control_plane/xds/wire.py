"""What both variants of the protocol share on the wire: bytes that were serialized once are only put together."""

from __future__ import annotations

from typing import Final

from control_plane.xds.snapshot import Resource

#: The tag of a length-delimited field 2: ``resources`` of both responses, ``Resource.resource``, ``Any.value``.
_FIELD_2: Final = b"\x12"
#: Longest text of a client that is kept, in characters.
MAX_TEXT: Final = 16 * 1024


class BadRequestError(ValueError):
    """Bytes that are no request."""


def field_2(value: bytes) -> bytes:
    """A message or bytes as field 2."""
    return _FIELD_2 + _length(value) + value


def string(number: int, text: str) -> bytes:
    """A string as a field below 16."""
    value = text.encode()
    return bytes([number << 3 | 2]) + _length(value) + value


def typed(resource: Resource) -> bytes:
    """A resource as ``google.protobuf.Any``."""
    return string(1, resource.type_url) + field_2(resource.body)


def _length(value: bytes) -> bytes:
    """Base-128 varint."""
    rest, result = len(value), bytearray()
    while rest > 0x7F:
        result.append(rest & 0x7F | 0x80)
        rest >>= 7
    result.append(rest)
    return bytes(result)
