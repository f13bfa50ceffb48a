"""Model servers that frame, cut or decorate their answers in unusual ways, against the real Envoy."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from tests.support.stack import Stack, running

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
default_model: m1
models:
  m1:
    backend: main
    input: {tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
    retries: 0
  patient:
    backend: main
    input: {tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
    retries: 1
"""
DOCUMENT = (
    b'{"model_name":"m","model_version":"1",'
    b'"outputs":[{"name":"scores","datatype":"FP32","shape":[1,3],"data":[0.1,0.7,0.2]}]}'
)
JSON = b"content-type: application/json\r\n"


def head(status: bytes, *lines: bytes) -> bytes:
    return b"HTTP/1.1 " + status + b"\r\n" + b"".join(lines) + b"\r\n"


def sized(status: bytes, *lines: bytes, body: bytes = DOCUMENT) -> bytes:
    return head(status, *lines, b"content-length: %d\r\n" % len(body)) + body


def chunked(body: bytes = DOCUMENT, trailers: bytes = b"") -> bytes:
    chunks = b"%x\r\n%s\r\n" % (10, body[:10]) + b"%x\r\n%s\r\n" % (len(body) - 10, body[10:])
    return head(b"200 OK", JSON, b"transfer-encoding: chunked\r\n") + chunks + b"0\r\n" + trailers + b"\r\n"


@dataclass(slots=True)
class Server:
    """Answers every inference request with ``answers``, the last of them again and again, and then closes."""

    answers: list[bytes] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = (await reader.readuntil(b"\r\n\r\n")).lower()
                if b" /v2/health" in request:
                    writer.write(sized(b"200 OK", body=b""))
                    continue
                length = int(request.partition(b"content-length: ")[2].partition(b"\r\n")[0])
                self.bodies.append(await reader.readexactly(length))
                writer.write(self.answers.pop(0) if len(self.answers) > 1 else self.answers[0])
                await writer.drain()
                break
        writer.close()


@pytest.fixture(scope="module")
def server() -> Server:
    return Server([sized(b"200 OK", JSON)])


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, server: Server) -> AsyncIterator[Stack]:
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    files = {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['127.0.0.1:{port}']\n",
    }
    async with running(tmp_path_factory.mktemp("answers"), files) as stack:
        yield stack
    listener.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def in_use(gateway: Stack, server: Server, key: str) -> None:
    """A good answer before each test, so that no test's failures add up to an ejection."""
    server.answers = [sized(b"200 OK", JSON)]
    assert (await gateway.predict({"text": "a"}, key)).status == 200
    server.bodies.clear()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(chunked(), id="chunked"),
        pytest.param(chunked(trailers=b"x-trailer: canary\r\n"), id="trailers"),
        pytest.param(head(b"200 OK", JSON) + DOCUMENT, id="until-the-connection-closes"),
        pytest.param(sized(b"200 OK"), id="no-content-type"),
        pytest.param(sized(b"200 OK", b"content-type: text/plain\r\n"), id="another-content-type"),
        pytest.param(sized(b"201 Created", JSON), id="created"),
        pytest.param(head(b"100 Continue") + sized(b"200 OK", JSON), id="continue-first"),
        pytest.param(head(b"103 Early Hints", b"link: </canary>\r\n") + sized(b"200 OK", JSON), id="hints-first"),
        pytest.param(sized(b"200 OK", JSON) + sized(b"200 OK", JSON, body=b"canary"), id="a-second-answer"),
        pytest.param(sized(b"200 OK", JSON, b"x-a: " + b"b" * 6_000 + b"\r\n"), id="a-large-header"),
    ],
)
async def test_every_framing_of_a_good_answer_gives_the_same_answer(
    gateway: Stack, server: Server, key: str, answer: bytes
) -> None:
    server.answers = [answer]
    reply = await gateway.predict({"text": "a"}, key)
    assert reply.status in {200, 201}, reply
    assert reply.json["outputs"] == {"scores": [0.1, 0.7, 0.2]}
    assert reply.headers["content-type"] == "application/json"
    assert int(reply.headers["content-length"]) == len(reply.body)
    assert "transfer-encoding" not in reply.headers
    assert b"canary" not in reply.body


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        pytest.param(head(b"204 No Content"), 502, id="no-content"),
        pytest.param(head(b"304 Not Modified"), 502, id="not-modified"),
        pytest.param(
            head(b"101 Switching Protocols", b"upgrade: x\r\nconnection: upgrade\r\n") + b"canary", 502, id="101"
        ),
        pytest.param(sized(b"302 Found", b"location: http://canary/\r\n", body=b"canary"), 502, id="redirect"),
        pytest.param(sized(b"401 Unauthorized", b"www-authenticate: canary\r\n", body=b"canary"), 502, id="401"),
        pytest.param(sized(b"429 Busy", b"retry-after: 7\r\n", body=b"canary"), 503, id="busy"),
        pytest.param(sized(b"999 Canary", body=b"canary"), 502, id="no-status-of-http"),
        pytest.param(
            sized(b"200 OK", JSON, b"content-encoding: gzip\r\n", body=gzip.compress(DOCUMENT)), 502, id="compressed"
        ),
        pytest.param(head(b"200 OK", JSON, b"content-length: 5000\r\n") + DOCUMENT, 502, id="cut-body"),
        pytest.param(head(b"200 OK", JSON, b"transfer-encoding: chunked\r\n") + b"50\r\ncanary", 502, id="cut-chunk"),
        pytest.param(b"HTTP/1.1 200 OK\r\ncana", 502, id="cut-head"),
        pytest.param(b"canary\r\n\r\n", 502, id="not-http"),
        pytest.param(sized(b"200 OK", JSON, b"x: y\r\n" * 200), 502, id="too-many-headers"),
    ],
)
async def test_an_answer_that_is_none_is_worded_by_the_gateway(
    gateway: Stack, server: Server, key: str, answer: bytes, status: int
) -> None:
    server.answers = [answer]
    reply = await gateway.predict({"text": "a"}, key)
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.json["request_id"] == reply.headers["x-request-id"]
    assert "canary" not in f"{reply.headers} {reply.body!r}"


async def test_headers_of_the_gateways_own_and_cookies_do_not_come_from_a_model_server(
    gateway: Stack, server: Server, key: str
) -> None:
    server.answers = [
        sized(
            b"200 OK",
            JSON,
            b"server: canary\r\nset-cookie: canary=1\r\nx-request-id: canary\r\nx-isg-tenant: canary\r\n",
            b"x-envoy-upstream-service-time: canary\r\n",
        )
    ]
    reply = await gateway.predict({"text": "a"}, key)
    assert reply.status == 200
    assert "canary" not in str(reply.headers)
    assert reply.json["request_id"] == reply.headers["x-request-id"]


async def test_a_repeated_request_is_the_same_request(gateway: Stack, server: Server, key: str) -> None:
    server.answers = [sized(b"503 Busy", body=b"canary"), sized(b"200 OK", JSON)]
    reply = await gateway.predict({"model": "patient", "text": "repeated"}, key)
    assert reply.status == 200, reply
    assert len(server.bodies) == 2
    assert server.bodies[0] == server.bodies[1]
    assert b"repeated" in server.bodies[0]
