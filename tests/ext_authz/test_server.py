"""The real server over its Unix socket, asked as Envoy asks."""

from __future__ import annotations

import asyncio
import json
import random
import sqlite3
from collections.abc import Callable

import pytest
import structlog
from prometheus_client import generate_latest

from ext_authz.api_keys import format as key_format
from ext_authz.api_keys.lifecycle import create_key, list_keys, revoke_key
from ext_authz.server import SocketInUseError, listening
from gateway.state import StateDir
from tests.ext_authz.service import Service, bearer

IDS = {
    "x-request-id": "request-1",
    "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
}


async def raw(service: Service, request: bytes) -> bytes:
    """Bytes as they are, to the end of the connection."""
    reader, writer = await asyncio.open_unix_connection(str(service.state.ext_authz_socket))
    writer.write(request)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    return answer


def metric(service: Service, name: str, labels: dict[str, str] | None = None) -> float:
    return service.metrics.registry.get_sample_value(name, labels or {}) or 0.0


async def test_a_good_key_passes_with_its_identity(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["m1", "m2"], tier="gold")
    await service.key_is(200, made.secret)
    for headers in (bearer(made.secret), {"x-api-key": made.secret}):
        reply = await service.ask("/v1/predict", headers)
        assert reply.status == 200
        assert reply.body == b""
        identity = {name: value for name, value in reply.headers.items() if name.lower().startswith("x-isg-")}
        assert identity == {
            "x-isg-tenant": "acme",
            "x-isg-key-id": made.id,
            "x-isg-tier": "gold",
            "x-isg-models": ",m1,m2,",
        }
    assert metric(service, "isg_authz_decisions_total", {"code": "allowed"}) >= 3
    assert metric(service, "isg_authz_seconds_count") >= 3
    assert metric(service, "isg_keys") == 1


async def test_a_new_key_works_and_a_revoked_one_is_refused_within_a_second(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret, within_s=1.0)
    revoke_key(service.state, made.id)
    await service.key_is(401, made.secret, within_s=1.0)


@pytest.mark.parametrize(
    ("headers", "status", "challenge"),
    [
        ({}, 401, "Bearer"),
        (bearer("nonsense"), 401, 'Bearer error="invalid_token"'),
        (bearer(key_format.draw().text), 401, 'Bearer error="invalid_token"'),
        (bearer("k" * 50_000), 401, 'Bearer error="invalid_token"'),
        ({"x-api-key": "k" * 100_000}, 401, 'Bearer error="invalid_token"'),
        ({"authorization": "Basic dTpw"}, 401, 'Bearer error="invalid_token"'),
        ({"authorization": "Bearer ключ"}, 401, 'Bearer error="invalid_token"'),
        ({"authorization": "Bearer a\tb"}, 401, 'Bearer error="invalid_token"'),
        ({"authorization": "Bearer a,Bearer b"}, 400, None),
        ({"authorization": "Bearer a", "x-api-key": "b"}, 400, None),
    ],
)
async def test_what_is_no_good_credential_is_refused(
    service: Service, headers: dict[str, str], status: int, challenge: str | None
) -> None:
    reply = await service.ask("/v1/predict", {**headers, **IDS})
    assert reply.status == status
    assert reply.headers.get("www-authenticate") == challenge
    assert reply.headers["content-type"] == "application/problem+json"
    assert json.loads(reply.body)["request_id"] == "request-1"
    assert not any(name.lower().startswith("x-isg-") for name in reply.headers)


async def test_repeated_headers_are_refused(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret)
    for name, value in (("authorization", f"Bearer {made.secret}"), ("x-api-key", made.secret)):
        line = f"{name}: {value}\r\n"
        head = f"POST /check/v1/predict HTTP/1.1\r\nhost: a\r\n{line}{line}connection: close\r\n\r\n"
        answer = await raw(service, head.encode())
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert made.secret.encode() not in answer


async def test_a_model_in_the_path_must_be_the_keys(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["m1", "gone"])
    await service.key_is(200, made.secret)
    for model, status in (("m1", 200), ("m2", 403), ("nowhere", 403), ("gone", 404)):
        reply = await service.ask(f"/v1/models/{model}:predict?x=1", bearer(made.secret))
        assert reply.status == status


async def test_errors_speak_the_dialect_of_the_path(service: Service) -> None:
    openai = json.loads((await service.ask("/v1/chat/completions", IDS)).body)
    assert openai["error"]["code"] == "no_credential"
    assert openai["error"]["request_id"] == "request-1"
    assert set(json.loads((await service.ask("/v2/models/m1/infer")).body)) == {"error"}
    assert json.loads((await service.ask("/v1/predict")).body)["status"] == 401


