"""Several HTTP/2 requests on one connection (prior knowledge), with trailers or header fields that no library sends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, Event, ResponseReceived, StreamEnded, StreamReset

from tests.support.stack import Reply


@dataclass(slots=True, kw_only=True)
class Stream:
    """One request; `body` None ends it with its headers. `status` stays 0 when it met no answer."""

    headers: Sequence[tuple[str, str]]
    body: bytes | None = None
    trailers: Sequence[tuple[str, str]] = ()
    status: int = 0
    answer_headers: dict[str, str] = field(default_factory=dict)
    answer: bytes = b""

    @property
    def reply(self) -> Reply:
        return Reply(status=self.status, headers=self.answer_headers, body=self.answer)


def headers_of(
    key: str, *more: tuple[str, str], method: str = "POST", path: str = "/v1/predict"
) -> Sequence[tuple[str, str]]:
    """The header fields of a JSON request."""
    return (
        (":method", method),
        (":path", path),
        (":scheme", "http"),
        (":authority", "localhost"),
        ("authorization", f"Bearer {key}"),
        ("content-type", "application/json"),
        *more,
    )


async def h2_streams(port: int, streams: Sequence[Stream], timeout_s: float = 20) -> None:
    """Send all of them at once; each is filled in with its answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(timeout_s):
            await _exchange(reader, writer, streams)
    finally:
        writer.transport.abort()


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, streams: Sequence[Stream]) -> None:
    connection = H2Connection(
        H2Configuration(client_side=True, header_encoding="utf-8", validate_outbound_headers=False)
    )
    connection.initiate_connection()
    open_streams: dict[int, Stream] = {}
    unsent: dict[int, bytes] = {}
    for stream in streams:
        number = connection.get_next_available_stream_id()
        connection.send_headers(number, list(stream.headers), end_stream=stream.body is None)
        open_streams[number] = stream
        if stream.body is not None:
            unsent[number] = stream.body
    while open_streams:
        for number in [number for number in unsent if number in open_streams]:
            unsent[number] = _send(connection, number, unsent[number])
            if not unsent[number]:
                _end(connection, number, open_streams[number])
                del unsent[number]
        writer.write(connection.data_to_send())
        await writer.drain()
        data = await reader.read(65_536)
        if not data:
            return
        for event in connection.receive_data(data):
            if isinstance(event, ConnectionTerminated):
                return
            _take(connection, event, open_streams)


def _take(connection: H2Connection, event: Event, open_streams: dict[int, Stream]) -> None:
    if isinstance(event, ResponseReceived):
        found = {str(name): str(value) for name, value in event.headers}
        open_streams[event.stream_id].answer_headers = found
        open_streams[event.stream_id].status = int(found[":status"])
    elif isinstance(event, DataReceived):
        open_streams[event.stream_id].answer += event.data
        connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
    elif isinstance(event, StreamEnded | StreamReset):
        open_streams.pop(event.stream_id, None)


def _send(connection: H2Connection, number: int, body: bytes) -> bytes:
    """Send as much as may be sent now; the rest is returned."""
    while body:
        room = min(connection.local_flow_control_window(number), connection.max_outbound_frame_size, len(body))
        if room <= 0:
            break
        connection.send_data(number, body[:room])
        body = body[room:]
    return body


def _end(connection: H2Connection, number: int, stream: Stream) -> None:
    if stream.trailers:
        connection.send_headers(number, list(stream.trailers), end_stream=True)
    else:
        connection.end_stream(number)
