"""The xDS server: gRPC on a Unix socket and over TCP with mutual TLS, one snapshot per group of nodes."""

from __future__ import annotations

import asyncio
import logging
import os
import socket as sockets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from stat import S_ISSOCK
from typing import Final

import grpc
import grpc.aio
from prometheus_client import REGISTRY, CollectorRegistry

from control_plane.xds.metrics import XdsMetrics
from control_plane.xds.nodes import NodeView, Settled, Standing, standing, sum_up, view_types
from control_plane.xds.ordering import DEFAULT_ORDER, PATIENCE_S, Order
from control_plane.xds.services import handlers
from control_plane.xds.snapshot import Snapshot
from control_plane.xds.stream import RefusedStreamError, Stream, Variant
from control_plane.xds.tls import ServerTls

_log = logging.getLogger(__name__)

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 * 1024 * 1024),  # names and versions of many thousand resources
    ("grpc.max_send_message_length", -1),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.http2.min_ping_interval_without_data_ms", 500),  # clients look after us more often than by default
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 500),
    ("grpc.so_reuseport", 0),  # a port that is taken is an error, not one that is shared without a word
)


@dataclass(slots=True)
class _Group:
    """Nodes that get the same."""

    snapshot: Snapshot | None = None
    published_at: float | None = None  # until the last node has acknowledged
    streams: list[Stream] = field(default_factory=list)


