"""Requests that are nearly right, or right in a way that few clients use, against the real Envoy."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from tests.support.h2_streams import Stream, h2_streams, headers_of
from tests.support.raw_http import raw
from tests.support.recorder import Recorder
from tests.support.stack import Reply, Stack, running, until

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

VALID = b'{"text":"a"}'
GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
default_model: m1
models:
  m1:
    backend: main
    mirror: {backend: shadow, percent: 100}
    input: {tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
    max_body: 64KiB
  m2:
    backend: main
    input: {tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]}
    max_body: 64KiB
  encoded:
    backend: encoded
    max_body: 64KiB
"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def main() -> AsyncIterator[Recorder]:
    recorder = await Recorder().start()
    yield recorder
    await recorder.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shadow() -> AsyncIterator[Recorder]:
    recorder = await Recorder().start()
    yield recorder
    await recorder.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, main: Recorder, shadow: Recorder) -> AsyncIterator[Stack]:
    files = {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['{main.address}']\n",
        "backends/shadow.yaml": f"server: kserve\nmodel: m\nendpoints: ['{shadow.address}']\n",
        "backends/encoded.yaml": (
            "server: http\npath: /a%20b/%REQ(X-REQUEST-ID)%\nhealth: {path: /v2/health/ready}\n"
            f"endpoints: ['{main.address}']\n"
        ),
    }
    async with running(tmp_path_factory.mktemp("strange"), files) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


@pytest_asyncio.fixture(loop_scope="module")
async def clean(gateway: Stack, key: str, main: Recorder, shadow: Recorder) -> Recorder:
    main.received.clear()
    shadow.received.clear()
    return main


async def send(
    gateway: Stack,
    key: str,
    *lines: str,
    body: bytes = VALID,
    content_type: str = "application/json",
    target: str = "/v1/predict",
) -> Reply:
    """POST with header lines as they are, in Latin-1."""
    head = (
        f"POST {target} HTTP/1.1",
        "host: gateway.example",
        f"authorization: Bearer {key}",
        f"content-type: {content_type}",
        f"content-length: {len(body)}",
        *lines,
    )
    status, headers, answer = await raw(gateway.port, "\r\n".join(head).encode("latin-1") + b"\r\n\r\n" + body)
    return Reply(status=status, headers=headers, body=answer)


def problem(reply: Reply, status: int) -> dict[str, Any]:
    """The Problem in an answer."""
    assert reply.status == status, reply
    assert reply.headers["content-type"] == "application/problem+json", reply
    document: dict[str, Any] = json.loads(reply.body)
    assert document["status"] == status
    return document


# -- what a model server would read otherwise -----------------------------------------------------------------


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-7",
        "application/json; charset=utf-16",
        "application/json; charset=utf-8; charset=utf-7",
        "application/json; x=1, text/plain",
        "application/json;, text/plain",
    ],
)
async def test_a_body_that_its_content_type_would_have_read_otherwise_is_415(
    gateway: Stack, clean: Recorder, key: str, content_type: str
) -> None:
    document = problem(await send(gateway, key, content_type=content_type), 415)
    assert document["code"] == "content_type_not_served"
    assert clean.received == []


async def test_a_second_content_type_is_415(gateway: Stack, clean: Recorder, key: str) -> None:
    problem(await send(gateway, key, "content-type: text/plain", content_type="application/json;"), 415)
    assert clean.received == []


@pytest.mark.parametrize(
    "content_type", ["application/json;", 'application/json; charset="UTF-8"', "Application/Json ; Charset=utf-8"]
)
async def test_json_in_utf8_may_say_so(gateway: Stack, clean: Recorder, key: str, content_type: str) -> None:
    assert (await send(gateway, key, content_type=content_type)).status == 200


async def test_a_clients_host_does_not_reach_model_server_or_mirror(
    gateway: Stack, clean: Recorder, shadow: Recorder, key: str
) -> None:
    for target in ("/v1/predict", "http://elsewhere.example/v1/predict"):
        assert (await send(gateway, key, target=target)).status == 200
    await until("both are mirrored", lambda: len(shadow.received) == 2)
    assert [received.headers["host"] for received in clean.received] == [clean.address] * 2
    assert [received.headers["host"] for received in shadow.received] == [shadow.address] * 2
    for received in (*clean.received, *shadow.received):
        assert "example" not in received.text
        assert received.path == "/v2/models/m/infer"


async def test_a_percent_sign_in_a_backends_path_is_a_percent_sign(gateway: Stack, clean: Recorder, key: str) -> None:
    assert (await send(gateway, key, body=b'{"model":"encoded"}')).status == 200
    assert clean.received[-1].path == "/a%20b/%REQ(X-REQUEST-ID)%"


# -- header values --------------------------------------------------------------------------------------------

HOSTILE = 'a"\\<script>\xff\xfe\x80'


async def test_a_request_id_of_the_clients_is_replaced_and_never_breaks_an_answer(
    gateway: Stack, clean: Recorder, key: str
) -> None:
    line = f"x-request-id: {HOSTILE}"
    for reply in (
        await send(gateway, key, line),
        await send(gateway, key, line, body=b'{"text":5}'),
        await send(gateway, key, line, body=b"a" * 70_000),
        await send(gateway, key, line, target="/elsewhere"),
        await send(gateway, "nonsense", line),
    ):
        document = json.loads(reply.body)
        assert document["request_id"] == reply.headers["x-request-id"]
        assert "script" not in reply.headers["x-request-id"]


async def test_replies_to_what_is_not_valid_http_are_valid_json_whatever_the_request_id(
    gateway: Stack, key: str
) -> None:
    line = f"x-request-id: {HOSTILE}"
    for target in ("/v1%2fpredict", "/v1/predict#fragment"):
        problem(await send(gateway, key, line, target=target), 400)
    problem(await send(gateway, key, line, "x_underscore: 1"), 400)


async def test_a_trace_context_of_other_bytes_than_ascii_is_400_not_a_fault_of_ours(
    gateway: Stack, clean: Recorder, key: str
) -> None:
    for target in ("/v1/predict", "/v1/models/m1:predict"):
        reply = await send(gateway, key, f"traceparent: {HOSTILE}", target=target)
        assert problem(reply, 400)["code"] == "invalid_header"
    assert clean.received == []
    assert (await send(gateway, key, "traceparent: malformed")).status == 200


async def test_what_envoy_itself_refuses_is_a_problem_of_the_right_kind(
    gateway: Stack, clean: Recorder, key: str
) -> None:
    for lines, status, code in (
        (("connection: upgrade", "upgrade: websocket"), 400, "upgrade_not_served"),
        (("transfer-encoding: chunked",), 400, "bad_request"),
        (("x-a: " + "b" * 70_000,), 431, "headers_too_large"),
    ):
        assert problem(await send(gateway, key, *lines), status)["code"] == code
    status, headers, body = await raw(
        gateway.port,
        f"POST /v1/predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
        "content-type: application/json\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
    )
    reply = Reply(status=status, headers=headers, body=body)
    assert problem(reply, 501)["code"] == "transfer_encoding_not_served"
    assert clean.received == []


@pytest.mark.parametrize("model", [b'"\xff"', b'"\\ud800"', b'"m1\\u0000"', b'"\\u006d2"'])
async def test_names_that_parsers_disagree_on_reach_no_model(gateway: Stack, clean: Recorder, model: bytes) -> None:
    only_m1 = await gateway.key("m1")
    reply = await send(gateway, only_m1, body=b'{"text":"a","model":%s}' % model)
    problem(reply, reply.status)
    assert reply.status in {400, 403}
    assert clean.received == []


# -- paths ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target",
    [
        "/v1/models/m1:predict/../m2:predict",
        "/v1/models/m1:predict/%2e%2e/m2:predict",
        "/v1/models/m1:predict\\..\\m2:predict",
        "/v1/models/m1:predict;/../m2:predict",
        "/v1//models///%6d2:predict",
        "/v1/./models/m%32:predict",
    ],
)
async def test_the_model_of_a_path_is_judged_as_it_is_routed(gateway: Stack, clean: Recorder, target: str) -> None:
    only_m1 = await gateway.key("m1")
    problem(await send(gateway, only_m1, target=target), 403)
    assert clean.received == []


# -- HTTP/2 ---------------------------------------------------------------------------------------------------


async def test_http2_requests_with_trailers_are_judged_like_others(gateway: Stack, clean: Recorder, key: str) -> None:
    only_m2 = await gateway.key("m2")
    trailers = (("x-isg-tenant", "forged"), ("authorization", "canary"))
    cases = (
        (headers_of(key), VALID, 200),
        (headers_of(key, path="/v1/models/m1:predict"), VALID, 200),
        (headers_of(key), b'{"text":5}', 422),
        (headers_of(key), b"", 400),
        (headers_of(only_m2), VALID, 403),
        (headers_of("nonsense"), VALID, 401),
    )
    streams = [Stream(headers=headers, body=body, trailers=trailers) for headers, body, _ in cases]
    await h2_streams(gateway.port, streams)
    assert [stream.status for stream in streams] == [status for *_, status in cases]
    assert len(clean.received) == 2
    assert not any("canary" in received.text or "forged" in received.text for received in clean.received)


async def test_http2_requests_that_should_have_no_body_or_have_none(gateway: Stack, clean: Recorder, key: str) -> None:
    streams = [
        Stream(headers=headers_of(key)),
        Stream(headers=headers_of(key), body=b""),
        Stream(headers=headers_of(key, method="GET"), body=VALID),
        Stream(headers=headers_of(key, method="GET"), body=b"a" * 200_000),
        Stream(headers=headers_of(key, method="HEAD")),
    ]
    await h2_streams(gateway.port, streams)
    assert [stream.status for stream in streams] == [400, 400, 405, 405, 405]
    assert clean.received == []


async def test_a_content_length_that_lies_gets_no_answer_over_http2(gateway: Stack, clean: Recorder, key: str) -> None:
    for length in ("0", "5", "500", "9" * 30):
        stream = Stream(headers=headers_of(key, ("content-length", length)), body=VALID)
        await h2_streams(gateway.port, [stream])
        assert stream.status in {0, 400, 413}, length
    assert clean.received == []


async def test_a_hundred_streams_of_one_connection_share_it_and_refusals_disturb_nobody(
    gateway: Stack, clean: Recorder, key: str
) -> None:
    large = [Stream(headers=headers_of(key), body=b'{"text":"%s"}' % (b"a" * 60_000)) for _ in range(50)]
    too_large = [Stream(headers=headers_of(key), body=b"a" * 700_000) for _ in range(20)]
    small = [Stream(headers=headers_of(key), body=VALID) for _ in range(30)]
    await h2_streams(gateway.port, [*too_large, *large, *small])
    assert Counter(stream.status for stream in (*large, *small)) == {200: 80}
    assert Counter(stream.status for stream in too_large) == {413: 20}
    assert len(clean.received) == 80
