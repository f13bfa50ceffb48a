"""The compiled policy: what ext_authz and ext_proc enforce, as the control plane sends it.

A policy is a set of named documents (xDS resources of type :data:`gateway.names.POLICY_TYPE_URL`): one
:class:`GatewayPolicy` called ``gateway``, and one :class:`ModelPolicy` per model *and content*, called
``model/<name>/<digest>``. A model's Envoy routes carry that same name, so ext_proc finds exactly the policy that its
request was routed by: while a change rolls out, old and new routes each meet their own policy.

Documents are canonical JSON. An unknown member is refused: a service must never drop a rule that it
does not know.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import msgspec

from gateway.names import ROUTE_MODEL
from gateway.problem import Dialect

GATEWAY_POLICY: Final = "gateway"

ServerKind = Literal["triton", "kserve", "http"]
Datatype = Literal[
    "BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32", "FP64", "BYTES"
]
ImageFormat = Literal["png", "jpeg"]


class PolicyError(ValueError):
    """A policy document that this version cannot enforce. The text says which and why."""


class _Document(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Settings shared by all parts of a policy."""


class TensorRule(_Document, frozen=True, kw_only=True):
    """How one Open Inference input tensor is made from the request.

    Attributes:
        shape: declared shape; -1 stands for any length.
        source: JSON pointer (RFC 6901) into the request body.
    """

    name: str
    datatype: Datatype
    shape: tuple[int, ...]
    source: str


class ImageRule(_Document, frozen=True, kw_only=True):
    """An image inside the request: base64 (or a data URI) at a JSON pointer."""

    source: str
    formats: tuple[ImageFormat, ...] = ("png", "jpeg")
    max_pixels: int = 40_000_000


class InputRule(_Document, frozen=True, kw_only=True):
    """What a request must look like. `schema` is a JSON Schema 2020-12 document (no remote references)."""

    schema: dict[str, Any] | bool | None = None
    tensors: tuple[TensorRule, ...] = ()
    image: ImageRule | None = None


class OutputRule(_Document, frozen=True, kw_only=True):
    """How an answer is shaped. `labels[i]` names the i-th score of the last axis; `top_k` keeps the best."""

    labels: tuple[str, ...] = ()
    top_k: int | None = None


class ModelPolicy(_Document, frozen=True, kw_only=True, tag="model"):
    """One public model.

    Attributes:
        model: the public name.
        server: kind of the model servers, which decides the translation of requests and answers.
        upstream_model: the server's own name for the model.
        max_body_bytes: largest request body.
        max_response_bytes: largest answer that is buffered to be rewritten.
    """

    model: str
    dialect: Dialect = "predict"
    server: ServerKind = "kserve"
    upstream_model: str
    input: InputRule = InputRule()
    output: OutputRule = OutputRule()
    max_body_bytes: int
    max_response_bytes: int

    @property
    def rewrites_answer(self) -> bool:
        """Whether Envoy must hand the answer to ext_proc."""
        return self.server != "http" or self.output != OutputRule()


class GatewayPolicy(_Document, frozen=True, kw_only=True, tag="gateway"):
    """What holds for the gateway as a whole.

    Attributes:
        default_model: the model of a ``/v1/predict`` body that names none.
        models: public names of the models that are served now; policies of withdrawn models may still be there,
            for requests that were routed before.
    """

    default_model: str | None = None
    models: tuple[str, ...] = ()


Policy = GatewayPolicy | ModelPolicy

_decoder = msgspec.json.Decoder(Policy)


def encode(policy: Policy) -> bytes:
    """Canonical JSON: equal policies give equal bytes."""
    return msgspec.json.encode(policy, order="deterministic")


def decode(document: bytes) -> Policy:
    """Read a document.

    Raises:
        PolicyError: it is not a policy, or has members that this version does not know.
    """
    try:
        policy: Policy = _decoder.decode(document)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise PolicyError(f"not a policy that this version can enforce: {error}") from error
    return policy


def resource_name(policy: Policy) -> str:
    """The xDS resource name of a policy; for a model it is the name of its routes, too."""
    if isinstance(policy, GatewayPolicy):
        return GATEWAY_POLICY
    digest = hashlib.blake2b(encode(policy), digest_size=8).hexdigest()
    return f"{ROUTE_MODEL}{policy.model}/{digest}"
