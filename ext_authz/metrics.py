"""What ext_authz counts. One object per service, in a registry of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import GC_COLLECTOR, PLATFORM_COLLECTOR, CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

ALLOWED: Final = "allowed"
_SECONDS_BUCKETS: Final = (0.000_01, 0.000_025, 0.000_05, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.005, 0.025, 0.1, 1.0)


class Metrics:
    """The service's metrics: decisions by code, their time, and whether keys and policy are there."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.registry.register(GC_COLLECTOR)
        self.registry.register(PLATFORM_COLLECTOR)
        self._decisions = Counter(
            "isg_authz_decisions",
            "Decisions by outcome: allowed, or the problem's code",
            ["code"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "isg_authz_seconds", "Time to decide", buckets=_SECONDS_BUCKETS, registry=self.registry
        )
        self._store_errors = Counter(
            "isg_key_store_errors", "Looks at the key store that failed", registry=self.registry
        )
        self._allowed = self._decisions.labels(ALLOWED)

    def watch(
        self, *, keys: Callable[[], int], key_store_up: Callable[[], bool], policy_up: Callable[[], bool]
    ) -> None:
        """Read these at every scrape."""
        for name, text, value in (
            ("isg_keys", "Keys in memory, the revoked and expired ones too", keys),
            (
                "isg_key_store_up",
                "Whether the key store can be read; if not, the last good keys stay in force",
                key_store_up,
            ),
            ("isg_policy_up", "Whether a policy is in force; without one every request is refused", policy_up),
        ):
            Gauge(name, text, registry=self.registry).set_function(_as_number(value))

    def allowed(self, seconds: float) -> None:
        """A request passed."""
        self._allowed.inc()
        self._seconds.observe(seconds)

    def refused(self, code: str, seconds: float) -> None:
        """A request was refused with a problem's code."""
        self._decisions.labels(code).inc()
        self._seconds.observe(seconds)

    def store_failed(self) -> None:
        """The key store could not be read."""
        self._store_errors.inc()


def _as_number(value: Callable[[], int]) -> Callable[[], float]:
    return lambda: float(value())
