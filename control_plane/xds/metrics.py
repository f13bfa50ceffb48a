"""What an operator can watch of the ADS server."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class XdsMetrics:
    """The server's metrics, on a registry that is handed in."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.streams = Gauge("isg_xds_streams", "Connected streams.", registry=registry)
        self.responses = Counter("isg_xds_responses_total", "Responses sent.", ["type"], registry=registry)
        self.nacks = Counter("isg_xds_nacks_total", "Responses that a client refused.", ["type"], registry=registry)
        self.stale_nonces = Counter(
            "isg_xds_stale_nonces_total", "Requests whose nonce no longer meant anything.", registry=registry
        )
        self.push_seconds = Histogram(
            "isg_xds_push_seconds",
            "Time from publishing a snapshot until a client had acknowledged all of it.",
            registry=registry,
        )


def short(type_url: str) -> str:
    """The last word of a type URL, as a label."""
    return type_url.rsplit(".", 1)[-1]
