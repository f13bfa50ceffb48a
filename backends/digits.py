"""Handwritten digits: a small neural network, evaluated with numpy alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from backends.digit_image import decode, to_pixels
from backends.served_model import NotTrainedError

Matrix = NDArray[np.float32]
LABELS: Final = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


@dataclass(frozen=True, slots=True, kw_only=True)
class DigitsModel:
    """One hidden layer (ReLU), softmax on top."""

    hidden: Matrix
    hidden_bias: Matrix
    output: Matrix
    output_bias: Matrix
    input_name: str = "image"
    labels: tuple[str, ...] = LABELS

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the arrays that training wrote.

        Raises:
            NotTrainedError: there is no such file.
        """
        if not file.exists():
            raise NotTrainedError(file)
        with np.load(file, allow_pickle=False) as arrays:
            return cls(
                hidden=arrays["hidden"],
                hidden_bias=arrays["hidden_bias"],
                output=arrays["output"],
                output_bias=arrays["output_bias"],
            )

    def probabilities(self, pixels: Matrix) -> Matrix:
        """Probabilities of the ten digits, for rows of 64 pixels."""
        activation = np.maximum(pixels @ self.hidden + self.hidden_bias, 0)
        logits = activation @ self.output + self.output_bias
        exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: Matrix = exponentials / exponentials.sum(axis=1, keepdims=True)
        return result

    def scores(self, items: Sequence[str]) -> list[list[float]]:
        """Probabilities for pictures in base64."""
        pixels = np.stack([to_pixels(decode(item)) for item in items])
        rows: list[list[float]] = self.probabilities(pixels).tolist()
        return rows
