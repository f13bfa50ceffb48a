"""Local model servers that a change brings: requests are sent to them once they answer, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from control_plane.config.model import Config, Endpoint
from control_plane.processes import Process, wanted_processes
from control_plane.up import probe

POLL_S: Final = 0.1
#: Envoy, which looks at servers that are down four times a second, has noticed that they answer.
NOTICED_S: Final = 0.5

Local = Callable[[], Mapping[str, tuple[Endpoint, ...]]]
Answers = Callable[[Process, Endpoint], Awaitable[bool]]


class NotReadyError(Exception):
    """Model servers that a change needs have not come up; the text names their backends."""


class SupersededError(Exception):
    """The files have changed again: what was waited for is of no interest any more."""


async def ready(process: Process, endpoint: Endpoint) -> bool:
    """Whether a model server says that it can serve."""
    address = endpoint.address
    if process.health_path is None:
        return await probe.accepts(address.host, address.port) is None
    return await probe.answers_200(f"http://{address}{process.health_path}") is None


def newcomers(before: Config, after: Config) -> dict[str, Process]:
    """Local backends that models of a change send requests to, and that had no requests before."""
    tried = _routed(before) & wanted_processes(before).keys()
    return {name: one for name, one in wanted_processes(after).items() if name in _routed(after) - tried}


def _routed(config: Config) -> set[str]:
    return {target.backend for model in config.models.values() for target in model.targets}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """Waits for model servers.

    Attributes:
        local: where they are.
        answers: asks one.
        clock: seconds, monotonic.
    """

    local: Local
    answers: Answers
    clock: Callable[[], float]

    async def of(self, backends: Mapping[str, Process], superseded: Callable[[], bool]) -> None:
        """Return when every backend has a server that answers.

        Raises:
            NotReadyError: one has none within the time that its descriptor gives it (``ready_within``).
            SupersededError: it is not wanted any more.
        """
        began = self.clock()
        while missing := await self._missing(backends):
            late = [name for name in missing if self.clock() - began > backends[name].ready_within_s]
            if late:
                raise NotReadyError(f"no model server is ready within its time: backend {', '.join(late)}")
            if superseded():
                raise SupersededError
            await asyncio.sleep(POLL_S)
        await asyncio.sleep(NOTICED_S)

    async def _missing(self, backends: Mapping[str, Process]) -> list[str]:
        found = self.local()
        questions = {
            name: [self.answers(process, endpoint) for endpoint in found.get(name, ())]
            for name, process in backends.items()
        }
        answers = await asyncio.gather(*(asyncio.gather(*each) for each in questions.values()))
        return [name for name, each in zip(questions, answers, strict=True) if not any(each)]
