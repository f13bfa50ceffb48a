"""ext_proc's answer to one message, for ``isg explain``: the session that serves, without a stream."""

from __future__ import annotations

from ext_proc import frames
from ext_proc.rules import compile_rules
from ext_proc.session import Session
from gateway.envoy_api import ext_proc_v3
from gateway.policy_client import PolicySet


def judge(policies: PolicySet, request: ext_proc_v3.ProcessingRequest) -> ext_proc_v3.ProcessingResponse:
    """The answer to Envoy's message about a request's body.

    Raises:
        PolicyError: a policy that cannot be enforced.
    """
    session = Session(compile_rules(policies))
    verdict = session.request_body(frames.request_facts(request), request.request_body.body)
    return ext_proc_v3.ProcessingResponse.FromString(frames.encode(verdict, "request_body"))