async def test_without_a_policy_every_question_is_503_with_retry_after(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret)
    assert (await service.get("/health")).status == 200
    service.policy.gateway = None
    reply = await service.ask("/v1/predict", bearer(made.secret))
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert (await service.get("/health")).status == 503


async def test_health_is_out_of_a_clients_reach(service: Service) -> None:
    assert (await service.get("/health")).status == 200
    assert (await service.ask("/health", method="GET")).status == 401
    assert (await service.get("/metrics")).status == 400
    assert (await service.get("/health?x")).status == 400


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"])
async def test_every_method_is_answered(service: Service, method: str) -> None:
    reply = await service.ask("/v1/predict", method=method)
    assert reply.status == 401
    assert bool(reply.body) == (method != "HEAD")


@pytest.mark.parametrize(
    "head",
    [
        b"POST /check* HTTP/1.1\r\nhost: a",
        b"POST /checkhttp://x/v1/predict HTTP/1.1\r\nhost: a",
        b"POST /check//x/v1/predict HTTP/1.1\r\nhost: a",
        b"POST http://a/check/v1/predict HTTP/1.1\r\nhost: a",
        b"POST /check/v1/\xff HTTP/1.1\r\nhost: a",
        b"TRACE /check/v1/predict HTTP/1.1\r\nhost: a",
        b"FROBNICATE /check/v1/predict HTTP/1.1\r\nhost: a",
        b"POST /check/v1/predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ca\x00nary",
        b"POST /check/v1/predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer ca\x01nary",
        b"POST /check/v1/predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer " + b"canary" * 40_000,
        b"canary",
    ],
)
async def test_what_is_no_proper_request_is_a_quiet_400(
    service: Service, head: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    answer = await raw(service, head + b"\r\nconnection: close\r\n\r\n")
    assert answer.split(b" ", 2)[1] == b"400"
    assert b"canary" not in answer
    assert json.loads(answer.partition(b"\r\n\r\n")[2])["code"] == "invalid_request"
    printed = capfd.readouterr()
    assert "nary" not in printed.out + printed.err


async def test_an_error_of_ours_is_that_requests_503_and_quotes_nothing(
    service: Service, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret)
    find = type(service.index).find

    def broken(self: object, secret: str) -> object:
        if secret == "canary":
            raise KeyError(secret)
        return find(service.index, secret)

    monkeypatch.setattr(type(service.index), "find", broken)
    reply, other = await asyncio.gather(
        service.ask("/v1/predict", {**bearer("canary"), **IDS}), service.ask("/v1/predict", bearer(made.secret))
    )
    assert reply.status == 503
    assert reply.headers["retry-after"] == "1"
    assert json.loads(reply.body)["code"] == "authorization_failed"
    assert other.status == 200
    printed = capfd.readouterr()
    assert "KeyError" in printed.out + printed.err
    assert "request-1" in printed.out + printed.err
    assert "canary" not in reply.body.decode() + printed.out + printed.err


async def test_ten_thousand_random_credentials_are_refused_and_never_5xx(service: Service) -> None:
    chance = random.Random(0)
    letters = [chr(code) for code in (*range(0x20, 0x7F), 0x09, *range(0xA1, 0x100), 0x3BA, 0x1F600)]
    good = key_format.draw().text

    def value() -> str:
        kind = chance.randrange(4)
        if kind == 0:
            return key_format.draw().text
        if kind == 1:
            place = chance.randrange(len(good))
            return good[:place] + chance.choice(letters) + good[place + 1 :]
        text = "".join(chance.choices(letters, k=chance.randrange(60)))
        return text if kind == 2 else f"isg_live_{text}"

    async def some(count: int) -> None:
        for _ in range(count):
            headers = {}
            if chance.random() < 0.7:
                headers["authorization"] = chance.choice(["Bearer ", "bearer ", "", "Basic "]) + value()
            if chance.random() < 0.5:
                headers["x-api-key"] = value()
            reply = await service.ask(chance.choice(["/v1/predict", "/v2/models/m/infer", "/v1/models"]), headers)
            assert reply.status in {400, 401}

    with structlog.testing.capture_logs() as logs:
        await asyncio.gather(*(some(500) for _ in range(20)))
    assert {entry["code"] for entry in logs} == {"ambiguous_credential", "no_credential", "invalid_credential"}


async def test_no_part_of_a_secret_is_in_logs_metrics_or_answers(
    service: Service, capfd: pytest.CaptureFixture[str]
) -> None:
    made = create_key(service.state, tenant="acme", models=["m1"])
    await service.key_is(200, made.secret)
    random_part = made.secret.split("_")[2]
    seen = []
    for secret in (made.secret, made.secret[:-1] + "0", made.secret.upper(), f"{made.secret}{made.secret}"):
        for headers in (bearer(secret), {"x-api-key": secret}, {**bearer(secret), "x-api-key": f"{secret}x"}):
            for path in ("/v1/models/m2:predict", "/v1/chat/completions", "/a/../b"):
                reply = await service.ask(path, {**headers, **IDS})
                seen.append(f"{reply.status} {reply.headers} {reply.body!r}")
    revoke_key(service.state, made.id)
    await service.key_is(401, made.secret)
    printed = capfd.readouterr()
    seen += [printed.out, printed.err, generate_latest(service.metrics.registry).decode()]
    everything = "".join(seen)
    assert made.id in printed.out + printed.err
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in printed.out + printed.err
    for part in (random_part, random_part[:8], random_part[8:], random_part[-8:], random_part.upper()[-8:]):
        assert part not in everything


async def test_last_use_reaches_the_store_off_the_request_path(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret)
    async with asyncio.timeout(3):
        while list_keys(service.state)[0].last_used_at is None:  # noqa: ASYNC110 - another connection writes it
            await asyncio.sleep(0.05)


def delete(state: StateDir) -> None:
    state.key_store.unlink()


def corrupt(state: StateDir) -> None:
    state.key_store.write_bytes(b"garbage" * 1000)


def replace_with_garbage(state: StateDir) -> None:
    other = state.root / "other"
    other.write_bytes(b"garbage" * 1000)
    other.replace(state.key_store)


def truncate(state: StateDir) -> None:
    state.key_store.write_bytes(b"")


def hide_pepper(state: StateDir) -> None:
    state.pepper.rename(state.root / "elsewhere")
    state.key_store.touch()


@pytest.mark.parametrize("fault", [delete, corrupt, replace_with_garbage, truncate, hide_pepper])
async def test_the_last_good_keys_stay_in_force_when_the_store_breaks(
    service: Service, fault: Callable[[StateDir], None], capfd: pytest.CaptureFixture[str]
) -> None:
    good = create_key(service.state, tenant="acme", models=["*"])
    bad = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, good.secret)
    revoke_key(service.state, bad.id)
    await service.key_is(401, bad.secret)
    fault(service.state)
    await service.store_is(up=False)
    assert metric(service, "isg_key_store_up") == 0
    await asyncio.sleep(0.5)
    assert metric(service, "isg_key_store_errors_total") > 1
    assert (await service.ask("/v1/predict", bearer(good.secret))).status == 200
    assert (await service.ask("/v1/predict", bearer(bad.secret))).status == 401
    assert (await service.get("/health")).status == 200
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count("cannot be read: the last good keys") == 1


