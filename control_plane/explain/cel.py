"""The part of CEL (google.api.expr.v1alpha1) that our filters' conditions are written in, evaluated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from control_plane.explain.unknown import CannotExplainError
from gateway import envoy_api as api


class CelError(Exception):
    """What CEL calls an error: a key that is not there, an operator without an overload. A condition does not hold."""


def evaluate(expression: api.expr_v1alpha1.Expr, variables: Mapping[str, Any]) -> Any:  # noqa: ANN401 - CEL is dynamic
    """The value of an expression.

    Raises:
        CelError: it has none.
        CannotExplainError: it has parts that are not known here.
    """
    kind = expression.WhichOneof("expr_kind")
    if kind == "const_expr":
        return _constant(expression.const_expr)
    if kind == "ident_expr":
        return _member(variables, expression.ident_expr.name)
    if kind == "select_expr" and not expression.select_expr.test_only:
        return _member(evaluate(expression.select_expr.operand, variables), expression.select_expr.field)
    if kind == "call_expr":
        return _called(expression.call_expr, variables)
    raise CannotExplainError(f"a condition holds a {kind}, which isg explain does not know")


def _constant(constant: api.expr_v1alpha1.Constant) -> Any:  # noqa: ANN401 - CEL is dynamic
    kind = constant.WhichOneof("constant_kind")
    if kind not in {"int64_value", "string_value", "bool_value"}:
        raise CannotExplainError(f"a condition holds a {kind}, which isg explain does not know")
    return getattr(constant, kind)


def _member(value: Any, key: object) -> Any:  # noqa: ANN401 - CEL is dynamic
    if not isinstance(value, Mapping) or key not in value:
        raise CelError(f"no member {key}")
    return value[key]


def _called(call: api.expr_v1alpha1.Expr.Call, variables: Mapping[str, Any]) -> Any:  # noqa: ANN401 - CEL is dynamic
    arguments = [evaluate(argument, variables) for argument in call.args]
    if call.HasField("target"):
        arguments.insert(0, evaluate(call.target, variables))
    if len(arguments) != 2 or call.function not in {"_[_]", "_+_", "_==_", "contains"}:
        raise CannotExplainError(f"a condition calls {call.function}, which isg explain does not know")
    one, other = arguments
    if call.function == "_[_]":
        return _member(one, other)
    if type(one) is not type(other) or (call.function != "_==_" and not isinstance(one, str)):
        raise CelError(f"no overload of {call.function}")
    if call.function == "_==_":
        return one == other
    return one + other if call.function == "_+_" else other in one
