from collections.abc import Sequence

import pytest

from control_plane.up.drain import active_requests
from control_plane.up.probe import unhealthy_clusters, url_of
from control_plane.up.readiness import Condition, Missing, until_ready


class Clock:
    """Advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now


def after(rounds: int, words: str = "not yet"):
    asked = 0

    async def missing() -> str | None:
        nonlocal asked
        asked += 1
        return None if asked > rounds else words

    return missing


async def reports_of(*conditions: Condition) -> list[list[Missing]]:
    reports: list[list[Missing]] = []

    def report(missing: Sequence[Missing]) -> None:
        reports.append(list(missing))

    await until_ready(lambda: conditions, report=report, clock=Clock(), poll_s=0)
    return reports


async def test_nothing_is_reported_when_all_is_ready_in_time():
    assert await reports_of(Condition(subject="a", missing=after(2)), Condition(subject="b", missing=after(0))) == []


async def test_what_is_late_is_named_after_five_seconds_and_again_every_ten():
    reports = await reports_of(Condition(subject="envoy", missing=after(16, "no answer")))
    assert reports == [[Missing(subject="envoy", words="no answer")]] * 2


async def test_a_slow_model_server_is_not_complained_of_while_others_are_missing():
    reports = await reports_of(
        Condition(subject="language/1", missing=after(8), patience_s=60),
        Condition(subject="envoy", missing=after(8)),
    )
    assert [[what.subject for what in report] for report in reports] == [["envoy"]]


async def test_all_conditions_must_hold_at_one_moment():
    flips = iter([None, "gone again", None])

    async def flapping() -> str | None:
        return next(flips)

    await reports_of(Condition(subject="a", missing=flapping), Condition(subject="b", missing=after(2)))
    assert next(flips, "asked three times") == "asked three times"


def host(**status: object) -> dict[str, object]:
    return {"health_status": {"eds_health_status": "HEALTHY", **status}}


@pytest.mark.parametrize(
    ("hosts", "sick"),
    [
        ([], []),
        ([host()], []),
        ([host(failed_active_health_check=True)], ["m"]),
        ([host(failed_active_health_check=True), host()], []),
        ([host(failed_outlier_check=True)], ["m"]),
        ([host(eds_health_status="UNHEALTHY")], ["m"]),
    ],
)
def test_a_cluster_with_hosts_needs_a_healthy_one(hosts: list[dict[str, object]], sick: list[str]):
    clusters = {"cluster_statuses": [{"name": "m", "host_statuses": hosts}, {"name": "ads"}]}
    assert unhealthy_clusters(clusters) == sick


def test_requests_in_flight_are_those_of_clients_only():
    stats = {
        "stats": [
            {"name": "http.public.downstream_rq_active", "value": 2},
            {"name": "http.other.downstream_rq_active", "value": 1},
            {"name": "http.admin.downstream_rq_active", "value": 1},
        ]
    }
    assert active_requests(stats) == 3


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("10.0.0.1", "http://10.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("fd00::1", "http://[fd00::1]:80"),
        ("gateway.test", "http://gateway.test:80"),
    ],
)
def test_the_address_is_one_that_a_client_can_use(host: str, url: str):
    assert url_of(host, 80) == url
