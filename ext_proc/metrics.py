"""The numbers that the payload service keeps of itself."""

from __future__ import annotations

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0)


class Metrics:
    """``isg_payload_*`` and ``isg_policy_up``."""

    def __init__(self, registry: CollectorRegistry = REGISTRY) -> None:
        self.verdicts = Counter(
            "isg_payload_verdicts_total",
            "Requests and answers judged, by the model (empty: none that is served) and the Problem's code (or ok).",
            ("model", "code"),
            registry=registry,
        )
        self.seconds = Histogram(
            "isg_payload_seconds", "Time to judge one message.", ("phase",), buckets=_SECONDS, registry=registry
        )
        self.streams = Gauge("isg_payload_streams", "Exchanges in progress.", registry=registry)
        self.policy_up = Gauge("isg_policy_up", "1 when there is a policy to enforce.", registry=registry)
