"""The decision: may this request pass? One pure function; everything it goes by is an argument.

The words of a refusal do not tell a wrong key from an expired or revoked one, nor a model that is forbidden from one
that does not exist.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ext_authz.credential import Presentation
from ext_authz.request_target import RequestFacts
from gateway.names import PATH_MODEL_PREDICT, may_use
from gateway.policy import GatewayPolicy
from gateway.problem import Problem

RETRY_AFTER_S: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyFacts:
    """A key whose secret the client has shown.

    Attributes:
        models: as in :data:`gateway.names.HEADER_MODELS`.
        expires_at: the first Unix second in which it is no longer valid; None means never.
    """

    id: str
    tenant: str
    tier: str
    models: str
    expires_at: int | None
    revoked: bool


@dataclass(frozen=True, slots=True)
class CredentialFacts:
    """What is known of a request's credential.

    Attributes:
        key: the key that the presented secret belongs to, if it belongs to one.
        store_loaded: whether the keys have been read at all.
    """

    presentation: Presentation
    key: KeyFacts | None = field(default=None)
    store_loaded: bool = field(default=True)


@dataclass(frozen=True, slots=True)
class Allow:
    """The request may pass, in the name of this key."""

    key: KeyFacts


_RETRY: Final = {"retry-after": str(RETRY_AFTER_S)}

BAD_TARGET: Final = Problem(status=400, code="invalid_request", message="The request line is not one that is served.")
NO_POLICY: Final = Problem(
    status=503,
    code="gateway_not_ready",
    message="The gateway has no policy yet. Try again in a moment.",
    headers=_RETRY,
)
NO_KEYS: Final = Problem(
    status=503,
    code="keys_unavailable",
    message="Credentials cannot be checked right now. Try again in a moment.",
    headers=_RETRY,
)
FAILED: Final = Problem(
    status=503,
    code="authorization_failed",
    message="The request could not be authorized because of an error in the gateway. Try again in a moment.",
    headers=_RETRY,
)
NO_CREDENTIAL: Final = Problem(
    status=401,
    code="no_credential",
    message="Send an API key: `Authorization: Bearer KEY` or `x-api-key: KEY`.",
    headers={"www-authenticate": "Bearer"},
)
AMBIGUOUS_CREDENTIAL: Final = Problem(
    status=400, code="ambiguous_credential", message="The request carries more than one credential: send exactly one."
)
INVALID_CREDENTIAL: Final = Problem(
    status=401,
    code="invalid_credential",
    message="The credential is not valid.",
    headers={"www-authenticate": 'Bearer error="invalid_token"'},
)
MODEL_NOT_ALLOWED: Final = Problem(status=403, code="model_not_allowed", message="This key may not use this model.")
MODEL_NOT_FOUND: Final = Problem(status=404, code="unknown_model", message="There is no such model.")


def decide(
    credential: CredentialFacts, request: RequestFacts, policy: GatewayPolicy | None, now: float
) -> Allow | Problem:
    """Judge one request at the Unix time `now`."""
    if request.path is None:
        return BAD_TARGET
    if policy is None:
        return NO_POLICY
    if credential.presentation == "absent":
        return NO_CREDENTIAL
    if credential.presentation == "ambiguous":
        return AMBIGUOUS_CREDENTIAL
    if not credential.store_loaded:
        return NO_KEYS
    key = credential.key
    if credential.presentation != "secret" or key is None or key.revoked:
        return INVALID_CREDENTIAL
    if key.expires_at is not None and now >= key.expires_at:
        return INVALID_CREDENTIAL
    return _judge_model(key, request.path, policy) or Allow(key)


def _judge_model(key: KeyFacts, path: str, policy: GatewayPolicy) -> Problem | None:
    """A model named in the path must be the key's, and served; a model in the body is judged by Envoy and ext_proc."""
    named = PATH_MODEL_PREDICT.match(path)
    if named is None:
        return None
    model = named[1]
    if not may_use(key.models, model):
        return MODEL_NOT_ALLOWED
    return None if model in policy.models else MODEL_NOT_FOUND
