"""Why ``isg up`` would not start."""

from __future__ import annotations


class CannotStartError(Exception):
    """Nothing was started; the text is a sentence for the operator."""
