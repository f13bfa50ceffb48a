"""When a gateway is ready: each part answers, then a request through the front door gets the right refusal."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]

POLL_S: Final = 0.1
#: Silence about what is missing, first and then.
FIRST_REPORT_S: Final = 5.0
NEXT_REPORT_S: Final = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """One thing that must be so.

    Attributes:
        subject: the part it is about (a process's name).
        missing: asks; None when it is so, else what is missing, in words.
        patience_s: from when on its absence is worth a report.
    """

    subject: str
    missing: Callable[[], Awaitable[str | None]]
    patience_s: float = FIRST_REPORT_S


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """A condition that does not hold, and why."""

    subject: str
    words: str


async def until_ready(
    conditions: Callable[[], Sequence[Condition]],
    *,
    report: Callable[[Sequence[Missing]], None],
    clock: Clock,
    poll_s: float = POLL_S,
) -> None:
    """Wait until all conditions hold at one moment.

    Args:
        conditions: looked up anew each time: model servers come and go.
        report: told what is missing when it takes long, and again now and then.
        clock: seconds, monotonic.
        poll_s: pause between two rounds.
    """
    began = clock()
    next_report = began + FIRST_REPORT_S
    while True:
        current = conditions()
        words = await asyncio.gather(*(condition.missing() for condition in current))
        missing = [
            (condition, Missing(subject=condition.subject, words=said))
            for condition, said in zip(current, words, strict=True)
            if said is not None
        ]
        if not missing:
            return
        now = clock()
        if now >= next_report:
            late = [what for condition, what in missing if now - began >= condition.patience_s]
            report(late or [what for _, what in missing])
            next_report = now + NEXT_REPORT_S
        await asyncio.sleep(poll_s)
