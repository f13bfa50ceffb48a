"""What the server needs of a model, and which models there are.

A model takes texts (Open Inference datatype BYTES) and gives one row of scores for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

FOLDER: Final = Path(__file__).parent / "models"
NAMES: Final = ("digits", "language")


class InputError(ValueError):
    """The model cannot read an input. The text is for the client."""


class ServedModel(Protocol):
    """One model, loaded."""

    @property
    def input_name(self) -> str:
        """Name of the only input, of datatype BYTES and shape ``[-1]``."""

    @property
    def labels(self) -> tuple[str, ...]:
        """What each column of the scores stands for."""

    def scores(self, items: Sequence[str]) -> list[list[float]]:
        """Probabilities: a row for each item, a column for each label.

        Raises:
            InputError: an item is not what the model takes.
        """


class NotTrainedError(Exception):
    """The model's file is missing; ``python -m backends.train`` writes it."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"{file} is missing: run `python -m backends.train` first")


def load(name: str, folder: Path = FOLDER) -> ServedModel:
    """Load a model of :data:`NAMES`.

    Raises:
        NotTrainedError: its file is missing.
        KeyError: there is no such model.
    """
    # numpy is imported with the model, after the process has limited its threads
    if name == "digits":
        from backends.digits import DigitsModel  # noqa: PLC0415

        return DigitsModel.load(folder / "digits.npz")
    if name == "language":
        from backends.language import LanguageModel  # noqa: PLC0415

        return LanguageModel.load(folder / "language.npz")
    raise KeyError(name)
