"""Policies made ready to be enforced: schemas compiled, pointers taken apart.

Compiling happens once, when a policy set arrives, and the whole set is swapped or none of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ext_proc.dialects.open_inference import TensorSource
from ext_proc.validation import pointer
from ext_proc.validation.json_schema import SchemaCheck
from gateway.policy import ModelPolicy, PolicyError
from gateway.policy_client import PolicySet


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRules:
    """One model's policy, ready.

    Attributes:
        image: path of the image in the body.
    """

    policy: ModelPolicy
    schema: SchemaCheck | None
    tensors: tuple[TensorSource, ...]
    image: tuple[str, ...] | None
    rewrites_answer: bool

    @property
    def heavy(self) -> bool:
        """Whether judging even a small body may take long."""
        return self.image is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """A policy set, ready.

    Attributes:
        models: by resource name, which is the route's name.
        known: public names that are served; the only ones that metrics may name.
        default_models: models of a body that names none: the default now, and the one before it, by which requests
            may still arrive while a change of the default rolls out.
    """

    models: Mapping[str, ModelRules]
    known: frozenset[str]
    default_models: tuple[str, ...]


def compile_rules(policies: PolicySet, before: Rules | None = None) -> Rules:
    """Make a policy set ready; what `before` holds under the same name is taken over.

    Raises:
        PolicyError: a schema or a pointer that cannot be enforced; the text names the model.
    """
    ready = {} if before is None else before.models
    models: dict[str, ModelRules] = {}
    for name, policy in policies.models.items():
        known = ready.get(name)
        # A name carries the digest of its content, but whoever sends it is not trusted to have counted right.
        models[name] = known if known is not None and known.policy == policy else _compile(policy)
    default = policies.gateway.default_model
    defaults: tuple[str, ...] = () if default is None else (default,)
    if before is not None:
        defaults += tuple(model for model in before.default_models if model != default)[:1]
    return Rules(
        models=models,
        known=frozenset(policy.model for policy in policies.models.values()),
        default_models=defaults,
    )


def _compile(policy: ModelPolicy) -> ModelRules:
    rule = policy.input
    try:
        return ModelRules(
            policy=policy,
            schema=None if rule.schema is None else SchemaCheck(rule.schema),
            tensors=tuple(TensorSource(rule=tensor, path=pointer.tokens(tensor.source)) for tensor in rule.tensors),
            image=None if rule.image is None else pointer.tokens(rule.image.source),
            rewrites_answer=policy.rewrites_answer,
        )
    except ValueError as error:
        raise PolicyError(f"model {policy.model}: {error}") from error
