"""What an API key looks like: ``isg_<env>_<30 base62>_<6 base62 checksum>``.

The checksum is the CRC-32 of everything before its underscore, in base62: secret scanners can tell a key from
noise without asking us, and a mistyped key is refused before any look-up. It protects nothing: the 30 characters do
(178 bits, of which the first 8 characters are the public prefix that the store is searched by).
"""

from __future__ import annotations

import re
import secrets
import string
import zlib
from dataclasses import dataclass, field
from typing import Final

ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
ENV_PATTERN: Final = "[a-z]{1,16}"
ENV: Final = re.compile(rf"{ENV_PATTERN}\Z")
PREFIX_LENGTH: Final = 8

_RANDOM_LENGTH: Final = 30
_CHECKSUM_LENGTH: Final = 6
_KEY: Final = re.compile(
    rf"(isg_{ENV_PATTERN}_([0-9A-Za-z]{{{PREFIX_LENGTH}}})[0-9A-Za-z]{{{_RANDOM_LENGTH - PREFIX_LENGTH}}})"
    rf"_([0-9A-Za-z]{{{_CHECKSUM_LENGTH}}})\Z"
)
#: No key is longer; what is longer need not be looked at.
MAX_LENGTH: Final = len("isg_") + 16 + 1 + _RANDOM_LENGTH + 1 + _CHECKSUM_LENGTH


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """A freshly drawn key. Its text is shown once; ``repr`` does not show it.

    Attributes:
        text: the whole key, as the client sends it.
        prefix: the public part that the store is searched by.
    """

    text: str = field(repr=False)
    prefix: str


def draw(env: str = "live") -> Secret:
    """A new random key.

    Raises:
        ValueError: `env` is not 1 to 16 lower-case letters.
    """
    if not ENV.match(env):
        raise ValueError("the environment of a key is 1 to 16 letters a-z")
    random = random_base62(_RANDOM_LENGTH)
    body = f"isg_{env}_{random}"
    return Secret(text=f"{body}_{checksum(body)}", prefix=random[:PREFIX_LENGTH])


def public_prefix(text: str) -> str | None:
    """The look-up prefix of a well-formed key whose checksum is right, else None."""
    if len(text) > MAX_LENGTH:
        return None
    match = _KEY.match(text)
    if match is None:
        return None
    body, prefix, found = match.groups()
    return prefix if checksum(body) == found else None


def checksum(body: str) -> str:
    """CRC-32 of an ASCII text as six base62 digits, most significant first.

    >>> checksum("")
    '000000'
    """
    rest, digits = zlib.crc32(body.encode("ascii")), []
    for _ in range(_CHECKSUM_LENGTH):
        rest, digit = divmod(rest, len(ALPHABET))
        digits.append(ALPHABET[digit])
    return "".join(reversed(digits))


def random_base62(length: int) -> str:
    """`length` characters from the operating system's randomness."""
    return "".join(secrets.choice(ALPHABET) for _ in range(length))
