"""The stream loop over a real socket: one answer per message, and one request's trouble stays its own."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from ext_proc import frames
from ext_proc.facts import RequestFacts
from ext_proc.metrics import Metrics
from ext_proc.server import PayloadServer
from ext_proc.session import Session
from ext_proc.verdict import Verdict
from gateway import names
from gateway.envoy_api import core_v3, ext_proc_v3
from tests.ext_proc.policies import route, rules, text_model

LANGUAGE = text_model()
RULES = rules(LANGUAGE, default="language")
GOOD = b'{"outputs": [{"name": "p", "datatype": "FP32", "shape": [3], "data": [0.1, 0.7, 0.2]}]}'


@dataclass
class Running:
    server: PayloadServer
    channel: grpc.aio.Channel
    registry: CollectorRegistry

    def stream(self) -> Any:
        return self.channel.stream_stream(
            f"/{frames.SERVICE}/{frames.METHOD}",
            request_serializer=lambda message: message if isinstance(message, bytes) else message.SerializeToString(),
            response_deserializer=ext_proc_v3.ProcessingResponse.FromString,
        )()

    async def ask(self, message: Any) -> Any:
        stream = self.stream()
        await stream.write(message)
        answer = await stream.read()
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK
        return answer

    def streams(self) -> float:
        return self.registry.get_sample_value("isg_payload_streams") or 0.0

    async def health(self) -> int:
        stub = health_pb2_grpc.HealthStub(self.channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(service=frames.SERVICE))
        status: int = answer.status
        return status


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    with tempfile.TemporaryDirectory(prefix="isg") as folder:
        socket = Path(folder) / "ext_proc.sock"
        socket.touch()  # a stale file is no obstacle
        registry = CollectorRegistry()
        server = PayloadServer(socket=socket, rules=lambda: RULES, metrics=Metrics(registry))
        await server.start()
        async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
            yield Running(server, channel, registry)
            await server.stop(0)


def request(body: bytes = b'{"text": "a"}', request_id: str = "r-1", **identity: str) -> Any:
    message = ext_proc_v3.ProcessingRequest(request_body=ext_proc_v3.HttpBody(body=body, end_of_stream=True))
    attributes = {names.ATTR_ROUTE: route(LANGUAGE), names.ATTR_PATH: "/v1/predict", names.ATTR_REQUEST_ID: request_id}
    message.attributes[names.EXT_PROC_ATTRIBUTES].update(attributes)
    known = {names.HEADER_TENANT: "acme", names.HEADER_KEY_ID: "k1", names.HEADER_MODELS: "*", **identity}
    message.metadata_context.filter_metadata[names.NS_AUTHZ].update(known)
    message.metadata_context.filter_metadata[names.NS_ISG].update({"model": 5.0})
    return message


def head(status: int = 200, details: str = "via_upstream") -> Any:
    header = core_v3.HeaderValue(key=":status", raw_value=str(status).encode())
    headers = ext_proc_v3.HttpHeaders(headers=core_v3.HeaderMap(headers=[header]))
    message = ext_proc_v3.ProcessingRequest(response_headers=headers)
    message.attributes[names.EXT_PROC_ATTRIBUTES].update({names.ATTR_RESPONSE_DETAILS: details})
    return message


def answer_body(body: bytes = GOOD) -> Any:
    return ext_proc_v3.ProcessingRequest(response_body=ext_proc_v3.HttpBody(body=body, end_of_stream=True))


def code(answer: Any) -> tuple[int, str]:
    assert answer.immediate_response.details == names.DETAILS_PROBLEM
    return answer.immediate_response.status.code, json.loads(answer.immediate_response.body)["code"]


async def test_three_messages_get_three_answers(running: Running) -> None:
    stream = running.stream()
    await stream.write(request())
    first = await stream.read()
    assert first.WhichOneof("response") == "request_body"
    assert dict(first.dynamic_metadata["isg"]) == {"validated": "yes", "model": "language"}
    assert json.loads(first.request_body.response.body_mutation.body)["id"] == "r-1"
    await stream.write(head())
    second = await stream.read()
    assert second.WhichOneof("response") == "response_headers"
    assert not second.response_headers.response.HasField("header_mutation")
    await stream.write(answer_body())
    third = await stream.read()
    common = third.response_body.response
    assert json.loads(common.body_mutation.body)["request_id"] == "r-1"
    set_headers = {x.header.key: x.header.raw_value for x in common.header_mutation.set_headers}
    length = str(len(common.body_mutation.body)).encode()
    assert set_headers == {"content-type": b"application/json", "content-length": length}
    assert not third.HasField("dynamic_metadata")
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF


@pytest.mark.parametrize("phase", ["request_headers", "request_trailers", "response_trailers"])
async def test_a_phase_that_was_not_asked_for_goes_on_unmarked(running: Running, phase: str) -> None:
    message = ext_proc_v3.ProcessingRequest()
    getattr(message, phase).SetInParent()
    answer = await running.ask(message)
    assert answer.WhichOneof("response") == phase
    assert not answer.HasField("dynamic_metadata")


async def test_a_refusal_is_an_immediate_answer_without_the_mark(running: Running) -> None:
    answer = await running.ask(request(b'{"text": 1}'))
    assert code(answer) == (422, "schema_violation")
    assert not answer.HasField("dynamic_metadata")
    labels = {"model": "language", "code": "schema_violation"}
    assert running.registry.get_sample_value("isg_payload_verdicts_total", labels) == 1


async def test_a_bad_answer_is_replaced_in_either_phase(running: Running) -> None:
    for message, expected in ((head(500), (502, "upstream_error")), (answer_body(b"no"), (502, "upstream_invalid"))):
        stream = running.stream()
        await stream.write(request())
        await stream.read()
        await stream.write(message)
        assert code(await stream.read()) == expected
        stream.cancel()


async def test_a_large_body_is_judged_without_delaying_small_ones(running: Running) -> None:
    large = request(json.dumps({"text": "x" * 900_000}).encode())
    answers = await asyncio.gather(running.ask(large), *(running.ask(request()) for _ in range(10)))
    assert all(answer.dynamic_metadata["isg"]["validated"] == "yes" for answer in answers)
    assert len(answers[0].request_body.response.body_mutation.body) > 900_000


@pytest.mark.parametrize("size", [10, 300_000])
async def test_an_exception_is_that_requests_verdict_and_no_others(
    running: Running, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    judge = Session.request_body

    def fails_on_some(self: Session, facts: RequestFacts, body: bytes) -> Verdict:
        verdict = judge(self, facts, body)
        if facts.request_id == "boom":
            raise ZeroDivisionError("a defect")
        return verdict

    monkeypatch.setattr(Session, "request_body", fails_on_some)
    body = json.dumps({"text": "x" * size}).encode()
    bad, good = await asyncio.gather(running.ask(request(body, "boom")), running.ask(request(body, "fine")))
    assert code(bad) == (500, "internal_error")
    assert json.loads(bad.immediate_response.body)["request_id"] == "boom"
    assert good.dynamic_metadata["isg"]["validated"] == "yes"


@pytest.mark.parametrize("frame", [b"\xff\xff\xff", b""])
async def test_a_message_that_is_none_is_refused_not_passed(running: Running, frame: bytes) -> None:
    assert code(await running.ask(frame)) == (500, "internal_error")


async def test_no_identity_is_never_through(running: Running) -> None:
    message = request()
    message.metadata_context.Clear()
    assert code(await running.ask(message)) == (503, "no_identity")


async def test_a_client_that_goes_away_leaves_nothing_behind(running: Running) -> None:
    for _ in range(5):
        stream = running.stream()
        await stream.write(request())
        await stream.read()
        stream.cancel()
    for _ in range(100):
        if running.streams() == 0:
            break
        await asyncio.sleep(0.01)
    assert running.streams() == 0
    assert (await running.ask(request())).HasField("request_body")


async def test_health_follows_the_policy(running: Running) -> None:
    assert await running.health() == health_pb2.HealthCheckResponse.NOT_SERVING
    await running.server.set_serving(serving=True)
    assert await running.health() == health_pb2.HealthCheckResponse.SERVING


async def test_a_stop_lets_exchanges_in_progress_end(running: Running) -> None:
    stream = running.stream()
    await stream.write(request())
    await stream.read()
    stopping = asyncio.create_task(running.server.stop(5))
    await asyncio.sleep(0.05)
    await stream.write(head())
    assert (await stream.read()).HasField("response_headers")
    # A body that would go to a thread still gets its verdict.
    await stream.write(answer_body(GOOD + b" " * 300_000))
    assert (await stream.read()).HasField("response_body")
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    await asyncio.wait_for(stopping, 2)
