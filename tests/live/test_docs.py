"""docs/requests.md against a running gateway: its exchanges, and every refusal that can be brought about."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import re
import socket
import subprocess
import sys
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml
from aiohttp import web

from tests.support.raw_http import raw
from tests.support.recorder import Received, Recorder, ones
from tests.support.stack import Reply, Stack, free_port, running, until

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "requests.md").read_text()
QUICKSTART = ROOT / "examples" / "quickstart"
HEADER = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(?: (.*))?\Z")

#: Codes that no exchange and no test below brings about, and why.
NOT_HERE = {
    "no_model": "needs a gateway without a default model; tests/ext_proc",
    "request_timeout": "takes ten seconds",
    "too_many_requests": "kept for limits",
    "no_verdict": "tests/faults",
    "forbidden": "a reply of Envoy's that no configuration of ours makes",
    **dict.fromkeys(
        ("invalid_request", "unknown_path", "no_identity", "not_validated", "no_policy"),
        "second pair of eyes; tests/ext_authz, tests/ext_proc",
    ),
    **dict.fromkeys(("authorization_failed", "internal_error"), "a defect of ours; tests/ext_authz, tests/ext_proc"),
    **dict.fromkeys(("keys_unavailable", "gateway_not_ready"), "before the first policy; tests/ext_authz"),
    "validation_timeout": "takes five seconds; tests/faults",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """One request and its answer, as the page shows them."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes | None
    status: int
    answer: Any

    @property
    def name(self) -> str:
        code = self.answer.get("code", self.answer.get("model"))
        return f"{self.status}-{code}"