class _GrpcTransport:
    """A stream of raw messages over grpc.aio."""

    def __init__(self, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        self._context = context

    async def read(self) -> bytes | None:
        """See :class:`control_plane.xds.stream.Transport`."""
        message = await self._context.read()
        return None if message is grpc.aio.EOF else bytes(message)

    async def write(self, message: bytes) -> None:
        """See :class:`control_plane.xds.stream.Transport`."""
        await self._context.write(message)


class AdsServer:
    """Serves one :class:`Snapshot` per group, which is the ``node.cluster`` of its nodes.

    Before the first :meth:`publish` of a group its nodes are heard and sent nothing: never emptiness.
    All methods belong to the event loop that the server runs on.
    """

    def __init__(
        self,
        *,
        order: Sequence[str] = DEFAULT_ORDER,
        patience_s: float = PATIENCE_S,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        registry: CollectorRegistry | None = REGISTRY,
    ) -> None:
        self._order = Order(order, patience_s)
        self._clock, self._wall_clock = clock, wall_clock
        self._metrics = XdsMetrics(registry, order)
        self._groups: dict[str, _Group] = {}
        self._open: set[Stream] = set()
        self._progress = asyncio.Event()
        self._servers: list[grpc.aio.Server] = []
        self._stopping = False

    async def start(self, socket: Path) -> None:
        """Listen on a Unix socket of mode 0600; one that nobody listens on is replaced.

        Raises:
            OSError: another server listens there, or the path cannot be used.
        """
        _remove_stale(socket)
        server = self._listener()
        before = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{socket}")
        except RuntimeError as error:
            raise OSError(f"cannot listen on {socket}: {error}") from error
        finally:
            os.umask(before)
        socket.chmod(0o600)
        await server.start()
        self._servers.append(server)

    async def listen_tcp(self, address: str, tls: ServerTls) -> int:
        """Listen on ``host:port`` too, for clients with a certificate of ``tls.client_ca`` only.

        Returns:
            The port; it was chosen by the system where ``address`` has port 0.

        Raises:
            OSError: the address cannot be used, or the certificate does not belong to the key.
            ValueError: a part of ``tls`` is not PEM.
        """
        credentials = tls.credentials()
        server = self._listener()
        try:
            port = int(server.add_secure_port(address, credentials))
        except RuntimeError as error:
            raise OSError(f"cannot listen on {address}: {error}") from error
        await server.start()
        self._servers.append(server)
        return port

    async def stop(self, grace_s: float = 1.0) -> None:
        """End all streams with UNAVAILABLE, which clients retry, and stop listening."""
        self._stopping = True
        for stream in self._open:
            stream.stop()
        servers, self._servers = self._servers, []
        await asyncio.gather(*(server.stop(grace_s) for server in servers))

    def publish(self, group: str, snapshot: Snapshot) -> None:
        """Make a snapshot what the nodes of a group should have. Never waits; what is equal moves nothing."""
        found = self._groups.setdefault(group, _Group())
        if found.snapshot is not None and found.snapshot.version == snapshot.version:
            return
        for type_url in {*snapshot.types, *(found.snapshot.types if found.snapshot else ())}:
            self._metrics.resources(group, type_url, len(snapshot.of_type(type_url)))
        found.snapshot = snapshot
        found.published_at = self._clock() if found.streams else None
        for stream in found.streams:
            stream.offer(snapshot)
        self._tell()

    def nodes(self) -> tuple[NodeView, ...]:
        """The connected nodes, sorted by group and id; of several streams of a node the newest with a type counts."""
        found: dict[tuple[str, str], NodeView] = {}
        for name, group in self._groups.items():
            for stream in group.streams:
                older = found.get((name, stream.node_id))
                found[name, stream.node_id] = NodeView(
                    id=stream.node_id,
                    group=name,
                    connected_since=stream.connected_since,
                    types={**(older.types if older else {}), **view_types(stream.subscriptions, group.snapshot)},
                )
        return tuple(view for _, view in sorted(found.items()))

    async def settled(self, group: str, snapshot: Snapshot, timeout_s: float) -> Settled:
        """Wait until every connected node of a group has acknowledged a snapshot, or one has refused it.

        Returns at once when no node is connected, and when another snapshot takes its place meanwhile.
        """
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            progress = self._progress
            found = self._groups.get(group, _Group())
            result = sum_up((stream.node_id, standing(stream.subscriptions, snapshot)) for stream in found.streams)
            replaced = found.snapshot is None or found.snapshot.version != snapshot.version
            if result.refused or not result.waiting or replaced:
                return result
            try:
                async with asyncio.timeout_at(deadline):
                    await progress.wait()
            except TimeoutError:
                return result

    def _listener(self) -> grpc.aio.Server:
        server = grpc.aio.server(options=_OPTIONS)
        server.add_generic_rpc_handlers(handlers(self._serve))
        return server

    async def _serve(self, variant: Variant, type_url: str, context: grpc.aio.ServicerContext[bytes, bytes]) -> None:
        stream = Stream(
            variant=variant,
            type_url=type_url,
            order=self._order,
            metrics=self._metrics,
            clock=self._clock,
            wall_clock=self._wall_clock,
            joined=self._join,
            moved=self._note_progress,
        )
        if self._stopping:
            stream.stop()
        self._open.add(stream)
        self._metrics.streams.inc()
        try:
            await stream.serve(_GrpcTransport(context))
        except RefusedStreamError as error:
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        except (grpc.aio.BaseError, grpc.aio.UsageError) as error:
            _log.info("stream of node %s broke off: %s", stream.node_id or "?", error)
        finally:
            self._metrics.streams.dec()
            self._open.discard(stream)
            if stream.group in self._groups:
                with suppress(ValueError):  # a stream that never joined
                    self._groups[stream.group].streams.remove(stream)
                self._note_progress(stream)
        if self._stopping:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "the control plane is going down; connect again")

    def _join(self, stream: Stream) -> None:
        group = self._groups.setdefault(stream.group, _Group())
        group.streams.append(stream)
        if group.snapshot is not None:
            stream.offer(group.snapshot)

    def _note_progress(self, stream: Stream) -> None:
        group = self._groups.get(stream.group)
        if group is not None and group.snapshot is not None and group.published_at is not None:
            levels = {standing(each.subscriptions, group.snapshot)[0] for each in group.streams}
            if levels == {Standing.ACKNOWLEDGED}:
                self._metrics.push_seconds.observe(self._clock() - group.published_at)
                group.published_at = None
        self._tell()

    def _tell(self) -> None:
        """Wake everyone who waits in :meth:`settled`."""
        self._progress.set()
        self._progress = asyncio.Event()


def _remove_stale(path: Path) -> None:
    if not path.exists():
        return
    if not S_ISSOCK(path.stat().st_mode):
        raise FileExistsError(f"{path} is not a socket")
    with sockets.socket(sockets.AF_UNIX) as probe:
        probe.settimeout(0.2)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
            return
        except TimeoutError:
            pass
    raise OSError(f"another server listens on {path}")
