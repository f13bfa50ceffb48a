"""Typed namespaces over :mod:`gateway.messages`: ``envoy_api.cluster_v3.Cluster(name="b")``.

The generated stub ``envoy_api.pyi`` gives mypy the fields. A namespace is made at its first use, so a process pays
only for the packages that it names.
"""

from __future__ import annotations

from typing import Any

from gateway.messages import ALIASES, message


class _Namespace:
    """One proto package; its attributes are message classes, looked up once."""

    def __init__(self, package: str) -> None:
        self._package = package

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - the stub file has the types
        try:
            found = message(f"{self._package}.{name}")
        except KeyError:
            raise AttributeError(f"{self._package} has no message {name} in the descriptor set") from None
        setattr(self, name, found)
        return found


def __getattr__(alias: str) -> _Namespace:
    if alias not in ALIASES:
        raise AttributeError(f"module {__name__!r} has no namespace {alias!r}")
    namespace = globals()[alias] = _Namespace(ALIASES[alias])
    return namespace
