"""The loop of one stream: requests first, then whatever may be sent, one response at a time.

A stream keeps no queue. Each response is made from the newest snapshot at the moment when the transport takes it, so
a slow reader costs the memory of one response and gets the last state, and nobody waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, Protocol

from control_plane.xds.metrics import XdsMetrics
from control_plane.xds.ordering import Order, Send, record
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.subscription import Subscription
from control_plane.xds.verdicts import Verdict
from control_plane.xds.wire import BadRequestError

_log = logging.getLogger(__name__)

#: Types that one stream may subscribe to; requests for more are not answered.
MAX_TYPES: Final = 64


class Transport(Protocol):
    """The server's end of a bidirectional stream."""

    async def read(self) -> bytes | None:
        """The next message, None when the client has ended its side."""
        ...

    async def write(self, message: bytes) -> None:
        """Hand a message over; returns when there is room for the next."""
        ...


class Request(Protocol):
    """What a client said, in either variant of the protocol."""

    @property
    def node_id(self) -> str:
        """Who speaks; only the first request of a stream has to say it."""
        ...

    @property
    def node_cluster(self) -> str:
        """The group of the node."""
        ...

    @property
    def type_url(self) -> str:
        """What the request is about."""
        ...

    @property
    def error(self) -> str | None:
        """Why the client refuses a response."""
        ...

    def follow(self, subscriptions: dict[str, Subscription], *, now: float, wall_clock: float) -> Verdict:
        """Apply the request to its subscription."""
        ...


class Variant(Protocol):
    """A variant of the protocol: :mod:`.delta` or :mod:`.sotw`."""

    def parse(self, data: bytes, type_url: str = "") -> Request:
        """Read a request, or raise :class:`BadRequestError`."""
        ...

    def response(self, send: Send, nonce: str) -> bytes:
        """Write a response."""
        ...


class RefusedStreamError(Exception):
    """A stream that cannot be served. The text is for the client."""


class Stream:
    """One stream of one node.

    Args:
        variant: how the two sides speak.
        type_url: the only type of the stream; empty on an aggregated one.

    Attributes:
        node_id, group: known after the first request.
        connected_since: wall-clock time, seconds since the epoch.
    """

    def __init__(
        self,
        *,
        variant: Variant,
        type_url: str = "",
        order: Order,
        metrics: XdsMetrics,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        joined: Callable[[Stream], None],
        moved: Callable[[Stream], None],
    ) -> None:
        self.node_id = self.group = ""
        self.connected_since = wall_clock()
        self.subscriptions: dict[str, Subscription] = {}
        self.snapshot: Snapshot | None = None
        self._variant, self._type_url = variant, type_url
        self._order, self._metrics, self._clock, self._wall_clock = order, metrics, clock, wall_clock
        self._joined, self._moved = joined, moved
        self._wake = asyncio.Event()
        self._stopped = False
        prefix = secrets.token_hex(4)  # a nonce of an earlier stream must never fit
        self._nonces = (f"{prefix}.{number}" for number in count(1))

    def offer(self, snapshot: Snapshot) -> None:
        """Replace what the node should have."""
        self.snapshot = snapshot
        self._wake.set()

    def stop(self) -> None:
        """Make :meth:`serve` return soon."""
        self._stopped = True
        self._wake.set()

    async def serve(self, transport: Transport) -> None:
        """Follow the protocol until the client leaves or :meth:`stop`.

        Raises:
            RefusedStreamError: the client broke a rule that leaves nothing to serve.
        """
        reading: asyncio.Task[bytes | None] | None = None
        try:
            while not self._stopped:
                if reading is None:
                    reading = asyncio.ensure_future(transport.read())
                    reading.add_done_callback(lambda _: self._wake.set())
                    await asyncio.sleep(0)  # a message that is there already is handled before anything is sent
                self._wake.clear()
                if reading.done():
                    message, reading = reading.result(), None
                    if message is None:
                        return
                    self._hear(message)
                    continue
                await self._send_next(transport)
        finally:
            if reading is not None:
                reading.cancel()
                with suppress(asyncio.CancelledError, Exception):  # the stream is over; why it ended is known above
                    await reading

    async def _send_next(self, transport: Transport) -> None:
        """Send what may be sent, or sleep until there may be something."""
        wait = None
        if self.snapshot is not None:
            now = self._clock()
            due = self._order.next(self.subscriptions, self.snapshot, now)
            if isinstance(due, Send):
                await self._send(due, transport, now)
                return
            self._note_current(self.snapshot)
            wait = None if due.until is None else max(0.0, due.until - now) + 0.001
        with suppress(TimeoutError):
            async with asyncio.timeout(wait):
                await self._wake.wait()

    async def _send(self, due: Send, transport: Transport, now: float) -> None:
        for type_url in due.overdue:
            _log.warning("node %s did not acknowledge %s; sending %s anyway", self.node_id, type_url, due.type_url)
        nonce = next(self._nonces)
        record(self.subscriptions, due, nonce, now)
        self._metrics.response(due.type_url)
        await transport.write(self._variant.response(due, nonce))

    def _note_current(self, snapshot: Snapshot) -> None:
        for type_url, subscription in self.subscriptions.items():
            if (
                subscription.in_flight_since is None
                and not subscription.pending(snapshot.of_type(type_url))
                and subscription.refused_since is None
            ):
                subscription.current(snapshot.type_version(type_url))
        self._moved(self)

    def _hear(self, message: bytes) -> None:
        try:
            request = self._variant.parse(message, self._type_url)
        except BadRequestError as error:
            raise RefusedStreamError(str(error)) from error
        if not request.type_url:
            raise RefusedStreamError("type_url is required on an aggregated stream")
        if self._type_url and request.type_url != self._type_url:
            raise RefusedStreamError(f"this service has only {self._type_url}")
        if not self.node_id:
            if not request.node_id:
                raise RefusedStreamError("the first request of a stream must carry node.id")
            self.node_id, self.group = request.node_id, request.node_cluster
            self._joined(self)
        if request.type_url not in self.subscriptions and len(self.subscriptions) >= MAX_TYPES:
            _log.warning("node %s subscribes to more than %d types; ignored", self.node_id, MAX_TYPES)
            return
        self._count(request, request.follow(self.subscriptions, now=self._clock(), wall_clock=self._wall_clock()))

    def _count(self, request: Request, verdict: Verdict) -> None:
        if verdict is Verdict.STALE:
            self._metrics.stale_nonces.inc()
        elif verdict is Verdict.NACK:
            self._metrics.nack(request.type_url)
            _log.warning("node %s refused %s: %s", self.node_id, request.type_url, request.error)
            self._moved(self)
