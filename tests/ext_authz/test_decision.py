"""The decision, as a table, and what holds for every request."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.decision import Allow, CredentialFacts, KeyFacts, decide
from ext_authz.request_target import RequestFacts
from gateway.policy import GatewayPolicy
from gateway.problem import Problem

NOW = 1_000_000.0
KEY = KeyFacts(id="key_1", tenant="acme", tier="standard", models=",digits,language,", expires_at=None, revoked=False)
POLICY = GatewayPolicy(models=("digits", "language", "secret-model"))
PREDICT = RequestFacts("POST", "/v1/predict")


def shown(**changes: Any) -> CredentialFacts:
    return CredentialFacts("secret", dataclasses.replace(KEY, **changes))


def to_model(model: str) -> RequestFacts:
    return RequestFacts("POST", f"/v1/models/{model}:predict")


@pytest.mark.parametrize(
    ("credential", "request_facts", "policy", "expected"),
    [
        (shown(), PREDICT, POLICY, "allow"),
        (shown(), RequestFacts("GET", "/v1/models"), POLICY, "allow"),
        (shown(), RequestFacts("POST", None), POLICY, "400 invalid_request"),
        (CredentialFacts("absent"), RequestFacts("POST", None), None, "400 invalid_request"),
        (shown(), PREDICT, None, "503 gateway_not_ready"),
        (CredentialFacts("absent"), PREDICT, None, "503 gateway_not_ready"),
        (CredentialFacts("absent"), PREDICT, POLICY, "401 no_credential"),
        (CredentialFacts("ambiguous"), PREDICT, POLICY, "400 ambiguous_credential"),
        (CredentialFacts("malformed"), PREDICT, POLICY, "401 invalid_credential"),
        (CredentialFacts("secret"), PREDICT, POLICY, "401 invalid_credential"),
        (CredentialFacts("secret", None, store_loaded=False), PREDICT, POLICY, "503 keys_unavailable"),
        (CredentialFacts("malformed", None, store_loaded=False), PREDICT, POLICY, "503 keys_unavailable"),
        (CredentialFacts("absent", None, store_loaded=False), PREDICT, POLICY, "401 no_credential"),
        (shown(revoked=True), PREDICT, POLICY, "401 invalid_credential"),
        (shown(expires_at=1_000_001), PREDICT, POLICY, "allow"),
        (shown(expires_at=1_000_000), PREDICT, POLICY, "401 invalid_credential"),
        (shown(expires_at=0), PREDICT, POLICY, "401 invalid_credential"),
        (shown(), to_model("digits"), POLICY, "allow"),
        (shown(), to_model("language"), POLICY, "allow"),
        (shown(), to_model("secret-model"), POLICY, "403 model_not_allowed"),
        (shown(), to_model("nowhere"), POLICY, "403 model_not_allowed"),
        (shown(), to_model("digit"), POLICY, "403 model_not_allowed"),
        (shown(models="*"), to_model("secret-model"), POLICY, "allow"),
        (shown(models="*"), to_model("nowhere"), POLICY, "404 unknown_model"),
        (shown(), to_model("digits"), GatewayPolicy(), "404 unknown_model"),
        (shown(revoked=True), to_model("secret-model"), POLICY, "401 invalid_credential"),
        # Not a model's path: Envoy has no route for these, and a body's model is not judged here.
        (shown(), to_model("digits,language"), POLICY, "allow"),
        (shown(), RequestFacts("POST", "/v1/models/secret-model:predict/x"), POLICY, "allow"),
    ],
)
def test_the_table(
    credential: CredentialFacts, request_facts: RequestFacts, policy: GatewayPolicy | None, expected: str
) -> None:
    verdict = decide(credential, request_facts, policy, NOW)
    assert ("allow" if isinstance(verdict, Allow) else f"{verdict.status} {verdict.code}") == expected


def test_an_unknown_a_revoked_an_expired_and_a_malformed_key_get_the_very_same_answer() -> None:
    answers = [
        decide(facts, PREDICT, POLICY, NOW)
        for facts in (
            CredentialFacts("malformed"),
            CredentialFacts("secret"),
            shown(revoked=True),
            shown(expires_at=5),
        )
    ]
    assert answers == [answers[0]] * 4
    assert isinstance(answers[0], Problem)
    assert answers[0].headers == {"www-authenticate": 'Bearer error="invalid_token"'}


def test_a_forbidden_and_an_unknown_model_get_the_very_same_answer() -> None:
    assert decide(shown(), to_model("secret-model"), POLICY, NOW) == decide(shown(), to_model("x"), POLICY, NOW)


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
KEYS = st.builds(
    KeyFacts,
    id=st.just("key_1"),
    tenant=NAMES,
    tier=NAMES,
    models=st.just("*") | st.lists(NAMES, min_size=1).map(lambda names: f",{','.join(names)},"),
    expires_at=st.none() | st.integers(0, 2_000_000),
    revoked=st.booleans(),
)
FACTS = st.builds(
    CredentialFacts,
    st.sampled_from(["absent", "ambiguous", "malformed", "secret"]),
    st.none() | KEYS,
    st.booleans(),
)
REQUESTS = st.builds(
    RequestFacts,
    st.just("POST"),
    st.none() | st.just("/v1/predict") | NAMES.map(lambda name: f"/v1/models/{name}:predict"),
)
POLICIES = st.none() | st.builds(GatewayPolicy, models=st.lists(NAMES).map(tuple))


@given(FACTS, REQUESTS, POLICIES, st.floats(0, 2_000_000))
def test_only_a_good_key_under_a_policy_ever_passes(
    facts: CredentialFacts, request_facts: RequestFacts, policy: GatewayPolicy | None, now: float
) -> None:
    verdict = decide(facts, request_facts, policy, now)
    if not isinstance(verdict, Allow):
        assert verdict.status in {400, 401, 403, 404, 503}
        assert (verdict.status == 401) == ("www-authenticate" in verdict.headers)
        assert (verdict.status == 503) == ("retry-after" in verdict.headers)
        return
    assert policy is not None
    assert facts.presentation == "secret"
    assert facts.store_loaded
    assert verdict.key is facts.key
    assert not verdict.key.revoked
    assert verdict.key.expires_at is None or now < verdict.key.expires_at
    assert request_facts.path is not None
    if request_facts.path.startswith("/v1/models/"):
        model = request_facts.path.removeprefix("/v1/models/").removesuffix(":predict")
        assert model in policy.models
        assert verdict.key.models == "*" or model in verdict.key.models.split(",")
