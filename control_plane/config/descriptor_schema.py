"""JSON Schema of ``backends/NAME.yaml``, for editors: ``python -m control_plane.config.descriptor_schema > FILE``."""

from __future__ import annotations

import json
import sys
from typing import Any, Final

from control_plane.config.model import Backend
from control_plane.config.schemas import DIALECT

#: What the loader adds to the types: an endpoint may be text, and the model's name is the file's by default.
_ENDPOINT_TEXT: Final = {"type": "string", "examples": ["10.0.0.11:8000"]}


def descriptor_schema() -> dict[str, Any]:
    """A JSON Schema 2020-12 that accepts what the loader's types accept."""
    schema = Backend.model_json_schema(by_alias=True)
    schema["properties"]["endpoints"]["items"] = {"anyOf": [_ENDPOINT_TEXT, {"$ref": "#/$defs/Endpoint"}]}
    schema["required"] = ["server"]
    schema["title"], schema["description"] = "Backend descriptor", "A pool of identical model servers."
    return {"$schema": DIALECT, **_without_defaults(schema)}


def rendered() -> str:
    """The schema as the text of its file."""
    return json.dumps(descriptor_schema(), indent=2, ensure_ascii=False) + "\n"


def _without_defaults(node: Any) -> Any:  # noqa: ANN401 (any JSON)
    """Defaults are in the model's units (seconds), not in the operator's words: they would mislead an editor."""
    if isinstance(node, dict):
        return {key: _without_defaults(value) for key, value in node.items() if key != "default"}
    return [_without_defaults(item) for item in node] if isinstance(node, list) else node


if __name__ == "__main__":
    sys.stdout.write(rendered())
