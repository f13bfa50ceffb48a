"""A model server's answer becomes the client's.

Servers of the Open Inference protocol: ``{"model", "version", "outputs", "request_id"}`` (interface section 4).
`http` servers: their own document with its ``outputs`` reshaped, which may be Open Inference outputs or an object of
names and (nested) lists of numbers; everything else in it stays.
"""

from __future__ import annotations

from typing import Any

import msgspec

from ext_proc.dialects import open_inference
from ext_proc.postprocess.labels import shape_outputs
from ext_proc.refusal import Refused, bad_answer
from ext_proc.validation import tensors
from ext_proc.validation.tensors import Tensor, TensorError
from gateway.policy import ModelPolicy

_encode = msgspec.json.Encoder().encode
_MAX_DIMS = 16
_RETRY_AFTER_S = 1
_MAX_RETRY_AFTER_S = 3600


def check_status(status: int, retry_after: str | None) -> None:
    """Judge the status of a model server that answered.

    Raises:
        Refused: 503 when it is busy (429, 503), 504 when it was too slow itself, 502 for all else but success: the
            request was ours, so even its 400 is no fault of the client.
    """
    if 200 <= status < 300:
        return
    if status in (429, 503):
        seconds = int(retry_after) if retry_after and retry_after.isascii() and retry_after.isdigit() else 0
        wait_s = seconds if _RETRY_AFTER_S <= seconds <= _MAX_RETRY_AFTER_S else _RETRY_AFTER_S
        raise Refused(503, "upstream_busy", "the model server is busy", retry_after_s=wait_s)
    if status == 504:
        raise Refused(504, "upstream_timeout", "the model server did not answer in time")
    raise Refused(502, "upstream_error", "the model server failed")


def rewrite(body: bytes, policy: ModelPolicy, request_id: str | None) -> bytes:
    """The client's answer.

    Raises:
        Refused: 502 when the answer is too large, not JSON, not of the protocol's shape, or does not fit the
            model's output rule.
    """
    if len(body) > policy.max_response_bytes:
        raise bad_answer(f"the model server's answer is larger than {policy.max_response_bytes} bytes")
    if policy.server == "http":
        return _encode(_reshape_document(open_inference.parse_document(body), policy))
    answer = open_inference.parse_answer(body)
    return _encode(
        {
            "model": policy.model,
            "version": answer.version,
            "outputs": shape_outputs(answer.outputs, policy.output),
            "request_id": request_id,
        }
    )


def _reshape_document(document: dict[str, Any], policy: ModelPolicy) -> dict[str, Any]:
    outputs = document.get("outputs")
    found = (
        tuple(_from_nested(name, value) for name, value in outputs.items())
        if isinstance(outputs, dict)
        else open_inference.read_outputs(outputs)
    )
    return {**document, "outputs": shape_outputs(found, policy.output)}


def _from_nested(name: str, value: object) -> Tensor:
    """A member of an `http` server's ``outputs``; one that is no array of numbers stays what it is."""
    try:
        return tensors.read_nested(value, name=name, datatype="FP64", most_dims=_MAX_DIMS)
    except TensorError:
        return Tensor(name=name, datatype="BYTES", shape=(), data=(value,))
