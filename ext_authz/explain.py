"""ext_authz's answer to one question, for ``isg explain``: the code that serves, and reasons that clients are not told.

A request is judged by the credential that it carries, or, where an operator names a key by its id, as if it carried
that key's secret. Nothing is written: no use of a key is noted.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from multidict import CIMultiDict, CIMultiDictProxy

from ext_authz.api_keys.index import KeyIndex, key_facts
from ext_authz.api_keys.store import KeyStore, StoredKey
from ext_authz.authorizer import identity_headers, refusal
from ext_authz.credential import Credential, read_credential
from ext_authz.decision import BAD_TARGET, Allow, CredentialFacts, KeyFacts, decide
from ext_authz.expiry import iso
from ext_authz.request_target import read_target
from gateway.policy import GatewayPolicy
from gateway.state import StateDir


class NoSuchKeyError(LookupError):
    """There is no key with this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """An answer to Envoy, with its reason.

    Attributes:
        reason: for the operator: which key, and what is wrong with it.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    reason: str


class Authorization:
    """Answers as a running ext_authz would, from the keys as they are stored now.

    Args:
        key_id: judge as if the request carried this key's secret; None goes by the request's own credential.

    Raises:
        KeyStoreError: the keys cannot be read.
        NoSuchKeyError: no key has this id.
    """

    def __init__(self, state: StateDir, *, key_id: str | None, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._index = KeyIndex()
        keys, pepper = _stored(state)
        self._index.replace(keys, pepper)
        self._key: KeyFacts | None = None
        if key_id is not None:
            record = next((key.record for key in keys if key.record.id == key_id), None)
            if record is None:
                raise NoSuchKeyError("there is no key with this id (it begins with key_; see isg keys list)")
            self._key = key_facts(record)

    def __call__(self, policy: GatewayPolicy, method: str, target: str, headers: Sequence[tuple[str, str]]) -> Judged:
        """Answer Envoy's question ``<method> <target>``."""
        sent = CIMultiDictProxy(CIMultiDict(headers))
        request = read_target(method, target)
        if request is None:
            answer = refusal(BAD_TARGET, None, sent)
            return Judged(status=answer.status, headers=answer.headers, body=answer.body, reason=BAD_TARGET.message)
        presented = read_credential(sent.getall("authorization", ()), sent.getall("x-api-key", ()))
        key = self._key
        if key is None:
            key = self._index.find(presented.secret) if presented.secret else None
        else:
            presented = Credential("secret")
        now = self._now()
        verdict = decide(CredentialFacts(presented.presentation, key, self._index.loaded), request, policy, now)
        if isinstance(verdict, Allow):
            reason = f"{_named(verdict.key)} may use {_models(verdict.key)}"
            return Judged(status=200, headers=identity_headers(verdict.key), body=b"", reason=reason)
        answer = refusal(verdict, request.path, sent)
        reason = _reason(presented, key, verdict.message, now)
        return Judged(status=answer.status, headers=answer.headers, body=answer.body, reason=reason)


def _stored(state: StateDir) -> tuple[tuple[StoredKey, ...], bytes]:
    """All keys; none where there is no store yet, as a first start would find."""
    if not state.key_store.exists():
        return (), b""
    with KeyStore.open(state, create=False) as store:
        return store.changes(None).keys, store.pepper


def _reason(presented: Credential, key: KeyFacts | None, message: str, now: float) -> str:
    if presented.presentation == "absent":
        return "the request carries no credential"
    if presented.presentation == "malformed":
        return "the credential is not `Bearer KEY`"
    if presented.presentation == "ambiguous":
        return "the request carries more than one credential"
    if key is None:
        return "no key has this secret"
    if key.revoked:
        return f"{_named(key)} is revoked"
    if key.expires_at is not None and now >= key.expires_at:
        return f"{_named(key)} expired at {iso(key.expires_at)}"
    return f"{_named(key)} may use {_models(key)}: {message}"


def _named(key: KeyFacts) -> str:
    return f"key {key.id} of tenant {key.tenant}, tier {key.tier},"


def _models(key: KeyFacts) -> str:
    return "every model" if key.models == "*" else key.models.strip(",").replace(",", ", ")
