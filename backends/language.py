"""In which language a text is written: py3langid's model, unpacked, for languages with a state or many speakers.

The whole model knows 142 languages, many of them close relatives (Venetian, Fulfulde, Extremaduran): with so many
candidates "Hello, world!" is Fulfulde. Candidates here are the official languages of the European Union and the United
Nations, and the national or most spoken languages of other countries, as far as the model knows them.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
from py3langid.langid import LanguageIdentifier

from backends.served_model import NotTrainedError

#: ISO 639-1 codes.
LANGUAGES: Final = (
    "af", "am", "ar", "az", "be", "bg", "bn", "ca", "cs", "da", "de", "el", "en", "es", "et", "fa", "fi", "fr", "ga",
    "gu", "he", "hi", "hr", "hu", "hy", "id", "is", "it", "ja", "ka", "kk", "km", "kn", "ko", "lo", "lt", "lv", "mk",
    "ml", "mn", "mr", "ms", "mt", "my", "ne", "nl", "no", "pa", "pl", "ps", "pt", "ro", "ru", "si", "sk", "sl", "so",
    "sq", "sr", "sv", "sw", "ta", "te", "th", "tl", "tr", "uk", "ur", "uz", "vi", "zh",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class LanguageModel:
    """Naive Bayes over byte n-grams, with probabilities calibrated for the length of the text (py3langid)."""

    identifier: LanguageIdentifier
    labels: tuple[str, ...]
    input_name: str = "text"

    @classmethod
    def load(cls, file: Path) -> Self:
        """Read the arrays that were unpacked from py3langid.

        Raises:
            NotTrainedError: there is no such file.
        """
        if not file.exists():
            raise NotTrainedError(file)
        with np.load(file, allow_pickle=False) as arrays:
            identifier = LanguageIdentifier(
                arrays["weights"],
                arrays["priors"],
                arrays["classes"].tolist(),
                # a byte at a time is read from these: Python's own arrays are quicker at that than numpy's
                array("I", arrays["transitions"].tobytes()),
                arrays["features"].tolist(),
                norm_probs=True,
                tk_row=arrays["rows"].tolist(),
            )
        return cls(identifier=identifier, labels=tuple(identifier.labels))

    def scores(self, items: Sequence[str]) -> list[list[float]]:
        """Probabilities for texts; white space around a text does not count."""
        return [self._row(item.strip()) for item in items]

    def _row(self, text: str) -> list[float]:
        ranked = dict(self.identifier.rank(text))
        return [float(ranked[label]) for label in self.labels]
