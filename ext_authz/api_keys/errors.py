"""What can go wrong with keys, each in one sentence for the person who manages them."""

from __future__ import annotations


class KeyStoreError(Exception):
    """The key store cannot be used. The text says which file and why; it holds no secret."""


class PepperError(KeyStoreError):
    """The secret that keys are hashed with is missing, damaged, open to others, or of another store."""


class InvalidKeyError(ValueError):
    """A key cannot be made as asked for. The text says which field and what is expected.

    Attributes:
        field: name of the offending argument.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
