"""The gRPC side of the payload service: the stream loop of ext_proc, and gRPC health, on one Unix socket.

Envoy lets a request through when a stream ends well without an answer, so the loop has one rule: each message gets
exactly one answer, and what fails while judging becomes the verdict of that message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from ext_proc import frames
from ext_proc.metrics import Metrics
from ext_proc.rules import Rules
from ext_proc.session import Session
from ext_proc.verdict import PROCEED, Accept, Refuse, Verdict
from gateway.envoy_api import ext_proc_v3
from gateway.telemetry import trace_id

_OPTIONS: Final = (
    # Envoy bounds bodies by its buffers; a limit here would end streams instead of giving verdicts.
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_concurrent_streams", 100_000),
    ("grpc.so_reuseport", 0),
)
_POOL_THREADS: Final = 2

_log = structlog.get_logger()


class PayloadServer:
    """Serves ext_proc on a Unix socket.

    Args:
        socket: where to listen; a stale file is replaced.
        rules: the rules now, None when there are none yet. Asked once per exchange: both its directions are judged
            by one set.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        *,
        socket: Path,
        rules: Callable[[], Rules | None],
        metrics: Metrics,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._socket, self._rules, self._metrics, self._clock = socket, rules, metrics, clock
        self._pool = ThreadPoolExecutor(_POOL_THREADS, thread_name_prefix="payload")
        self._health = health.aio.HealthServicer()
        self._seconds = {
            name: metrics.seconds.labels(name) for name in ("request_body", "response_headers", "response_body")
        }
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Listen. Health says NOT_SERVING until :meth:`set_serving`.

        Raises:
            RuntimeError: the socket cannot be bound.
        """
        await self.set_serving(serving=False)
        self._socket.unlink(missing_ok=True)
        self._server = grpc.aio.server(options=_OPTIONS)
        handler = grpc.stream_stream_rpc_method_handler(self._process)
        self._server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(frames.SERVICE, {frames.METHOD: handler}),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self._server.add_insecure_port(f"unix:{self._socket}")
        await self._server.start()

    async def set_serving(self, *, serving: bool) -> None:
        """What health says, for the server as a whole and for ext_proc."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        for service in ("", frames.SERVICE):
            await self._health.set(service, status)

    async def stop(self, grace_s: float) -> None:
        """Say NOT_SERVING, take no new exchange, let those in progress end for `grace_s`, then end."""
        await self._health.enter_graceful_shutdown()
        if self._server is not None:
            await self._server.stop(grace_s)
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _process(self, _: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        session = Session(self._rules())
        self._metrics.streams.inc()
        try:
            while (frame := await context.read()) is not grpc.aio.EOF:
                await context.write(await self._answer(session, frame))
        finally:
            self._metrics.streams.dec()

    async def _answer(self, session: Session, frame: bytes) -> bytes:
        started = self._clock()
        of: frames.Phase | None = None
        try:
            request = ext_proc_v3.ProcessingRequest.FromString(frame)
            of = frames.phase(request)
            verdict = await self._judge(session, request, of)
            answer = frames.encode(verdict, of or "request_headers")
        except DecodeError:
            _log.error("a message of Envoy is not of its own schema", size=len(frame))
            verdict = session.broken()
            answer = frames.encode(verdict, "request_body")
        except Exception:
            # Whatever it is, it is this request's verdict and no other's.
            facts = session.facts
            _log.exception("judging failed", request_id=facts and facts.request_id, phase=of)
            verdict = session.broken()
            answer = frames.encode(verdict, "request_body")
        self._record(session, verdict)
        if of in self._seconds:
            self._seconds[of].observe(self._clock() - started)
        return answer

    async def _judge(
        self, session: Session, request: ext_proc_v3.ProcessingRequest, of: frames.Phase | None
    ) -> Verdict:
        if of == "request_body":
            facts, body = frames.request_facts(request), request.request_body.body
            if session.is_heavy(facts, len(body)):
                return await self._in_thread(session.request_body, facts, body)
            return session.request_body(facts, body)
        if of == "response_body":
            body = request.response_body.body
            if session.is_large(len(body)):
                return await self._in_thread(session.response_body, body)
            return session.response_body(body)
        if of == "response_headers":
            return session.response_headers(frames.response_facts(request))
        if of is None:
            raise ValueError("a message without a phase")
        return PROCEED

    async def _in_thread(self, work: Callable[..., Verdict], *arguments: object) -> Verdict:
        return await asyncio.get_running_loop().run_in_executor(self._pool, work, *arguments)

    def _record(self, session: Session, verdict: Verdict) -> None:
        if isinstance(verdict, Accept):
            self._metrics.verdicts.labels(verdict.model, "ok").inc()
        elif isinstance(verdict, Refuse):
            self._metrics.verdicts.labels(session.model or "", verdict.code).inc()
            facts = session.facts
            _log.info(
                "refused",
                request_id=facts and facts.request_id,
                trace_id=trace_id(None if facts is None else facts.traceparent),
                code=verdict.code,
                status=verdict.answer.status,
                model=session.model,
            )
