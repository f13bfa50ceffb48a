"""The server's metrics (Prometheus)."""

from __future__ import annotations

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_PUSH_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class XdsMetrics:
    """Counters of one server. A type that the server does not know is counted as ``other``."""

    def __init__(self, registry: CollectorRegistry | None, types: Collection[str]) -> None:
        self._types = set(types)
        self.streams = Gauge("isg_xds_streams", "Open ADS streams.", registry=registry)
        self.stale_nonces = Counter(
            "isg_xds_stale_nonces", "Requests with a nonce that nothing waits for.", registry=registry
        )
        self.push_seconds = Histogram(
            "isg_xds_push_seconds",
            "From the publication of a snapshot to its acknowledgement by the last connected node of the group.",
            buckets=_PUSH_BUCKETS,
            registry=registry,
        )
        self._responses = Counter("isg_xds_responses", "Responses sent.", ["type"], registry=registry)
        self._nacks = Counter("isg_xds_nacks", "Responses that a client refused.", ["type"], registry=registry)
        self._resources = Gauge(
            "isg_xds_resources", "Resources in the current snapshot.", ["group", "type"], registry=registry
        )

    def response(self, type_url: str) -> None:
        """Count a response."""
        self._responses.labels(type=self._label(type_url)).inc()

    def nack(self, type_url: str) -> None:
        """Count a refusal."""
        self._nacks.labels(type=self._label(type_url)).inc()

    def resources(self, group: str, type_url: str, count: int) -> None:
        """Note how many resources of a type a group has."""
        self._types.add(type_url)
        self._resources.labels(group=group, type=self._label(type_url)).set(count)

    def _label(self, type_url: str) -> str:
        return type_url.rpartition("/")[2] if type_url in self._types else "other"
