"""When a process that died is started again: at once the first time, ever later while it keeps dying."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: A process that lived this long was well: what happens next is a new story.
STEADY_S: Final = 10.0
FIRST_DELAY_S: Final = 0.25
MAX_DELAY_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Restarts:
    """How often a process died lately.

    Attributes:
        deaths: deaths in a row, none of them after :data:`STEADY_S` of life.
    """

    deaths: int = 0

    def after_death(self, lived_s: float) -> tuple[Restarts, float]:
        """The new count, and the seconds to wait before the next start.

        >>> Restarts().after_death(0.1)[1], Restarts(deaths=2).after_death(0.1)[1]
        (0.0, 0.5)
        """
        deaths = 1 if lived_s >= STEADY_S else self.deaths + 1
        if deaths == 1:
            return Restarts(deaths=deaths), 0.0
        doublings = min(deaths - 2, 16)
        return Restarts(deaths=deaths), min(FIRST_DELAY_S * 2.0**doublings, MAX_DELAY_S)
