"""The reply mappers, as isg explain evaluates them."""

from __future__ import annotations

import json

import pytest

from control_plane.explain.exchange import LocalReply as Made
from control_plane.explain.exchange import Reply
from control_plane.explain.replies import answered, local
from control_plane.explain.unknown import CannotExplainError
from control_plane.translate import local_replies
from control_plane.translate.local_replies import LOCAL_REPLIES, local_reply_config
from control_plane.translate.wire import struct
from gateway import envoy_api as api
from gateway.problem import Problem, render


def manager() -> api.hcm_v3.HttpConnectionManager:
    return api.hcm_v3.HttpConnectionManager(local_reply_config=local_reply_config())


@pytest.mark.parametrize(
    ("status", "details", "expected", "code"),
    [
        (403, "rbac_access_denied_matched_policy[not_validated]", 503, "no_verdict"),
        (403, "rbac_access_denied_matched_policy[none]", 403, "model_not_allowed"),
        (404, "cluster_not_found", 404, "unknown_model"),
        (504, "ext_proc_error_per-message_timeout_exceeded", 504, "validation_timeout"),
        (500, "ext_proc_error_grpc", 503, "validation_unavailable"),
        (403, "upgrade_failed", 400, "upgrade_not_served"),
        (404, "route_not_found", 404, "not_found"),
        (400, "path_normalization_failed", 400, "bad_request"),
        (507, "anything", 500, "internal_error"),
    ],
)
def test_the_first_mapper_that_matches_writes_the_reply(status: int, details: str, expected: int, code: str) -> None:
    found = local(Made(status=status, details=details), manager(), None)
    assert (found.status, found.code) == (expected, code)
    assert found.detail


def test_every_condition_of_the_table_is_of_a_known_shape() -> None:
    for reply in LOCAL_REPLIES:
        only = api.hcm_v3.HttpConnectionManager()
        only.local_reply_config.mappers.append(local_replies._mapper(reply))
        with pytest.raises(CannotExplainError, match="no reply mapper"):
            local(Made(status=299, details="nothing"), only, None)


def test_a_reply_quotes_the_routes_own_limit() -> None:
    route = api.route_v3.Route(metadata=api.core_v3.Metadata(filter_metadata={"isg": struct({"max_body_bytes": "7"})}))
    made = Made(status=413, details="request_payload_too_large")
    assert local(made, manager(), route).detail == "The body is larger than the limit of 7 bytes."
    assert local(made, manager(), None).detail == "The body is larger than the limit of - bytes."


def test_a_condition_of_another_shape_is_an_error() -> None:
    changed = manager()
    config = changed.local_reply_config.mappers[0].filter.extension_filter.typed_config
    config.value = api.als_filters_cel_v3.ExpressionFilter(expression="true").SerializeToString()
    with pytest.raises(CannotExplainError, match="true"):
        local(Made(status=404, details="cluster_not_found"), changed, None)
    config.type_url = "type.googleapis.com/other"
    with pytest.raises(CannotExplainError):
        local(Made(status=404, details="cluster_not_found"), changed, None)


def test_a_service_is_understood_in_every_dialect() -> None:
    problem = Problem(status=422, code="schema_violation", message="No.", field="/text")
    said = Reply(status=422, code="schema_violation", detail="No.", field="/text")
    assert answered(422, render(problem, "predict", "id").body) == said
    assert answered(422, render(problem, "openai", "id").body) == said
    assert answered(422, render(problem, "open-inference", "id").body) == Reply(status=422, code=None, detail="No.")
    for body in (b"", b"no json", json.dumps([1]).encode()):
        assert answered(500, body) == Reply(status=500, code=None, detail="")
