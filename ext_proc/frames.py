"""Envoy's ext_proc messages to facts, and verdicts to Envoy's messages (envoy.service.ext_proc.v3)."""

from __future__ import annotations

from functools import lru_cache
from typing import Final, Literal

from ext_proc.facts import RequestFacts, ResponseFacts
from ext_proc.verdict import Accept, Proceed, Refuse, Rewrite, Verdict
from gateway import names
from gateway.envoy_api import core_v3, ext_proc_v3, protobuf, type_v3

SERVICE: Final = "envoy.service.ext_proc.v3.ExternalProcessor"
METHOD: Final = "Process"

Phase = Literal[
    "request_headers", "request_body", "request_trailers", "response_headers", "response_body", "response_trailers"
]


def phase(request: ext_proc_v3.ProcessingRequest) -> Phase | None:
    """What the message is about; None for a message of nothing we know."""
    found: Phase | None = request.WhichOneof("request")
    return found


def request_facts(request: ext_proc_v3.ProcessingRequest) -> RequestFacts:
    """The attributes and metadata that come with a request's body."""
    attributes = request.attributes[names.EXT_PROC_ATTRIBUTES].fields
    metadata = request.metadata_context.filter_metadata
    identity = metadata[names.NS_AUTHZ].fields
    isg = metadata[names.NS_ISG].fields
    return RequestFacts(
        route=attributes[names.ATTR_ROUTE].string_value,
        path=attributes[names.ATTR_PATH].string_value,
        request_id=attributes[names.ATTR_REQUEST_ID].string_value or None,
        traceparent=attributes[names.ATTR_TRACEPARENT].string_value or None,
        unparsed=isg["unparsed"].string_value == "yes",
        tenant=identity[names.HEADER_TENANT].string_value or None,
        key_id=identity[names.HEADER_KEY_ID].string_value or None,
        models=identity[names.HEADER_MODELS].string_value or None,
    )


def response_facts(request: ext_proc_v3.ProcessingRequest) -> ResponseFacts:
    """The head of an answer."""
    status = retry_after = None
    for header in request.response_headers.headers.headers:
        if header.key == ":status":
            status = header.raw_value or header.value.encode()
        elif header.key == "retry-after":
            retry_after = (header.raw_value or header.value.encode()).decode("latin-1")
    details = request.attributes[names.EXT_PROC_ATTRIBUTES].fields[names.ATTR_RESPONSE_DETAILS].string_value
    return ResponseFacts(
        status=int(status) if status is not None and status.isdigit() else None,
        details=details or None,
        retry_after=retry_after,
        end_of_stream=request.response_headers.end_of_stream,
    )


def encode(verdict: Verdict, of: Phase) -> bytes:
    """The answer to one message, serialized."""
    if isinstance(verdict, Accept):
        return _accepted(verdict)
    if isinstance(verdict, Refuse):
        return _refused(verdict)
    return _rewritten(verdict) if isinstance(verdict, Rewrite) else _proceed(verdict, of)


def _accepted(verdict: Accept) -> bytes:
    if verdict.body is None:
        return _mark(verdict.model) + _proceed(Proceed(), "request_body")
    mutation = ext_proc_v3.BodyMutation(body=verdict.body)
    answer = ext_proc_v3.BodyResponse(response=ext_proc_v3.CommonResponse(body_mutation=mutation))
    # Serialized messages of one type may be concatenated: the result is the merged message.
    return _mark(verdict.model) + ext_proc_v3.ProcessingResponse(request_body=answer).SerializeToString()


@lru_cache(maxsize=4096)
def _mark(model: str) -> bytes:
    """The metadata that opens the gate."""
    metadata = protobuf.Struct()
    metadata.update({names.NS_ISG: {names.META_VALIDATED: names.VALIDATED_YES, names.META_MODEL: model}})
    return ext_proc_v3.ProcessingResponse(dynamic_metadata=metadata).SerializeToString()


@lru_cache(maxsize=16)
def _proceed(_: Proceed, of: Phase) -> bytes:
    response = ext_proc_v3.ProcessingResponse()
    getattr(response, of).SetInParent()
    return response.SerializeToString()


def _rewritten(verdict: Rewrite) -> bytes:
    # Envoy refuses a new body whose length is not that of the answer's content-length, and does not correct it itself
    # in this phase (it does for requests whose headers another filter holds back).
    headers = [_header("content-type", "application/json"), _header("content-length", str(len(verdict.body)))]
    common = ext_proc_v3.CommonResponse(
        header_mutation=ext_proc_v3.HeaderMutation(set_headers=headers),
        body_mutation=ext_proc_v3.BodyMutation(body=verdict.body),
    )
    answer = ext_proc_v3.BodyResponse(response=common)
    return ext_proc_v3.ProcessingResponse(response_body=answer).SerializeToString()


def _refused(verdict: Refuse) -> bytes:
    answer = verdict.answer
    response = ext_proc_v3.ImmediateResponse(
        status=type_v3.HttpStatus(code=answer.status),
        headers=ext_proc_v3.HeaderMutation(set_headers=[_header(key, value) for key, value in answer.headers.items()]),
        body=answer.body,
        details=names.DETAILS_PROBLEM,
    )
    return ext_proc_v3.ProcessingResponse(immediate_response=response).SerializeToString()


def _header(key: str, value: str) -> core_v3.HeaderValueOption:
    return core_v3.HeaderValueOption(
        header=core_v3.HeaderValue(key=key, raw_value=value.encode()),
        append_action=core_v3.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
    )
