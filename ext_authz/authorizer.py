"""From Envoy's question to an answer, without any I/O: reads the headers, finds the key, asks the decision."""

from __future__ import annotations

import time
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass
from typing import Any, Protocol

import structlog
from multidict import CIMultiDict, CIMultiDictProxy

from ext_authz.api_keys.index import KeyIndex
from ext_authz.credential import read_credential
from ext_authz.decision import FAILED, Allow, CredentialFacts, KeyFacts, decide
from ext_authz.metrics import Metrics
from ext_authz.request_target import RequestFacts, dialect_of
from gateway.names import HEADER_KEY_ID, HEADER_MODELS, HEADER_REQUEST_ID, HEADER_TENANT, HEADER_TIER
from gateway.policy import GatewayPolicy
from gateway.policy_client import PolicySet
from gateway.problem import Problem, render
from gateway.telemetry import trace_id

_MAX_REQUEST_ID = 128


class Uses(Protocol):
    """Where the last use of keys is noted: key id → Unix seconds."""

    @property
    def used(self) -> MutableMapping[str, int]:
        """The map to write to now."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer to Envoy."""

    status: int
    headers: CIMultiDict[str]
    body: bytes


class PolicyInForce:
    """The policy that requests are judged by; None until the first one has arrived."""

    def __init__(self) -> None:
        self.gateway: GatewayPolicy | None = None

    def apply(self, policies: PolicySet) -> None:
        """Put a new policy in force."""
        self.gateway = policies.gateway


class Authorizer:
    """Answers one question at a time; whatever goes wrong is that question's 503 and nobody else's."""

    def __init__(
        self,
        *,
        index: KeyIndex,
        policy: PolicyInForce,
        uses: Uses,
        metrics: Metrics,
        now: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._index, self._policy, self._uses, self._metrics = index, policy, uses, metrics
        self._now, self._timer = now, timer
        self._log = structlog.get_logger()

    @property
    def missing(self) -> str | None:
        """What must arrive before requests can be allowed, or None."""
        if self._policy.gateway is None:
            return "no policy"
        return None if self._index.loaded else "key store not read"

    def answer(self, request: RequestFacts, headers: CIMultiDictProxy[str]) -> Answer:
        """Judge one request."""
        start = self._timer()
        key: KeyFacts | None = None
        try:
            now = self._now()
            presented = read_credential(headers.getall("authorization", ()), headers.getall("x-api-key", ()))
            key = self._index.find(presented.secret) if presented.secret else None
            facts = CredentialFacts(presented.presentation, key, self._index.loaded)
            verdict = decide(facts, request, self._policy.gateway, now)
            if isinstance(verdict, Allow):
                identity = identity_headers(verdict.key)
                self._uses.used[verdict.key.id] = int(now)
                self._metrics.allowed(self._timer() - start)
                return Answer(200, identity, b"")
        except Exception as error:
            self._log.error("authorization failed", **where(error), **request_ids(headers))
            verdict = FAILED
        self._metrics.refused(verdict.code, self._timer() - start)
        self._log.info("refused", code=verdict.code, key_id=key.id if key else None, **request_ids(headers))
        return refusal(verdict, request.path, headers)


def identity_headers(key: KeyFacts) -> CIMultiDict[str]:
    """Who the client is, for Envoy's dynamic metadata."""
    return CIMultiDict(
        (
            (HEADER_TENANT, key.tenant),
            (HEADER_KEY_ID, key.id),
            (HEADER_TIER, key.tier),
            (HEADER_MODELS, key.models),
        )
    )


def refusal(problem: Problem, path: str | None, headers: CIMultiDictProxy[str]) -> Answer:
    """A refusal in the dialect of the path."""
    rendered = render(problem, dialect_of(path), request_ids(headers).get("request_id"))
    return Answer(rendered.status, CIMultiDict(rendered.headers), rendered.body)


def request_ids(headers: CIMultiDictProxy[str]) -> dict[str, str]:
    """The request id and trace id, where they are there and fit for a log line."""
    found = {}
    request_id = headers.get(HEADER_REQUEST_ID, "")
    if request_id and len(request_id) <= _MAX_REQUEST_ID and request_id.isascii() and request_id.isprintable():
        found["request_id"] = request_id
    trace = trace_id(headers.get("traceparent"))
    if trace is not None:
        found["trace_id"] = trace
    return found


def where(error: BaseException) -> dict[str, Any]:
    """Kind and place of an error, without its text: that might quote a credential."""
    place, trace = "", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place, trace = f"{code.co_filename}:{trace.tb_lineno} {code.co_qualname}", trace.tb_next
    return {"error": type(error).__name__, "place": place}
