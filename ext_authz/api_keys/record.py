"""A key as people manage it: who it belongs to, what it may use, until when. Never its secret."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

from ext_authz.api_keys.errors import InvalidKeyError
from gateway.names import ANY_MODEL, MODEL_NAME, models_header

DEFAULT_TIER: Final = "standard"
#: Identity travels in headers, where Envoy and its peers have limits.
MAX_MODELS_HEADER_BYTES: Final = 4096
MAX_NAME_LENGTH: Final = 128

_WORD: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}\Z")
_WORD_RULE: Final = "1 to 64 of a-z, 0-9, '.', '_', '-', the first a letter or a digit"

KeyStatus = Literal["active", "expired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRecord:
    """One key. All times are Unix seconds.

    Attributes:
        id: public name of the key (``key_...``); not derived from the secret.
        name: what the people who manage it call it.
        models: public model names, or ``("*",)``.
        expires_at: the first second in which the key is no longer valid; None means never.
        last_used_at: accurate to about a minute.
        created_by: who asked for it.
    """

    id: str
    tenant: str
    name: str
    models: tuple[str, ...]
    tier: str
    expires_at: int | None
    created_at: int
    created_by: str
    revoked_at: int | None = None
    last_used_at: int | None = None

    def status(self, now: float) -> KeyStatus:
        """Whether the key is good at a moment."""
        if self.revoked_at is not None:
            return "revoked"
        return "expired" if self.expires_at is not None and now >= self.expires_at else "active"


def check_word(field: str, value: str) -> str:
    """A tenant or tier name.

    Raises:
        InvalidKeyError: it is outside the grammar.
    """
    if not _WORD.match(value):
        raise InvalidKeyError(field, f"the {field} must be {_WORD_RULE}")
    return value


def check_name(value: str) -> str:
    """A key's display name: up to 128 printable characters.

    Raises:
        InvalidKeyError: it is longer, or has control characters.
    """
    if len(value) > MAX_NAME_LENGTH or not value.isprintable():
        raise InvalidKeyError("name", f"the name must be at most {MAX_NAME_LENGTH} printable characters")
    return value


def check_models(values: Iterable[str]) -> tuple[str, ...]:
    """The models of a key, without repetitions.

    Raises:
        InvalidKeyError: none, a name outside the grammar, names beside ``*``, or too many for a header.
    """
    models = tuple(dict.fromkeys(values))
    if not models:
        raise InvalidKeyError("models", "name at least one model, or * for all")
    if ANY_MODEL in models:
        if len(models) > 1:
            raise InvalidKeyError("models", "either * or a list of models, not both")
        return models
    for model in models:
        if not MODEL_NAME.match(model):
            raise InvalidKeyError("models", f"a model name must be {_WORD_RULE}")
    if len(models_header(models)) > MAX_MODELS_HEADER_BYTES:
        raise InvalidKeyError(
            "models", f"the names of the models take more than {MAX_MODELS_HEADER_BYTES} bytes together: use *"
        )
    return models