async def test_a_store_put_in_the_place_of_a_deleted_one_is_followed(service: Service) -> None:
    old = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, old.secret)
    service.state.key_store.unlink()
    await service.store_is(up=False)
    new = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, new.secret)
    await service.key_is(401, old.secret)
    assert metric(service, "isg_key_store_up") == 1
    revoke_key(service.state, new.id)
    await service.key_is(401, new.secret)


async def test_a_locked_store_does_not_delay_answers(service: Service) -> None:
    made = create_key(service.state, tenant="acme", models=["*"])
    await service.key_is(200, made.secret)
    connection = sqlite3.connect(service.state.key_store, isolation_level=None)
    connection.execute("BEGIN EXCLUSIVE")
    try:
        async with asyncio.timeout(2):
            for _ in range(100):
                assert (await service.ask("/v1/predict", bearer(made.secret))).status == 200
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_a_dead_processs_socket_is_replaced_and_a_live_ones_is_not(state: StateDir) -> None:
    state.ext_authz_socket.touch()
    with listening(state.ext_authz_socket):
        assert state.ext_authz_socket.stat().st_mode & 0o777 == 0o600
        with pytest.raises(SocketInUseError, match="another process serves"), listening(state.ext_authz_socket):
            pass
        assert state.ext_authz_socket.exists()
    assert not state.ext_authz_socket.exists()
    with listening(state.ext_authz_socket):
        pass
