"""The Open Inference Protocol v2 (REST) for models that take one BYTES tensor and give scores. Pure.

https://github.com/kserve/open-inference-protocol, "Inference Protocol REST": Server and Model Metadata, Inference.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

SERVER_METADATA: Final = {"name": "isg-quickstart", "version": "1", "extensions": []}
VERSION: Final = "1"
OUTPUT: Final = "scores"
#: Items in one request.
MOST_ITEMS: Final = 64


class RequestError(ValueError):
    """The request cannot be served; its text is for the client (status 400)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InferRequest:
    """What a client asked: ``items`` are the elements of its input tensor."""

    request_id: str | None
    items: tuple[str, ...]


def model_metadata(name: str, input_name: str, labels: Sequence[str]) -> dict[str, object]:
    """Model Metadata response."""
    return {
        "name": name,
        "versions": [VERSION],
        "platform": "numpy",
        "inputs": [{"name": input_name, "datatype": "BYTES", "shape": [-1]}],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, len(labels)]}],
    }


def read_request(body: bytes, input_name: str) -> InferRequest:
    """Read an Inference Request.

    Raises:
        RequestError: it is not one, or not one for this model.
    """
    try:
        document = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise RequestError("the body is not JSON") from error
    if not isinstance(document, dict):
        raise RequestError("the body must be a JSON object")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise RequestError("`id` must be a string")
    _check_outputs(document.get("outputs"))
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise RequestError(f"`inputs` must be a list of one tensor, `{input_name}`")
    return InferRequest(request_id=request_id, items=_items(inputs[0], input_name))


def infer_response(name: str, request: InferRequest, rows: Sequence[Sequence[float]]) -> dict[str, object]:
    """Inference Response."""
    output = {
        "name": OUTPUT,
        "datatype": "FP32",
        "shape": [len(rows), len(rows[0])],
        "data": [score for row in rows for score in row],
    }
    response: dict[str, object] = {"model_name": name, "model_version": VERSION, "outputs": [output]}
    return response if request.request_id is None else {**response, "id": request.request_id}


def _check_outputs(outputs: object) -> None:
    if outputs is None:
        return
    if not isinstance(outputs, list) or any(
        not isinstance(output, dict) or output.get("name") != OUTPUT for output in outputs
    ):
        raise RequestError(f"the only output is `{OUTPUT}`")


def _items(tensor: dict[str, Any], input_name: str) -> tuple[str, ...]:
    if tensor.get("name") != input_name:
        raise RequestError(f"the input of this model is called `{input_name}`")
    if tensor.get("datatype") != "BYTES":
        raise RequestError(f"`{input_name}` has datatype BYTES")
    data, shape = tensor.get("data"), tensor.get("shape")
    if not isinstance(data, list) or not all(isinstance(item, str) for item in data):
        raise RequestError(f"the data of `{input_name}` must be a list of strings")
    if not 0 < len(data) <= MOST_ITEMS:
        raise RequestError(f"`{input_name}` must hold 1 to {MOST_ITEMS} elements")
    if shape not in ([len(data)], [len(data), 1]):
        raise RequestError(f"the shape of `{input_name}` must be [{len(data)}], the number of its elements")
    return tuple(data)
