"""Which request lines may be judged, and the dialect of their errors."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.request_target import RequestFacts, dialect_of, read_target


@pytest.mark.parametrize(
    ("target", "path"),
    [
        ("/v1/predict", "/v1/predict"),
        ("/v1/predict?a=/../b", "/v1/predict"),
        ("/v1/models/digits:predict?x", "/v1/models/digits:predict"),
        ("/", "/"),
        ("/?", "/"),
        ("/a%20b", "/a%20b"),
        ("/a.b/..c/.well-known", "/a.b/..c/.well-known"),
        ("/inference.GRPCInferenceService/ModelInfer", "/inference.GRPCInferenceService/ModelInfer"),
        ('/a?q={"x":[1]}|^`', "/a"),
        ("", None),
        ("*", None),
        ("host:443", None),
        ("http://other/v1/predict", None),
        ("//other/v1/predict", None),
        ("/a/../b", None),
        ("/a/..", None),
        ("/./a", None),
        ("/a#b", None),
        ("/a?b#c", None),
        ("/a b", None),
        ("/a?b c", None),
        ("/a\\b", None),
        ("/a%2", None),
        ("/a%zz", None),
        ("/a\n", None),
        ("/ä", None),
        ("/a?ä", None),
        ("/a\x7f", None),
        ('/a"b', None),
    ],
)
def test_only_origin_form_is_judged(target: str, path: str | None) -> None:
    assert read_target("POST", f"/check{target}") == RequestFacts("POST", path)


@pytest.mark.parametrize("method", ["CONNECT", "TRACE", "post", "", "A B", "P" * 33])
def test_methods_without_a_path_or_a_name_are_not_judged(method: str) -> None:
    assert read_target(method, "/check/v1/predict") == RequestFacts(method, None)


@pytest.mark.parametrize("target", ["/health", "/", "/v1/predict", "", "*", "/chec", "/CHECK/v1/predict"])
def test_what_envoy_did_not_ask_is_no_question(target: str) -> None:
    assert read_target("GET", target) is None


@given(st.text(max_size=30), st.text())
def test_every_question_is_read(method: str, target: str) -> None:
    facts = read_target(method, f"/check{target}")
    assert facts is not None
    assert facts.path is None or (facts.path.startswith("/") and facts.path.isascii() and "?" not in facts.path)


@pytest.mark.parametrize(
    ("path", "dialect"),
    [
        ("/v1/chat/completions", "openai"),
        ("/v1/completions", "openai"),
        ("/v1/embeddings", "openai"),
        ("/v1/models", "openai"),
        ("/v1/models/digits:predict", "predict"),
        ("/v1/predict", "predict"),
        ("/v2", "open-inference"),
        ("/v2/models/digits/infer", "open-inference"),
        ("/v22", "predict"),
        ("/", "predict"),
        (None, "predict"),
    ],
)
def test_errors_speak_the_dialect_of_the_path(path: str | None, dialect: str) -> None:
    assert dialect_of(path) == dialect
