"""One HTTP/2 request (prior knowledge) that reads early answers, which most client libraries do not."""

from __future__ import annotations

import asyncio
import contextlib

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.support.stack import Reply


async def h2_post(port: int, path: str, body: bytes, key: str, timeout_s: float = 10) -> Reply:
    """POST a JSON body without a content-length; status 0 if the stream ended without an answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(timeout_s):
            return await _exchange(reader, writer, path, body, key)
    finally:
        writer.transport.abort()


async def _exchange(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str, body: bytes, key: str
) -> Reply:
    connection = H2Connection(H2Configuration(client_side=True, header_encoding="utf-8"))
    connection.initiate_connection()
    headers = [
        (":method", "POST"),
        (":path", path),
        (":scheme", "http"),
        (":authority", "localhost"),
        ("authorization", f"Bearer {key}"),
        ("content-type", "application/json"),
    ]
    connection.send_headers(1, headers, end_stream=False)
    sent, ended, answer, answer_headers = 0, False, b"", dict[str, str]()
    while True:
        while not ended and sent < len(body):
            room = min(connection.local_flow_control_window(1), connection.max_outbound_frame_size, len(body) - sent)
            if room <= 0:
                break
            connection.send_data(1, body[sent : sent + room])
            sent += room
        if sent == len(body) and not ended:
            connection.end_stream(1)
            ended = True
        with contextlib.suppress(ConnectionError):
            writer.write(connection.data_to_send())
            await writer.drain()
        data = await reader.read(65_536)
        for event in connection.receive_data(data) if data else []:
            if isinstance(event, ResponseReceived):
                answer_headers = {str(name): str(value) for name, value in event.headers}
            elif isinstance(event, DataReceived):
                answer += event.data
                connection.acknowledge_received_data(event.flow_controlled_length, 1)
            if isinstance(event, StreamEnded | StreamReset):
                return Reply(status=int(answer_headers.get(":status", 0)), headers=answer_headers, body=answer)
        if not data:
            return Reply(status=int(answer_headers.get(":status", 0)), headers=answer_headers, body=answer)
