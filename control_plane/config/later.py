"""What the interface names and this version does not do yet: refused by name, never accepted and ignored."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel

from control_plane.config import model
from control_plane.config.document import Document, Listener

#: Keys, by the part of the configuration that they would stand in.
KEYS: Final[dict[type[BaseModel], frozenset[str]]] = {
    Document: frozenset({"access"}),
    Listener: frozenset({"tls"}),
    model.Model: frozenset({"when", "fallback", "cache", "regions", "audit", "ensemble"}),
    model.Output: frozenset({"finite", "round", "redact"}),
    model.Backend: frozenset({"discover", "tls", "credential", "scale"}),
    model.Endpoint: frozenset({"region"}),
}

#: Keys that would have given the endpoints or the targets that are missing without them.
INSTEAD_OF_TARGETS: Final = frozenset({"ensemble"})
INSTEAD_OF_ENDPOINTS: Final = frozenset({"discover", "scale"})

#: Values, by key. A value ending in ``:`` stands for every URL of that scheme.
VALUES: Final[dict[tuple[type[BaseModel], str], frozenset[str]]] = {
    (model.Model, "dialect"): frozenset({"open-inference", "openai"}),
    (model.Backend, "server"): frozenset({"vllm", "sglang", "tgi", "torchserve", "llama-cpp", "openai"}),
    (model.Backend, "balance"): frozenset({"sticky", "prefix", "queue_depth"}),
    (model.State, "store"): frozenset({"postgresql", "postgresql:", "postgres:"}),
    (model.State, "shared"): frozenset({"redis", "redis:", "rediss:", "valkey:"}),
}


def is_later_value(part: type[BaseModel], key: str, value: str) -> bool:
    """Whether a value is one that a later version takes."""
    known = VALUES.get((part, key), frozenset())
    return value in known or (value.partition("//")[0] in known and "//" in value)
