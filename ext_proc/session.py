"""One exchange, from the request's body to the answer's: a pure state machine.

It does no I/O and knows nothing of gRPC: facts and bytes in, verdicts out. Every refusal becomes a verdict here, in
the caller's dialect; an exception that leaves it is a defect, which :meth:`Session.broken` turns into a verdict too.
"""

from __future__ import annotations

from typing import Final

from ext_proc.dialects import predict
from ext_proc.facts import RequestFacts, ResponseFacts
from ext_proc.postprocess import answer
from ext_proc.refusal import Refused, bad_answer, unavailable
from ext_proc.rules import ModelRules, Rules
from ext_proc.verdict import PROCEED, Accept, Refuse, Rewrite, Verdict
from gateway import names
from gateway.problem import Dialect, Problem, render

_VIA_UPSTREAM: Final = "via_upstream"
_LARGE_BODY_BYTES: Final = 256 * 1024


class Session:
    """One exchange.

    Attributes:
        facts: the request, once its body was seen.
        rules: the model's rules, once its route was known to have some.
    """

    __slots__ = ("_accepted", "_pass_answer", "_rules", "facts", "rules")

    def __init__(self, rules: Rules | None) -> None:
        self._rules = rules
        self._accepted = False
        self._pass_answer = False
        self.facts: RequestFacts | None = None
        self.rules: ModelRules | None = None

    @property
    def model(self) -> str | None:
        """The model that the request was routed to."""
        return None if self.rules is None else self.rules.policy.model

    def is_heavy(self, facts: RequestFacts, size_bytes: int) -> bool:
        """Whether judging the body may take so long that other requests should not wait for it."""
        rules = None if self._rules is None else self._rules.models.get(facts.route)
        return self.is_large(size_bytes) or (rules is not None and rules.heavy)

    @staticmethod
    def is_large(size_bytes: int) -> bool:
        """Whether reading so many bytes of JSON takes longer than handing them to another thread."""
        return size_bytes > _LARGE_BODY_BYTES

    def request_body(self, facts: RequestFacts, body: bytes) -> Verdict:
        """Judge a request."""
        self.facts = facts
        try:
            return self._judge(facts, body)
        except Refused as refused:
            return self.refuse(refused.problem)

    def response_headers(self, facts: ResponseFacts) -> Verdict:
        """Judge the head of an answer; what it says alone is refused without waiting for a body."""
        if facts.details is not None and facts.details != _VIA_UPSTREAM:
            self._pass_answer = True  # a reply of Envoy's or of a service of ours
            return PROCEED
        try:
            self._judge_head(facts)
        except Refused as refused:
            return self.refuse(refused.problem)
        return PROCEED

    def response_body(self, body: bytes) -> Verdict:
        """Shape an answer."""
        if self._pass_answer:
            return PROCEED
        try:
            rules = self._accepted_rules()
            if not rules.rewrites_answer:
                return PROCEED
            return Rewrite(body=answer.rewrite(body, rules.policy, self._request_id))
        except Refused as refused:
            return self.refuse(refused.problem)

    def broken(self) -> Refuse:
        """The verdict when judging failed through a defect of ours."""
        problem = Problem(status=500, code="internal_error", message="the gateway could not judge this request")
        return self.refuse(problem)

    def refuse(self, problem: Problem) -> Refuse:
        """A Problem in the caller's dialect."""
        dialect: Dialect = "predict" if self.rules is None else self.rules.policy.dialect
        return Refuse(code=problem.code, answer=render(problem, dialect, self._request_id))

    @property
    def _request_id(self) -> str | None:
        return None if self.facts is None else self.facts.request_id

    def _judge(self, facts: RequestFacts, body: bytes) -> Accept:
        if self._rules is None:
            raise unavailable("no_policy", "the gateway has no policy yet")
        if not facts.route.startswith(names.ROUTE_MODEL):
            raise _no_model(facts, body)
        rules = self._rules.models.get(facts.route)
        if rules is None:
            raise unavailable("no_policy", "the gateway has no policy for this model yet")
        self.rules = rules
        _authorize(facts, rules.policy.model)
        replaced = predict.judge(rules, self._rules.default_models, facts, body)
        self._accepted = True
        return Accept(model=rules.policy.model, body=replaced)

    def _judge_head(self, facts: ResponseFacts) -> None:
        rules = self._accepted_rules()
        if not rules.rewrites_answer:
            return
        if facts.status is None:
            raise bad_answer("the model server's answer has no status")
        answer.check_status(facts.status, facts.retry_after)
        if facts.end_of_stream:
            raise bad_answer("the model server's answer is empty")

    def _accepted_rules(self) -> ModelRules:
        if self.rules is None or not self._accepted:
            raise unavailable("not_validated", "the request was not validated")
        return self.rules


def _authorize(facts: RequestFacts, model: str) -> None:
    """The key must be known, and its models must include the model: the same rule as Envoy's, on our own reading."""
    if not facts.tenant or not facts.key_id or not facts.models:
        raise unavailable("no_identity", "the request was not authorized")
    if not names.may_use(facts.models, model):
        raise Refused(403, "model_not_allowed", "this key may not use this model")


def _no_model(facts: RequestFacts, body: bytes) -> Refused:
    """Why no model's route matched."""
    try:
        document = predict.parse(body)
        model = predict.named_model(facts, document)
        if facts.unparsed:
            return Refused(400, "invalid_json", "the body is not valid JSON")
        if model is None:
            return Refused(400, "no_model", "the body must name a `model`", field="/model")
        _authorize(facts, model)
    except Refused as refused:
        return refused
    return Refused(404, "unknown_model", "there is no such model", field="/model")
