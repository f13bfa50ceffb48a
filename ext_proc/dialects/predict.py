"""The predict dialect: ``POST /v1/predict`` and ``POST /v1/models/{model}:predict`` (interface section 4).

A request is judged in one order, cheapest first: size, JSON, the model it names, schema, image, tensors.
"""

from __future__ import annotations

from typing import Any

from ext_proc.dialects import open_inference
from ext_proc.facts import RequestFacts
from ext_proc.refusal import Refused, unprocessable
from ext_proc.rules import ModelRules
from ext_proc.validation import json_body, pointer
from ext_proc.validation.images import check_image
from ext_proc.validation.tensors import Tensor
from gateway import names

_OPEN_INFERENCE_MEMBERS = frozenset({"model", "inputs"})


def judge(rules: ModelRules, default_models: tuple[str, ...], facts: RequestFacts, body: bytes) -> bytes | None:
    """Judge the body of a request that was routed to a model.

    Returns:
        The body for the model server, or None if it takes the client's as it is.

    Raises:
        Refused: with the first thing that is wrong.
    """
    policy = rules.policy
    if len(body) > policy.max_body_bytes:
        raise Refused(413, "body_too_large", f"the body is larger than {policy.max_body_bytes} bytes")
    document = parse(body)
    named = named_model(facts, document)
    if named != policy.model and not (named is None and policy.model in default_models):
        raise Refused(400, "model_mismatch", "the request was routed to another model than it names", field="/model")
    if rules.schema is not None:
        rules.schema.check(document)
    if rules.image is not None:
        _check_image(rules, rules.image, document)
    inputs = open_inference.from_rules(document, rules.tensors)
    if policy.server == "http":
        return None
    return open_inference.encode_request(facts.request_id, inputs if rules.tensors else _inputs(rules, document))


def parse(body: bytes) -> dict[str, Any]:
    """Read a body as a JSON object.

    Raises:
        Refused: 400.
    """
    try:
        document = json_body.parse(body)
    except json_body.InvalidJson as error:
        raise Refused(400, error.code, f"the body is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise Refused(400, "not_an_object", "the body must be a JSON object")
    return document


def named_model(facts: RequestFacts, document: dict[str, Any]) -> str | None:
    """The model that a request names: in its path, in its body, or (None) not at all.

    Raises:
        Refused: 400 when path and body differ or the name is no string, 404 on a path that is not of this dialect.
    """
    model = document.get("model")
    if "model" in document and not isinstance(model, str):
        raise Refused(400, "invalid_model", "`model` must be a string", field="/model")
    in_path = _path_model(facts)
    if in_path is None:
        return model
    if model is not None and model != in_path:
        raise Refused(400, "model_mismatch", "`model` differs from the model in the path", field="/model")
    return in_path


def _path_model(facts: RequestFacts) -> str | None:
    path = facts.path.partition("?")[0]
    if path == names.PATH_PREDICT:
        return None
    found = names.PATH_MODEL_PREDICT.match(path)
    if found is None:
        raise Refused(404, "unknown_path", "there is nothing at this path")
    return found[1]


def _check_image(rules: ModelRules, path: tuple[str, ...], document: dict[str, Any]) -> None:
    rule = rules.policy.input.image
    if rule is None:
        return
    value = pointer.resolve(document, path)
    if value is pointer.MISSING:
        raise unprocessable("missing_image", "the image is missing", rule.source)
    text = check_image(value, rule)
    if text is not value:
        # Model servers get base64 alone. `path` is not empty: the document itself is an object, no image.
        parent: Any = pointer.resolve(document, path[:-1])
        parent[int(path[-1]) if isinstance(parent, list) else path[-1]] = text


def _inputs(rules: ModelRules, document: dict[str, Any]) -> list[Tensor]:
    if rules.schema is None:
        for member in document:
            if member not in _OPEN_INFERENCE_MEMBERS:
                raise unprocessable("unknown_member", "this member is not supported", pointer.render([member]))
    return open_inference.from_inputs(document)