def exchanges() -> Iterator[Exchange]:
    for block in re.findall(r"^```exchange\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL):
        for text in block.strip().split("\n\n"):
            sent = [line[2:] for line in text.splitlines() if line.startswith("> ")]
            status, answer = (line[2:] for line in text.splitlines() if line.startswith("< "))
            method, path = sent[0].split()
            headers = {m[1]: m[2] or "" for line in sent[1:] if (m := HEADER.match(line))}
            bodies = [line.encode() for line in sent[1:] if not HEADER.match(line)]
            yield Exchange(
                method=method,
                path=path,
                headers=headers,
                body=bodies[0] if bodies else None,
                status=int(status),
                answer=json.loads(answer),
            )


EXCHANGES = list(exchanges())
SHOWN = {exchange.answer["code"] for exchange in EXCHANGES if exchange.status != 200}
CODES = set(re.findall(r"^\| \d{3} \| `([a-z0-9_]+)` \|", PAGE, re.MULTILINE))
#: Codes that the tests below bring about by other means than an exchange of the page.
BY_HAND = {
    "body_too_large",
    "headers_too_large",
    "invalid_header",
    "transfer_encoding_not_served",
    "upgrade_required",
    "image_too_large",
    "answer_too_large",
    "model_timeout",
    "model_unavailable",
    "bad_gateway",
    "validation_unavailable",
    "authorization_unavailable",
}


async def as_asked(received: Received) -> web.Response:
    """The page's `numbers` server: the first tensor's name says what to do."""
    tensor = json.loads(received.body)["inputs"][0]
    first = tensor["data"][0]
    if tensor["name"] == "status":
        return web.Response(status=first, text="not JSON")
    if tensor["name"] == "sleep":
        await asyncio.sleep(first)
    if tensor["name"] == "size":
        return web.Response(body=b" " * first, content_type="application/json")
    return await ones(received)


def gateway_yaml() -> str:
    """The quickstart's configuration, the page's fragment, and models for what a healthy server does not do."""
    config = yaml.safe_load((QUICKSTART / "gateway.yaml").read_text())
    [fragment] = re.findall(r"^```yaml fragment\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    config |= {"listen": "127.0.0.1:PORT", "backends": "backends"}
    config["models"] |= yaml.safe_load(fragment)["models"]
    config["models"] |= {
        "slow": {"backend": "numbers", "timeout": "200ms", "retries": 0},
        "away": {"backend": "away", "retries": 0},
        "garbage": {"backend": "garbage", "retries": 0},
    }
    return yaml.safe_dump(config)


@contextlib.contextmanager
def model_server(name: str) -> Iterator[int]:
    port = free_port()
    command = [sys.executable, "-m", "backends.server", name, "--port", str(port)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield port
    finally:
        process.terminate()
        process.wait(10)


async def _garbage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1)
    writer.write(b"this is no HTTP\r\n\r\n")
    writer.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    if not all((ROOT / "backends" / "models" / f"{name}.npz").exists() for name in ("digits", "language")):
        pytest.skip("the demo's models are not there: make setup")
    numbers = await Recorder(answer=as_asked).start()
    garbage = await asyncio.start_server(_garbage, "127.0.0.1", 0)
    # Bound and not listening: connections are refused, and nobody else gets the port.
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with model_server("digits") as digits, model_server("language") as language:
            there = {
                "digits": f"server: kserve\nendpoints: ['127.0.0.1:{digits}']\n",
                "language": f"server: kserve\nendpoints: ['127.0.0.1:{language}']\n",
                "numbers": f"server: kserve\nendpoints: ['{numbers.address}']\n",
                "away": f"server: http\npath: /x\nendpoints: ['127.0.0.1:{closed.getsockname()[1]}']\n",
                "garbage": f"server: http\npath: /x\nendpoints: ['127.0.0.1:{garbage.sockets[0].getsockname()[1]}']\n",
            }
            files = {
                "gateway.yaml": gateway_yaml(),
                "languages.txt": (QUICKSTART / "languages.txt").read_text(),
                **{f"backends/{name}.yaml": text for name, text in there.items()},
            }
            async with running(tmp_path_factory.mktemp("docs"), files) as stack:
                yield stack
    garbage.close()
    await garbage.wait_closed()
    await numbers.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key(gateway: Stack) -> str:
    return await gateway.key()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def key_of_digits(gateway: Stack) -> str:
    return await gateway.key("digits")


@pytest.mark.parametrize("exchange", EXCHANGES, ids=[exchange.name for exchange in EXCHANGES])
async def test_what_the_page_shows_is_what_is_answered(
    gateway: Stack, key: str, key_of_digits: str, exchange: Exchange
) -> None:
    placeholders = {"EMPTY": "", "Bearer KEY-OF-DIGITS": f"Bearer {key_of_digits}"}
    headers = {name: placeholders.get(value, value) for name, value in exchange.headers.items()}
    headers = {"authorization": f"Bearer {key}", **headers}
    if headers["authorization"] == "":
        del headers["authorization"]
    reply = await gateway.request(exchange.method, exchange.path, exchange.body, headers=headers)
    assert reply.status == exchange.status, reply
    answer = reply.json
    expected = dict(exchange.answer)
    if expected["request_id"] == "…":
        expected["request_id"] = reply.headers["x-request-id"]
    assert _rounded(answer) == _rounded(expected)
    if reply.status == 200:
        return
    _refused(reply, exchange.status, expected["code"])
    if reply.status == 401:
        sent_one = any(name in headers and headers[name] for name in ("authorization", "x-api-key"))
        assert reply.headers["www-authenticate"] == ('Bearer error="invalid_token"' if sent_one else "Bearer")


def _rounded(value: Any) -> Any:
    """Without the last digits of scores, which another processor may compute otherwise."""
    if isinstance(value, float):
        return round(value, 4)
    if isinstance(value, dict):
        return {name: _rounded(member) for name, member in value.items()}
    return [_rounded(item) for item in value] if isinstance(value, list) else value


def _refused(reply: Reply, status: int, code: str) -> None:
    assert (reply.status, reply.json["code"]) == (status, code), reply
    assert reply.headers["content-type"] == "application/problem+json"
    assert f"| {status} | `{code}` |" in PAGE
    [row] = [line for line in PAGE.splitlines() if line.startswith(f"| {status} | `{code}` |")]
    if row.count("|") == 5:  # the table with a column for retry-after
        stated = row.split("|")[4].strip()
        assert reply.headers.get("retry-after", "-") == ("1" if stated.startswith("the server's") else stated)
    assert code in BY_HAND | SHOWN


def _asking(name: str, value: int, model: str = "raw") -> dict[str, Any]:
    return {"model": model, "inputs": [{"name": name, "datatype": "INT32", "shape": [1], "data": [value]}]}


async def test_bodies_over_the_limit(gateway: Stack, key: str) -> None:
    size = 1024 * 1024 + 1
    status, headers, body = await raw(
        gateway.port,
        f"POST /v1/predict HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n"
        f"content-type: application/json\r\ncontent-length: {size}\r\n\r\n{' ' * size}",
    )
    at_the_door = Reply(status=status, headers=headers, body=body)
    _refused(at_the_door, 413, "body_too_large")
    assert "1048576" in at_the_door.json["detail"]
    one_models = await gateway.predict(json.dumps(_asking("x", 1)).encode() + b" " * 65_536, key)
    _refused(one_models, 413, "body_too_large")
    assert "65536" in one_models.json["detail"]


async def test_requests_that_no_client_library_sends(gateway: Stack, key: str) -> None:
    length = "content-length: 0\r\n"
    for version, more, status, code, knows_its_id in (
        ("1.1", f"{length}x-large: {'a' * 70_000}\r\n", 431, "headers_too_large", False),
        ("1.0", length, 426, "upgrade_required", False),
        ("1.1", "transfer-encoding: gzip\r\n", 501, "transfer_encoding_not_served", False),
        ("1.1", f"{length}content-type: application/json\r\ntraceparent: \xff\r\n", 400, "invalid_header", True),
    ):
        got, headers, body = await raw(
            gateway.port,
            f"POST /v1/predict HTTP/{version}\r\nhost: a\r\nauthorization: Bearer {key}\r\n{more}\r\n",
        )
        _refused(Reply(status=got, headers=headers, body=body), status, code)
        assert (json.loads(body)["request_id"] is not None) == knows_its_id


async def test_a_picture_of_too_many_pixels(gateway: Stack, key: str) -> None:
    good = (QUICKSTART / "three.png").read_bytes()
    head = good[:16] + (50_000).to_bytes(4, "big") * 2 + good[24:29]
    huge = base64.b64encode(head + zlib.crc32(head[12:29]).to_bytes(4, "big") + good[33:]).decode()
    _refused(await gateway.predict({"model": "digits", "image": huge}, key), 422, "image_too_large")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (_asking("size", 20_000_000), 502, "answer_too_large"),
        (_asking("sleep", 2, model="slow"), 504, "model_timeout"),
        ({"model": "away"}, 503, "model_unavailable"),
        ({"model": "garbage"}, 502, "bad_gateway"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
async def test_model_servers_that_fail(gateway: Stack, key: str, body: object, status: int, code: str) -> None:
    _refused(await gateway.predict(body, key), status, code)


async def test_what_the_page_says_of_headers(gateway: Stack, key: str) -> None:
    reply = await gateway.request("GET", "/healthz")
    assert (reply.status, reply.body) == (200, b"ok\n")
    assert reply.headers["x-request-id"]
    method = await gateway.request("GET", "/v1/predict", None, key)
    assert method.headers["allow"] == "POST"


@pytest.mark.parametrize(
    ("part", "code"), [("ext-proc", "validation_unavailable"), ("ext-authz", "authorization_unavailable")]
)
async def test_services_that_are_away(gateway: Stack, key: str, part: str, code: str) -> None:
    gateway.kill(part)
    try:
        _refused(await gateway.predict({"text": "Hello"}, key), 503, code)
    finally:
        await gateway.restart(part)
        await until("requests succeed again", _succeeds(gateway, key))


def _succeeds(gateway: Stack, key: str) -> Callable[[], Awaitable[bool]]:
    async def succeeds() -> bool:
        return (await gateway.predict({"text": "Hello"}, key)).status == 200

    return succeeds


async def test_every_code_of_the_page_is_brought_about_here_or_has_its_reason() -> None:
    assert SHOWN | BY_HAND | NOT_HERE.keys() == CODES
    assert NOT_HERE.keys() & (SHOWN | BY_HAND) == set()
