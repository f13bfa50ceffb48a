"""What Envoy and the services would be sent, live beside candidate: one unified diff per resource, as YAML."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from typing import Final

import yaml
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import Message

from control_plane.config.model import Config, Endpoint
from control_plane.translate.snapshot import Translation, translate
from gateway.messages import pool
from gateway.policy import Policy, encode
from gateway.state import StateDir

_CONTEXT_LINES: Final = 3


def resource_diffs(
    live: Config | None, wanted: Config, state: StateDir, local: Mapping[str, tuple[Endpoint, ...]]
) -> dict[str, str]:
    """Unified diffs by resource (``cluster backend/digits``); what stays the same is not there.

    Args:
        local: where the replicas of local backends are now.
    """
    before = {} if live is None else _documents(translate(live, state, local))
    after = _documents(translate(wanted, state, local))
    found: dict[str, str] = {}
    for name in sorted(before.keys() | after.keys()):
        one, other = before.get(name, ""), after.get(name, "")
        if one != other:
            found[name] = "".join(
                difflib.unified_diff(
                    one.splitlines(keepends=True),
                    other.splitlines(keepends=True),
                    f"live {name}" if one else "nothing",
                    f"candidate {name}" if other else "nothing",
                    n=_CONTEXT_LINES,
                )
            )
    return found


def _documents(translation: Translation) -> dict[str, str]:
    messages: dict[str, Message] = {
        **{f"listener {message.name}": message for message in translation.listeners},
        **{f"routes {message.name}": message for message in translation.routes},
        **{f"cluster {message.name}": message for message in translation.clusters},
        **{f"endpoints {message.cluster_name}": message for message in translation.endpoints},
    }
    policies: dict[str, Policy] = {"policy gateway": translation.gateway}
    policies.update({f"policy {name}": policy for name, policy in translation.models.items()})
    return {
        **{
            name: _yaml(MessageToJson(message, preserving_proto_field_name=True, descriptor_pool=pool()))
            for name, message in messages.items()
        },
        **{name: _yaml(encode(policy)) for name, policy in policies.items()},
    }


def _yaml(document: str | bytes) -> str:
    return yaml.safe_dump(json.loads(document), sort_keys=True, allow_unicode=True, width=120)
