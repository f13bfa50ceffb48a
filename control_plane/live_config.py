"""The live configuration as a document: the control plane answers ``/config`` with it, and ``isg plan`` reads it."""

from __future__ import annotations

import hashlib
import json
from typing import Any, Final

import pydantic

from control_plane.config.model import Config
from control_plane.up.probe import HttpError, get
from gateway.state import StateDir

PATH: Final = "/config"


class NoControlPlaneError(Exception):
    """No control plane answers. The text says for which state directory."""


class ForeignConfigError(Exception):
    """The control plane answers with a configuration that this version does not know."""


def document(config: Config | None) -> dict[str, Any]:
    """What ``/config`` says: ``version``, a digest of the content, and ``config``; both None where nothing is live."""
    if config is None:
        return {"version": None, "config": None}
    content = config.model_dump(mode="json")
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    return {"version": hashlib.blake2b(canonical, digest_size=8).hexdigest(), "config": content}


def read(body: bytes) -> Config | None:
    """The configuration in a document.

    Raises:
        ForeignConfigError: the document is none, or of another version.
    """
    try:
        content = json.loads(body)["config"]
        return None if content is None else Config.model_validate(content)
    except (ValueError, TypeError, KeyError, pydantic.ValidationError) as error:
        raise ForeignConfigError(
            "the control plane answers with a configuration that this version of isg does not know: "
            "it runs another version, restart it"
        ) from error


async def fetch(state: StateDir) -> Config | None:
    """What is live; None where nothing is.

    Raises:
        NoControlPlaneError: nobody answers.
        ForeignConfigError: what answers is of another version.
    """
    try:
        status, body = await get(f"http://control-plane{PATH}", socket_path=state.admin_socket("control_plane"))
    except HttpError as error:
        raise NoControlPlaneError(f"no control plane answers for {state.root}") from error
    if status != 200:
        raise ForeignConfigError(f"the control plane answers {PATH} with {status}: it runs another version, restart it")
    return read(body)
