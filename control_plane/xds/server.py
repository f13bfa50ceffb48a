"""The ADS server: streams of any number of clients on a Unix socket, each from the snapshot of its group.

One task reads and one writes per stream; neither holds anything while it waits, so a client that never reads delays
nobody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry

from control_plane.xds import delta
from control_plane.xds.metrics import XdsMetrics, short
from control_plane.xds.nodes import NodeView, Settled
from control_plane.xds.ordering import DEFAULT_ORDER, Order, Wait
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import InvalidRequestError, Stream
from control_plane.xds.subscription import Verdict

SERVICE: Final = "envoy.service.discovery.v3.AggregatedDiscoveryService"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.so_reuseport", 0),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # Clients notice a frozen server by pings of their own; the default would punish them for it.
    ("grpc.http2.min_ping_interval_without_data_ms", 1_000),
    ("grpc.http2.max_ping_strikes", 0),
)

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class AdsServer:
    """Serves ``DeltaAggregatedResources``.

    Args:
        registry: where the metrics go.
        order: types in the order of sending.
        clock: monotonic seconds.
        wall_clock: seconds since the epoch.
    """

    def __init__(
        self,
        *,
        registry: CollectorRegistry,
        order: Sequence[str] = DEFAULT_ORDER,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._metrics = XdsMetrics(registry)
        self._order, self._clock, self._wall_clock = Order(types=order), clock, wall_clock
        self._snapshots: dict[str, Snapshot] = {}
        self._streams: set[Stream] = set()
        self._progress = asyncio.Event()
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: Path) -> None:
        """Listen on a Unix socket of mode 0600; a stale file is replaced.

        Raises:
            RuntimeError: the socket cannot be bound.
        """
        socket.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(self._delta)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE, {"DeltaAggregatedResources": handler}),)
        )
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()
        socket.chmod(0o600)

    async def stop(self, grace_s: float) -> None:
        """End all streams; clients try again elsewhere or later."""
        if self._server is not None:
            await self._server.stop(grace_s)

    def publish(self, group: str, snapshot: Snapshot) -> None:
        """What the nodes of a group (``node.cluster``) should have from now on. Never waits."""
        before = self._snapshots.get(group)
        self._snapshots[group] = snapshot
        if before is not None and before.version == snapshot.version:
            return
        for stream in self._streams:
            if stream.group == group:
                stream.published_at = self._clock()
                stream.wake.set()

    def nodes(self) -> tuple[NodeView, ...]:
        """Every connected stream that has said who it is."""
        views = (stream.view(self._snapshots.get(stream.group)) for stream in self._streams if stream.node_id)
        return tuple(sorted(views, key=lambda view: (view.group, view.id)))

    async def settled(self, group: str, snapshot: Snapshot, timeout_s: float) -> Settled:
        """Wait until every connected node of a group has acknowledged or refused a snapshot, or time is up."""
        deadline = self._clock() + timeout_s
        while True:
            progress = self._progress
            settled = self._settled(group, snapshot)
            left = deadline - self._clock()
            if settled.refused or not settled.waiting or left <= 0:
                return settled
            with suppress(TimeoutError):
                await asyncio.wait_for(progress.wait(), left)

    def _settled(self, group: str, snapshot: Snapshot) -> Settled:
        acknowledged, refused, waiting = [], {}, []
        for stream in self._streams:
            if stream.group != group:
                continue
            words = stream.refusal(snapshot)
            if words is not None:
                refused[stream.node_id] = words
            elif stream.complete(snapshot):
                acknowledged.append(stream.node_id)
            else:
                waiting.append(stream.node_id)
        return Settled(acknowledged=tuple(sorted(acknowledged)), refused=refused, waiting=tuple(sorted(waiting)))

    async def _delta(self, _: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        stream = Stream(order=self._order, connected_since=self._wall_clock())
        self._streams.add(stream)
        self._metrics.streams.inc()
        writer = asyncio.create_task(self._write(stream, context))
        reader = asyncio.create_task(self._read(stream, context))
        try:
            await asyncio.wait({reader, writer}, return_when=asyncio.FIRST_COMPLETED)
            for task in (reader, writer):
                if task.done():
                    task.result()
        except (InvalidRequestError, DecodeError) as error:
            log.warning("xds_stream_refused", node=stream.node_id, reason=str(error))
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        finally:
            for task in (reader, writer):
                task.cancel()
            await asyncio.gather(reader, writer, return_exceptions=True)
            self._streams.discard(stream)
            self._metrics.streams.dec()
            self._tell()

    async def _read(self, stream: Stream, context: grpc.aio.ServicerContext) -> None:
        while (frame := await context.read()) is not grpc.aio.EOF:
            request = delta.Request.FromString(frame)
            verdict = stream.take(request, now=self._clock(), wall_clock=self._wall_clock())
            if verdict is Verdict.STALE:
                self._metrics.stale_nonces.inc()
            elif verdict is Verdict.NACK:
                self._metrics.nacks.labels(short(request.type_url)).inc()
                log.error(
                    "xds_refused", node=stream.node_id, type=request.type_url, reason=request.error_detail.message
                )
            self._note_completion(stream)
            stream.wake.set()
            self._tell()

    async def _write(self, stream: Stream, context: grpc.aio.ServicerContext) -> None:
        while True:
            stream.wake.clear()
            snapshot = self._snapshots.get(stream.group)
            following = Wait() if snapshot is None else stream.next(snapshot, self._clock())
            if isinstance(following, Wait):
                timeout_s = None if following.until is None else max(0.0, following.until - self._clock())
                with suppress(TimeoutError):
                    await asyncio.wait_for(stream.wake.wait(), timeout_s)
                continue
            send, response = following
            if send.overdue:
                log.warning("xds_not_waited", node=stream.node_id, type=send.type_url, unacknowledged=send.overdue)
            self._metrics.responses.labels(short(send.type_url)).inc()
            await context.write(response.SerializeToString())

    def _note_completion(self, stream: Stream) -> None:
        snapshot = self._snapshots.get(stream.group)
        if stream.published_at is not None and snapshot is not None and stream.complete(snapshot):
            self._metrics.push_seconds.observe(self._clock() - stream.published_at)
            stream.published_at = None

    def _tell(self) -> None:
        """Wake whoever waits for a snapshot to settle."""
        progress, self._progress = self._progress, asyncio.Event()
        progress.set()
