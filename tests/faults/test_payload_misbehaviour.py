"""A payload service that answers wrongly in every way: nothing reaches a model server without a verdict."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from gateway import names
from gateway.envoy_api import core_v3, ext_proc_v3, protobuf, type_v3
from tests.support.recorder import Recorder
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
"""
Response = ext_proc_v3.ProcessingResponse
Context = Any  # grpc.aio has no types
Behaviour = Callable[[str, Context], Awaitable[bool]]


def marked(value: str = names.VALIDATED_YES, key: str = names.META_VALIDATED) -> bytes:
    """The metadata of a verdict alone."""
    metadata = protobuf.Struct()
    metadata.update({names.NS_ISG: {key: value, names.META_MODEL: "m1"}})
    return Response(dynamic_metadata=metadata).SerializeToString()


def going_on(phase: str) -> bytes:
    """An answer without a word about the verdict."""
    response = Response()
    getattr(response, phase).SetInParent()
    return response.SerializeToString()


def writes(*answers: bytes, end: bool = False) -> Behaviour:
    """Write these to a request's body, and go on with all else; with `end` the stream then ends with OK."""

    async def behave(phase: str, context: Context) -> bool:
        for answer in answers if phase == "request_body" else (going_on(phase),):
            await context.write(answer)
        return end

    return behave


async def aborts(_: str, context: Context) -> bool:
    await context.abort(grpc.StatusCode.INTERNAL, "canary")
    return True


async def crashes_at_the_answer(phase: str, context: Context) -> bool:
    if phase != "request_body":
        await context.abort(grpc.StatusCode.INTERNAL, "canary")
    await context.write(marked() + going_on(phase))
    return False


async def crashes_at_the_answers_body(phase: str, context: Context) -> bool:
    if phase == "response_body":
        await context.abort(grpc.StatusCode.INTERNAL, "canary")
    await context.write(going_on(phase) if phase == "response_headers" else marked() + going_on(phase))
    return False


async def answers_the_answer_wrongly(phase: str, context: Context) -> bool:
    await context.write(going_on("request_body") if phase != "request_body" else marked() + going_on(phase))
    return False


def mode_override() -> bytes:
    response = Response()
    response.request_body.SetInParent()
    response.mode_override.response_header_mode = 1
    return response.SerializeToString()


def a_header_of_two_lines() -> bytes:
    response = Response()
    header = core_v3.HeaderValue(key="content-type", raw_value=b"a\nb")
    response.request_body.response.header_mutation.set_headers.add(header=header)
    return response.SerializeToString()


@dataclass(slots=True)
class Rogue:
    """The service; ``behave`` is what it does now."""

    behave: Behaviour

    async def process(self, _: AsyncIterator[bytes], context: Context) -> None:
        behave = self.behave
        while (frame := await context.read()) is not grpc.aio.EOF:
            phase = ext_proc_v3.ProcessingRequest.FromString(frame).WhichOneof("request")
            if await behave(phase or "", context):
                return

    async def serve(self, stack: Stack) -> Callable[[], Awaitable[None]]:
        """Serve ext_proc's socket, healthy as far as Envoy can tell."""
        server = grpc.aio.server()
        handler = grpc.stream_stream_rpc_method_handler(self.process)
        service = "envoy.service.ext_proc.v3.ExternalProcessor"
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Process": handler}),))
        servicer = health.aio.HealthServicer()
        await servicer.set("", health_pb2.HealthCheckResponse.SERVING)
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
        server.add_insecure_port(f"unix:{stack.state.ext_proc_socket}")
        await server.start()

        async def stop() -> None:
            await server.stop(None)

        return stop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def recorder() -> AsyncIterator[Recorder]:
    started = await Recorder().start()
    yield started
    await started.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def rogue() -> Rogue:
    return Rogue(writes(going_on("request_body")))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, recorder: Recorder, rogue: Rogue) -> AsyncIterator[Stack]:
    files = {
        "gateway.yaml": GATEWAY,
        "backends/main.yaml": f"server: kserve\nmodel: m\nendpoints: ['{recorder.address}']\n",
    }
    parts = ("control-plane", "ext-authz", "envoy")
    async with running(tmp_path_factory.mktemp("rogue"), files, first=parts, before=rogue.serve) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


BODY = going_on("request_body")


