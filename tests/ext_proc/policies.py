"""Policies and facts that the tests of the payload service share."""

from __future__ import annotations

from ext_proc.facts import RequestFacts
from ext_proc.rules import Rules, compile_rules
from gateway.policy import GatewayPolicy, ImageRule, InputRule, ModelPolicy, OutputRule, TensorRule
from gateway.policy_client import PolicySet

LIMIT = 1 << 20


def model(name: str = "language", **changes: object) -> ModelPolicy:
    settings: dict[str, object] = {
        "model": name,
        "upstream_model": name,
        "max_body_bytes": LIMIT,
        "max_response_bytes": LIMIT,
        **changes,
    }
    return ModelPolicy(**settings)  # type: ignore[arg-type]  # a table of keyword arguments


def text_model(**changes: object) -> ModelPolicy:
    settings: dict[str, object] = {
        "input": InputRule(
            schema={"type": "object", "required": ["text"], "properties": {"text": {"type": "string", "minLength": 1}}},
            tensors=(TensorRule(name="text", datatype="BYTES", shape=(1,), source="/text"),),
        ),
        "output": OutputRule(labels=("de", "en", "fr"), top_k=2),
        **changes,
    }
    return model("language", **settings)


def image_model(max_pixels: int = 10_000) -> ModelPolicy:
    return model(
        "digits",
        input=InputRule(
            image=ImageRule(source="/image", max_pixels=max_pixels),
            tensors=(TensorRule(name="image", datatype="BYTES", shape=(1,), source="/image"),),
        ),
    )


def route(policy: ModelPolicy) -> str:
    return f"model/{policy.model}/1"


def rules(*policies: ModelPolicy, default: str | None = None) -> Rules:
    names = tuple(policy.model for policy in policies)
    gateway = GatewayPolicy(default_model=default, models=names)
    return compile_rules(PolicySet(gateway=gateway, models={route(policy): policy for policy in policies}))


def facts(policy: ModelPolicy | str = "entry/predict", **changes: object) -> RequestFacts:
    settings: dict[str, object] = {
        "route": policy if isinstance(policy, str) else route(policy),
        "path": "/v1/predict",
        "request_id": "r-1",
        "tenant": "acme",
        "key_id": "k1",
        "models": "*",
        **changes,
    }
    return RequestFacts(**settings)  # type: ignore[arg-type]  # a table of keyword arguments
