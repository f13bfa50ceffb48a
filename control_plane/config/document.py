"""The top level of ``gateway.yaml`` as it is written; models are validated one by one."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, model_validator

from control_plane.config.model import Address, Frozen, ListenAddress, State


class Listener(Frozen):
    """One address to listen on, written as ``host:port`` or as a mapping."""

    address: ListenAddress

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: object) -> object:
        return {"address": value} if isinstance(value, str) else value


def _several(value: object) -> object:
    return [value] if isinstance(value, str) else value


class Document(Frozen):
    """``gateway.yaml``. ``backends`` is a folder, relative to the file."""

    version: Literal["1"] = "1"
    listen: Annotated[tuple[Listener, ...], BeforeValidator(_several)] = (
        Listener(address=Address(host="127.0.0.1", port=8080)),
    )
    admin: ListenAddress = Address(host="127.0.0.1", port=9900)
    backends: str = "backends/"
    default_model: str | None = None
    models: dict[str, Any]
    state: State = State()
