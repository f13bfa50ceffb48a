"""Which credential a request carries: ``Authorization: Bearer KEY`` (RFC 6750, section 2.1) or ``x-api-key: KEY``.

Envoy joins repeated headers with a comma, which no credential of ours contains: two credentials are recognised either
way, and refused, because a model server behind us might have picked the other one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

Presentation = Literal["absent", "ambiguous", "malformed", "secret"]


@dataclass(frozen=True, slots=True)
class Credential:
    """What was presented. `secret` is set for that presentation only; ``repr`` does not show it."""

    presentation: Presentation
    secret: str = field(default="", repr=False)


ABSENT: Final = Credential("absent")
AMBIGUOUS: Final = Credential("ambiguous")
MALFORMED: Final = Credential("malformed")


def read_credential(authorization: Sequence[str], api_key: Sequence[str]) -> Credential:
    """Read the values of the two headers; an empty value counts as none.

    The same secret in both headers is one credential. A scheme other than Bearer is malformed.
    """
    bearer = authorization[0] if authorization else ""
    plain = api_key[0] if api_key else ""
    if len(authorization) > 1 or len(api_key) > 1 or "," in bearer or "," in plain:
        return AMBIGUOUS
    if not bearer:
        return Credential("secret", plain) if plain else ABSENT
    scheme, _, secret = bearer.partition(" ")
    secret = secret.strip(" ")
    if scheme.lower() != "bearer" or not secret:
        return MALFORMED
    if plain and plain != secret:
        return AMBIGUOUS
    return Credential("secret", secret)
