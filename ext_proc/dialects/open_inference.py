"""KServe Open Inference Protocol v2, REST: requests to model servers and their answers.

Specification: "Inference Request JSON Object" and "Inference Response JSON Object" of the protocol's REST document.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from ext_proc.refusal import Refused, bad_answer, unprocessable
from ext_proc.validation import json_body, pointer, tensors
from ext_proc.validation.tensors import Tensor, TensorError
from gateway.policy import TensorRule

_encode = msgspec.json.Encoder().encode
_MEMBERS = frozenset({"name", "shape", "datatype", "data"})
_MAX_DIMS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A model server's answer."""

    version: str | None
    outputs: tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSource:
    """A :class:`TensorRule` with its pointer taken apart."""

    rule: TensorRule
    path: tuple[str, ...]


def from_rules(document: dict[str, object], sources: tuple[TensorSource, ...]) -> list[Tensor]:
    """Make the input tensors that a model's rules describe.

    Raises:
        Refused: 422 with the pointer of what is missing or wrong.
    """
    found = []
    for source in sources:
        rule = source.rule
        value = pointer.resolve(document, source.path)
        if value is pointer.MISSING:
            raise unprocessable("missing_input", f"input {rule.name!r} is missing", rule.source)
        try:
            found.append(tensors.read(value, name=rule.name, datatype=rule.datatype, shape=rule.shape))
        except TensorError as error:
            raise _input_error(error, rule.name, rule.source) from None
    return found


def from_inputs(document: dict[str, object]) -> list[Tensor]:
    """Check ``inputs`` that are Open Inference tensors already.

    Raises:
        Refused: 422 with the pointer of what is missing or wrong.
    """
    inputs = document.get("inputs", pointer.MISSING)
    if inputs is pointer.MISSING:
        raise unprocessable("missing_input", "`inputs` is missing", "/inputs")
    if not isinstance(inputs, list) or not inputs:
        raise unprocessable("wrong_type", "`inputs` must be a list of tensors", "/inputs")
    found: dict[str, Tensor] = {}
    for index, value in enumerate(inputs):
        tensor = _from_input(value, f"/inputs/{index}")
        if tensor.name in found:
            raise unprocessable("duplicate_input", "two inputs have one name", f"/inputs/{index}/name")
        found[tensor.name] = tensor
    return list(found.values())


def encode_request(request_id: str | None, inputs: list[Tensor]) -> bytes:
    """The body of ``POST /v2/models/{model}/infer``."""
    listed = [{"name": x.name, "shape": x.shape, "datatype": x.datatype, "data": x.data} for x in inputs]
    return _encode({"id": request_id, "inputs": listed} if request_id else {"inputs": listed})


def parse_answer(body: bytes) -> Answer:
    """Read the body of a successful answer.

    Raises:
        Refused: 502 when it is not JSON, not of the protocol's shape, or has a number that is none.
    """
    document = parse_document(body)
    version = document.get("model_version")
    if version is not None and not isinstance(version, str):
        raise bad_answer("the model server's answer has a version that is no string")
    return Answer(version=version, outputs=read_outputs(document.get("outputs")))


def parse_document(body: bytes) -> dict[str, object]:
    """Read an answer as a JSON object.

    Raises:
        Refused: 502.
    """
    try:
        document = json_body.parse(body)
    except json_body.InvalidJson:
        raise bad_answer("the model server's answer is not JSON") from None
    if not isinstance(document, dict):
        raise bad_answer("the model server's answer is not a JSON object")
    return document


def read_outputs(outputs: object) -> tuple[Tensor, ...]:
    """Read the ``outputs`` of an answer.

    Raises:
        Refused: 502.
    """
    if not isinstance(outputs, list) or not outputs:
        raise bad_answer("the model server's answer has no outputs")
    found: dict[str, Tensor] = {}
    for value in outputs:
        try:
            tensor = _read_tensor(value)
        except TensorError as error:
            raise _output_error(error) from None
        if tensor.name in found:
            raise bad_answer("the model server's answer has two outputs of one name")
        found[tensor.name] = tensor
    return tuple(found.values())


def _output_error(error: TensorError) -> Refused:
    return bad_answer(f"the model server's answer has an output that is wrong: {error.code.replace('_', ' ')}")


def _from_input(value: object, where: str) -> Tensor:
    if isinstance(value, dict):
        for member in value:
            if member not in _MEMBERS:
                raise unprocessable(
                    "unknown_member", "this member is not supported", f"{where}{pointer.render([member])}"
                )
    try:
        return _read_tensor(value)
    except _MemberError as error:
        raise unprocessable(error.code, str(error), f"{where}{error.member}") from None
    except TensorError as error:
        raise unprocessable(error.code, str(error), f"{where}/data{pointer.render(error.path)}") from None


class _MemberError(TensorError):
    """A member of the tensor object other than ``data`` is wrong; `member` is its pointer."""

    def __init__(self, code: str, reason: str, member: str) -> None:
        super().__init__(code, reason)
        self.member = member


def _read_tensor(value: object) -> Tensor:
    if not isinstance(value, dict):
        raise _MemberError("wrong_type", "a tensor must be an object", "")
    for member in ("name", "datatype", "shape", "data"):
        if member not in value:
            raise _MemberError("missing_member", f"`{member}` is missing", f"/{member}")
    name, datatype, shape = value["name"], value["datatype"], value["shape"]
    if not isinstance(name, str) or not name:
        raise _MemberError("wrong_type", "`name` must be a string", "/name")
    if not isinstance(datatype, str) or datatype not in tensors.DATATYPES:
        raise _MemberError(
            "unknown_datatype", f"`datatype` must be one of {', '.join(sorted(tensors.DATATYPES))}", "/datatype"
        )
    if not isinstance(shape, list) or len(shape) > _MAX_DIMS or not all(type(dim) is int and dim >= 0 for dim in shape):
        raise _MemberError("wrong_shape", f"`shape` must be a list of at most {_MAX_DIMS} lengths", "/shape")
    return tensors.read_flat(value["data"], name=name, datatype=datatype, shape=shape)


def _input_error(error: TensorError, name: str, source: str) -> Refused:
    return unprocessable(error.code, f"input {name!r}: {error}", f"{source}{pointer.render(error.path)}")
