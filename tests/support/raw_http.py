"""HTTP/1.1 by hand, for requests that no client library sends, and for answers that come before the body is sent."""

from __future__ import annotations

import asyncio
import contextlib


async def raw(port: int, data: bytes | str, timeout_s: float = 10) -> tuple[int, dict[str, str], bytes]:
    """Send bytes, read one answer: status (0 if the connection ended without one), headers, body.

    The answer is read while the request is still being written: an early refusal is seen even if the server then
    closes the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = data.encode("latin-1") if isinstance(data, str) else data

    async def write() -> None:
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(payload), 65_536):
                writer.write(payload[start : start + 65_536])
                await writer.drain()

    sending = asyncio.create_task(write())
    try:
        async with asyncio.timeout(timeout_s):
            return await _read(reader)
    finally:
        sending.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await sending
        # What was not sent after an early refusal is not worth waiting for.
        writer.transport.abort()


async def _read(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, {}, b""
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
    if "content-length" in headers:
        return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
    return int(head[0].split()[1]), headers, body
