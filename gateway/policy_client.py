"""Subscription of a service to its policy: a delta xDS client for our own resource type.

The last good set lies on disk, so a service starts and goes on while the control plane is away; a set that cannot be
enforced is refused with its reason (NACK), and the one before it stays.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import grpc
import grpc.aio
import structlog
from google.protobuf.message import DecodeError
from google.protobuf.wrappers_pb2 import BytesValue

from gateway import policy_cache
from gateway.envoy_api import core_v3, discovery_v3, rpc
from gateway.names import POLICY_TYPE_URL
from gateway.policy import (
    GATEWAY_POLICY,
    GatewayPolicy,
    ModelPolicy,
    Policy,
    PolicyError,
    decode,
    encode,
    resource_name,
)
from gateway.state import Service

_METHOD: Final = "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources"
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", -1),
    # A control plane that is frozen, or gone without a word, is noticed by pings that nobody answers.
    ("grpc.keepalive_time_ms", 5_000),
    ("grpc.keepalive_timeout_ms", 3_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.use_local_subchannel_pool", 1),
    # Our own delays decide when to try again; gRPC's would grow to two minutes.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
_FIRST_DELAY_S: Final = 0.1
_LONGEST_DELAY_S: Final = 1.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()

Request = discovery_v3.DeltaDiscoveryRequest
Response = discovery_v3.DeltaDiscoveryResponse


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """Everything a service enforces, as of one moment.

    Attributes:
        models: by resource name (= route name); withdrawn ones stay until no request can still be routed by them.
    """

    gateway: GatewayPolicy
    models: Mapping[str, ModelPolicy]


#: Takes a new set; raises :class:`gateway.policy.PolicyError` to refuse it (the refusal becomes a NACK with its words).
Apply = Callable[[PolicySet], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One policy as it was received."""

    version: str
    document: bytes
    policy: Policy


def policy_resource(policy: Policy) -> tuple[str, bytes]:
    """A policy as an xDS resource: its name, and the bytes of a ``google.protobuf.BytesValue`` with its document."""
    return resource_name(policy), BytesValue(value=encode(policy)).SerializeToString(deterministic=True)


def updated(held: Mapping[str, Held], response: Response) -> dict[str, Held]:
    """The policies after a response.

    Raises:
        PolicyError: a resource is no policy, or does not bear its policy's name.
    """
    result = dict(held)
    for name in response.removed_resources:
        result.pop(name, None)
    for resource in response.resources:
        try:
            document = BytesValue.FromString(resource.resource.value).value
        except DecodeError as error:
            raise PolicyError(f"{resource.name}: not a policy resource") from error
        policy = decode(document)
        if resource_name(policy) != resource.name:
            raise PolicyError(f"{resource.name}: holds the policy {resource_name(policy)}")
        result[resource.name] = Held(version=resource.version, document=document, policy=policy)
    return result


def policy_set(held: Mapping[str, Held]) -> PolicySet | None:
    """The set to enforce; None while the gateway's own policy is missing."""
    gateway = held.get(GATEWAY_POLICY)
    if gateway is None or not isinstance(gateway.policy, GatewayPolicy):
        return None
    models = {name: one.policy for name, one in held.items() if isinstance(one.policy, ModelPolicy)}
    return PolicySet(gateway=gateway.policy, models=models)


class PolicySubscription:
    """Keeps a service's policy current. ``await run()`` until cancelled.

    Attributes:
        connected: whether the control plane has answered on the stream that is open now. While it has not, the last
            good policy stays in force.
    """

    def __init__(self, *, service: Service, ads_socket: Path, cache: Path, apply: Apply) -> None:
        self.service, self.ads_socket, self.cache, self.apply = service, ads_socket, cache, apply
        self.connected = False
        self._held: dict[str, Held] = {}

    async def run(self) -> None:
        """Load the last good policy from disk, then follow the control plane for ever."""
        self._start_from_cache()
        delay_s, told = _FIRST_DELAY_S, ""
        while True:
            try:
                async for _ in self._follow():
                    delay_s, told, self.connected = _FIRST_DELAY_S, "", True
                reason = "the control plane ended the stream"
            except grpc.aio.AioRpcError as error:
                reason = error.code().name
            except (DecodeError, asyncio.InvalidStateError) as error:
                reason = f"{type(error).__name__}: {error}"
            finally:
                self.connected = False
            if reason != told:
                log.warning("policy_stream_ended", reason=reason, meaning="the last good policy stays in force")
                told = reason
            await asyncio.sleep(delay_s * random.uniform(0.5, 1))  # noqa: S311 - spreads reconnects, guards nothing
            delay_s = min(delay_s * 2, _LONGEST_DELAY_S)

    def _start_from_cache(self) -> None:
        try:
            documents = policy_cache.read(self.cache)
            self._take({name: Held(version=v, document=d, policy=decode(d)) for name, (v, d) in documents.items()})
        except (policy_cache.CacheError, PolicyError) as error:
            log.warning("policy_cache_ignored", reason=str(error))
        except Exception:  # a start without a policy is better than none
            log.exception("policy_cache_ignored")

    async def _follow(self) -> AsyncIterator[None]:
        """One stream; yields after every answered response."""
        async with grpc.aio.insecure_channel(f"unix:{self.ads_socket}", options=_OPTIONS) as channel:
            call = channel.stream_stream(
                _METHOD, request_serializer=Request.SerializeToString, response_deserializer=Response.FromString
            )()
            await call.write(self._first_request())
            while (response := await call.read()) is not grpc.aio.EOF:
                await call.write(self._answer(response))
                yield

    def _first_request(self) -> Request:
        return Request(
            node=core_v3.Node(id=f"{self.service}-{os.getpid()}", cluster=self.service),
            type_url=POLICY_TYPE_URL,
            resource_names_subscribe=["*"],
            initial_resource_versions={name: held.version for name, held in self._held.items()},
        )

    def _answer(self, response: Response) -> Request:
        """Take a response: an ACK once it is in force, or a NACK that says why it is not."""
        answer = Request(type_url=POLICY_TYPE_URL, response_nonce=response.nonce)
        try:
            held = updated(self._held, response)
            self._take(held)
        except PolicyError as error:
            return self._refusal(answer, str(error))
        except Exception as error:  # whatever a service makes of it is said, and does not end the subscription
            log.exception("policy_not_applied")
            return self._refusal(answer, f"{type(error).__name__}: {error}")
        try:
            policy_cache.write(self.cache, {name: (one.version, one.document) for name, one in held.items()})
        except OSError as error:
            # In force all the same: the cache matters only to a start without a control plane.
            log.error("policy_cache_not_written", reason=str(error))
        return answer

    def _refusal(self, answer: Request, words: str) -> Request:
        log.error("policy_refused", reason=words, meaning="the last good policy stays in force")
        answer.error_detail.CopyFrom(rpc.Status(code=grpc.StatusCode.INVALID_ARGUMENT.value[0], message=words))
        return answer

    def _take(self, held: dict[str, Held]) -> None:
        policies = policy_set(held)
        if policies is not None:
            self.apply(policies)
            log.info("policy_in_force", models=len(policies.models))
        self._held = held