@pytest.mark.parametrize(
    ("behave", "code"),
    [
        pytest.param(writes(end=True), "no_verdict", id="ends-with-OK"),
        pytest.param(writes(BODY), "no_verdict", id="no-mark"),
        pytest.param(writes(BODY, end=True), "no_verdict", id="no-mark-and-ends"),
        pytest.param(writes(marked("no") + BODY), "no_verdict", id="marked-no"),
        pytest.param(writes(marked("yes", "other") + BODY), "no_verdict", id="marked-elsewhere"),
        pytest.param(writes(mode_override()), "no_verdict", id="another-mode"),
        pytest.param(writes(BODY, marked() + BODY), "validation_unavailable", id="twice-the-mark-too-late"),
        pytest.param(writes(marked() + going_on("request_headers")), "validation_unavailable", id="headers-phase"),
        pytest.param(writes(marked() + going_on("request_trailers")), "validation_unavailable", id="trailers-phase"),
        pytest.param(writes(marked() + going_on("response_headers")), "validation_unavailable", id="answers-phase"),
        pytest.param(writes(marked()), "validation_unavailable", id="mark-without-answer"),
        pytest.param(writes(marked(), end=True), "validation_unavailable", id="mark-and-ends"),
        pytest.param(writes(b""), "validation_unavailable", id="empty"),
        pytest.param(writes(b"\xff\xff\xff garbage"), "validation_unavailable", id="garbage"),
        pytest.param(aborts, "validation_unavailable", id="aborts"),
    ],
)
async def test_a_wrong_answer_to_a_request_lets_nothing_through(
    gateway: Stack, rogue: Rogue, recorder: Recorder, key: str, behave: Behaviour, code: str
) -> None:
    rogue.behave = behave
    recorder.received.clear()
    reply = await gateway.predict({"text": "RAW"}, key)
    assert reply.status == 503, reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["retry-after"]
    assert reply.json["code"] == code
    assert b"canary" not in reply.body
    await asyncio.sleep(0.02)
    assert recorder.received == []


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(crashes_at_the_answer, id="dies-between-request-and-answer"),
        pytest.param(crashes_at_the_answers_body, id="dies-at-the-answers-body"),
        pytest.param(answers_the_answer_wrongly, id="wrong-phase"),
    ],
)
async def test_an_answer_that_nobody_has_shaped_is_not_shown(
    gateway: Stack, rogue: Rogue, recorder: Recorder, key: str, behave: Behaviour
) -> None:
    rogue.behave = behave
    reply = await gateway.predict({"text": "a"}, key)
    assert reply.status == 503, reply
    assert reply.json["code"] == "validation_unavailable"
    assert b"scores" not in reply.body


async def test_headers_that_a_verdict_must_not_set_are_not_set(
    gateway: Stack, rogue: Rogue, recorder: Recorder, key: str
) -> None:
    response = Response()
    mutation = response.request_body.response.header_mutation
    for name in ("authorization", "x-api-key", ":path", "host"):
        mutation.set_headers.add(header=core_v3.HeaderValue(key=name, raw_value=b"/canary"))
    response.request_body.response.clear_route_cache = True
    rogue.behave = writes(marked() + response.SerializeToString())
    recorder.received.clear()
    assert (await gateway.predict({"text": "a"}, key)).status == 200
    assert len(recorder.received) == 1
    assert "canary" not in recorder.received[0].text


async def test_a_header_of_two_lines_is_no_second_header(
    gateway: Stack, rogue: Rogue, recorder: Recorder, key: str
) -> None:
    rogue.behave = writes(marked() + a_header_of_two_lines())
    recorder.received.clear()
    reply = await gateway.predict({"text": "a"}, key)
    assert reply.status in {200, 503}
    assert all(received.headers["content-type"] == "application/json" for received in recorder.received)


async def test_a_refusal_ends_the_request(gateway: Stack, rogue: Rogue, recorder: Recorder, key: str) -> None:
    refusal = ext_proc_v3.ImmediateResponse(status=type_v3.HttpStatus(code=422), details=names.DETAILS_PROBLEM)
    rogue.behave = writes(marked() + Response(immediate_response=refusal).SerializeToString())
    recorder.received.clear()
    assert (await gateway.predict({"text": "a"}, key)).status == 422
    assert recorder.received == []
