"""The two services' part: Envoy's questions to them, made from the filters' configuration, and what their answers do.

The services themselves are handed in (:class:`Services`); they answer with the code that serves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from google.protobuf.json_format import MessageToDict

from control_plane.explain.exchange import Exchange, Reply
from control_plane.explain.replies import answered
from control_plane.explain.unknown import CannotExplainError
from control_plane.explain.values import string_matches
from gateway import envoy_api as api
from gateway.names import (
    ATTR_PATH,
    ATTR_REQUEST_ID,
    ATTR_ROUTE,
    ATTR_TRACEPARENT,
    EXT_PROC_ATTRIBUTES,
    HEADER_REQUEST_ID,
    NS_AUTHZ,
)
from gateway.policy import GatewayPolicy
from gateway.policy_client import PolicySet

_BUFFERED: Final = api.ext_proc_filter_v3.ProcessingMode.BUFFERED


class CheckAnswer(Protocol):
    """ext_authz's answer, and why it is so (for the operator's eyes: clients are not told)."""

    @property
    def status(self) -> int:
        """200 lets the request pass."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The answer's headers."""

    @property
    def body(self) -> bytes:
        """The answer's body."""

    @property
    def reason(self) -> str:
        """Which key it was, and what is wrong with it."""


class Authorize(Protocol):
    """ext_authz."""

    def __call__(
        self, policy: GatewayPolicy, method: str, target: str, headers: Sequence[tuple[str, str]]
    ) -> CheckAnswer:
        """Answer Envoy's question about one request."""


class Judge(Protocol):
    """ext_proc."""

    def __call__(
        self, policies: PolicySet, request: api.ext_proc_v3.ProcessingRequest
    ) -> api.ext_proc_v3.ProcessingResponse:
        """Answer Envoy's message about one body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    """The services that decide."""

    authorize: Authorize
    judge: Judge


def ext_authz(
    name: str,
    config: api.ext_authz_v3.ExtAuthz,
    exchange: Exchange,
    ask: Authorize,
    policy: GatewayPolicy,
) -> Reply | None:
    """Run the filter: what Envoy would send the service, and identity as metadata."""
    service = config.http_service
    if not config.HasField("http_service") or config.HasField("with_request_body"):
        raise CannotExplainError(f"filter {name} asks its service in a way that isg explain does not know")
    allowed = config.allowed_headers.patterns
    sent = [
        (header, value)
        for header, value in exchange.headers.items()
        if not header.startswith(":") and any(string_matches(pattern, header) for pattern in allowed)
    ]
    answer = ask(policy, exchange.method, service.path_prefix + exchange.path, sent)
    if answer.status != 200:
        exchange.say(name, "refused", answer.reason)
        return answered(answer.status, answer.body)
    patterns = service.authorization_response.dynamic_metadata_from_headers.patterns
    exchange.metadata[NS_AUTHZ] = {
        header.lower(): value
        for header, value in answer.headers.items()
        if any(string_matches(pattern, header.lower()) for pattern in patterns)
    }
    exchange.say(name, "passed", answer.reason)
    return None


def ext_proc(
    name: str,
    config: api.ext_proc_filter_v3.ExternalProcessor,
    exchange: Exchange,
    ask: Judge,
    policies: PolicySet,
) -> Reply | None:
    """Run the filter's request phase: the one message, and what its answer does."""
    mode = config.processing_mode
    skip = api.ext_proc_filter_v3.ProcessingMode.SKIP
    if mode.request_header_mode != skip or mode.request_body_mode != _BUFFERED:
        raise CannotExplainError(f"filter {name} is asked in phases that isg explain does not know")
    if exchange.ends_with_headers:
        exchange.say(name, "not asked", "there is no body")
        return None
    answer = ask(policies, _message(config, exchange))
    if answer.WhichOneof("response") == "immediate_response":
        reply = answered(answer.immediate_response.status.code, answer.immediate_response.body)
        exchange.say(name, "refused", reply.detail)
        return reply
    receives = config.metadata_options.receiving_namespaces.untyped
    for namespace, members in MessageToDict(answer.dynamic_metadata).items():
        if namespace in receives:
            exchange.metadata.setdefault(namespace, {}).update(members)
    common = answer.request_body.response
    kind = common.body_mutation.WhichOneof("mutation")
    if kind is None:
        exchange.say(name, "passed", "the body is right, and goes on as it is")
    elif kind == "body":
        exchange.body = common.body_mutation.body
        exchange.say(name, "passed, with a translated body", _shown(exchange.body))
    else:
        raise CannotExplainError(f"filter {name} answers with a {kind}, which isg explain does not know")
    return None


def _message(config: api.ext_proc_filter_v3.ExternalProcessor, exchange: Exchange) -> api.ext_proc_v3.ProcessingRequest:
    message = api.ext_proc_v3.ProcessingRequest()
    message.request_body.body = exchange.body
    message.request_body.end_of_stream = True
    attributes = message.attributes[EXT_PROC_ATTRIBUTES]
    known = {
        ATTR_ROUTE: exchange.route.name if exchange.route is not None else None,
        ATTR_PATH: exchange.path,
        ATTR_REQUEST_ID: exchange.headers.get(HEADER_REQUEST_ID),
        ATTR_TRACEPARENT: exchange.headers.get("traceparent"),
    }
    for attribute in config.request_attributes:
        if attribute not in known:
            raise CannotExplainError(f"ext_proc is told {attribute}, which isg explain does not know")
        if known[attribute] is not None:
            attributes.update({attribute: known[attribute]})
    for namespace in config.metadata_options.forwarding_namespaces.untyped:
        members: dict[str, Any] | None = exchange.metadata.get(namespace)
        if members is not None:
            message.metadata_context.filter_metadata[namespace].update(members)
    return message


def _shown(body: bytes) -> str:
    text = body.decode("utf-8", "replace")
    return text if len(text) <= 200 else f"{text[:199]}… ({len(body)} bytes)"
