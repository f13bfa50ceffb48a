"""The configuration as a frozen typed model (interface: ``gateway.yaml`` and ``backends/NAME.yaml``).

Field names carry units; aliases are the operator's words. Files that the YAML names (schemas, labels) are already
read: nothing downstream touches the disk.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from control_plane.config import values
from gateway.policy import Datatype, ImageFormat, ServerKind

Balance = Literal["least_busy", "round_robin", "random"]
MIB = 1024 * 1024

#: Where each kind of server tells whether it is ready; kinds that are not here have no such place.
HEALTH_PATHS: Final[Mapping[ServerKind, str]] = {"triton": "/v2/health/ready", "kserve": "/v2/health/ready"}


class Frozen(BaseModel):
    """Settings shared by all parts of the model."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, allow_inf_nan=False)


class Address(Frozen):
    """A TCP address."""

    host: str
    port: int = Field(ge=0, le=65535)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _listen_address(value: object) -> object:
    return _address(*values.listen_address(value)) if isinstance(value, str) else value


def _endpoint_address(value: object) -> object:
    return _address(*values.endpoint_address(value)) if isinstance(value, str) else value


def _address(host: str, port: int) -> Address:
    return Address(host=host, port=port)


#: Written ``64KiB``; bytes in the model.
Size = Annotated[int, BeforeValidator(values.size), WithJsonSchema({"type": "string", "examples": ["64KiB"]})]
#: Written ``30s``; seconds in the model.
Duration = Annotated[float, BeforeValidator(values.duration), WithJsonSchema({"type": "string", "examples": ["30s"]})]
#: Written ``10.0.0.11:8000``.
ListenAddress = Annotated[Address, BeforeValidator(_listen_address), WithJsonSchema({"type": "string"})]
EndpointAddress = Annotated[Address, BeforeValidator(_endpoint_address), WithJsonSchema({"type": "string"})]
#: JSON pointer (RFC 6901) into the request's body.
Pointer = Annotated[str, AfterValidator(values.json_pointer)]
#: Path of a model server's URL.
UrlPath = Annotated[str, AfterValidator(values.url_path)]
#: A name that a model server knows; it becomes part of a URL.
ServerName = Annotated[str, AfterValidator(values.server_name)]


class Target(Frozen):
    """A share of a model's traffic."""

    backend: str
    weight: int = Field(default=1, ge=0, le=1_000_000)


class Mirror(Frozen):
    """A copy of some of a model's requests; its answers are thrown away."""

    backend: str
    percent: float = Field(default=100, ge=0, le=100)


class Tensor(Frozen):
    """One Open Inference input, made from the request. ``source`` is a JSON pointer."""

    name: Annotated[str, AfterValidator(values.tensor_name)]
    datatype: Datatype
    shape: tuple[Annotated[int, Field(ge=-1, le=2**31 - 1)], ...]
    source: Pointer = Field(alias="from")


class Image(Frozen):
    """An image inside the request: base64 or a data URI at a JSON pointer."""

    source: Pointer = Field(alias="from")
    formats: tuple[ImageFormat, ...] = ("png", "jpeg")
    max_pixels: int = Field(default=40_000_000, ge=1)


class Input(Frozen):
    """What a request must look like."""

    json_schema: dict[str, Any] | bool | None = Field(default=None, alias="schema")
    tensors: tuple[Tensor, ...] = ()
    image: Image | None = None


class Output(Frozen):
    """How an answer is shaped."""

    labels: tuple[str, ...] = ()
    top_k: int | None = Field(default=None, ge=1)


class Model(Frozen):
    """One public model. ``targets`` always holds where its traffic goes: ``backend: x`` is one target."""

    dialect: Literal["predict"] = "predict"
    targets: tuple[Target, ...]
    mirror: Mirror | None = None
    input: Input = Input()
    output: Output = Output()
    max_body_bytes: Size = Field(default=1 * MIB, alias="max_body", ge=1)
    max_response_bytes: Size = Field(default=4 * MIB, alias="max_response", ge=1)
    timeout_s: Duration = Field(default=30, alias="timeout", gt=0)
    retries: int = Field(default=3, ge=0, le=10)


class Endpoint(Frozen):
    """One model server, by IP address or DNS name. Written as ``host:port`` or as a mapping."""

    address: EndpointAddress
    weight: int = Field(default=1, ge=1, le=128)

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value


class Health(Frozen):
    """How an endpoint is asked whether it can serve. ``path`` None: not at all.

    A descriptor that names no path gets the one of its server kind (:data:`HEALTH_PATHS`).
    """

    path: UrlPath | None = None
    interval_s: Duration = Field(default=2, alias="interval", gt=0)


class Run(Frozen):
    """A local process per replica; ``{port}`` in the command is replaced by a free port."""

    command: tuple[str, ...]
    replicas: int = Field(default=1, ge=1, le=64)
    ready_within_s: Duration = Field(default=60, alias="ready_within", gt=0)


class Backend(Frozen):
    """A pool of identical model servers."""

    server: ServerKind
    path: UrlPath | None = None
    model: ServerName
    endpoints: tuple[Endpoint, ...] = ()
    balance: Balance = "least_busy"
    max_in_flight: int | None = Field(default=None, ge=1)
    health: Health = Health()
    run: Run | None = None


class State(Frozen):
    """Where state is kept, and how a stop behaves."""

    store: Literal["sqlite"] = "sqlite"
    shared: Literal["none"] = "none"
    drain_s: Duration = Field(default=30, alias="drain", ge=0)


class Config(Frozen):
    """A whole configuration: ``gateway.yaml`` with the descriptors of its backends folder."""

    backends_folder: Path = Path("backends")
    listen: tuple[Address, ...]
    admin: Address
    default_model: str | None = None
    models: Mapping[str, Model]
    backends: Mapping[str, Backend]
    state: State = State()
