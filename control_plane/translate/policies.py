"""The policies that ext_authz and ext_proc enforce for a configuration."""

from __future__ import annotations

from control_plane.config.model import Config, Image, Model
from gateway.policy import GatewayPolicy, ImageRule, InputRule, ModelPolicy, OutputRule, TensorRule


def gateway_policy(config: Config) -> GatewayPolicy:
    """What holds for the gateway as a whole."""
    return GatewayPolicy(default_model=config.default_model, models=tuple(sorted(config.models)))


def model_policies(config: Config) -> dict[str, ModelPolicy]:
    """One policy per public model, by name."""
    return {name: _model_policy(name, config.models[name], config) for name in sorted(config.models)}


def _model_policy(name: str, model: Model, config: Config) -> ModelPolicy:
    # The loader has seen to it that all targets take the same body under the same name.
    backend = config.backends[model.targets[0].backend]
    image = model.input.image
    return ModelPolicy(
        model=name,
        dialect=model.dialect,
        server=backend.server,
        upstream_model=backend.model,
        input=InputRule(
            schema=model.input.json_schema,
            tensors=tuple(
                TensorRule(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape, source=tensor.source)
                for tensor in model.input.tensors
            ),
            image=None if image is None else _image_rule(image),
        ),
        output=OutputRule(labels=model.output.labels, top_k=model.output.top_k),
        max_body_bytes=model.max_body_bytes,
        max_response_bytes=model.max_response_bytes,
    )


def _image_rule(image: Image) -> ImageRule:
    return ImageRule(source=image.source, formats=image.formats, max_pixels=image.max_pixels)
