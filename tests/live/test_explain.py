"""``isg explain`` and the running gateway: the same requests get the same answers, one by one."""

from __future__ import annotations

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
import pytest_asyncio

from control_plane.config.loader import load
from control_plane.explain.arrival import request
from control_plane.explain.chain import explain
from control_plane.explain.exchange import Exchange
from control_plane.explain.report import Report
from control_plane.explain.services import Services
from control_plane.explain.upstream import Destination
from control_plane.processes import local_endpoints
from control_plane.translate.snapshot import translate
from ext_authz.commands import create_key, revoke_key
from ext_authz.explain import Authorization
from ext_proc.explain import judge
from tests.live.test_commands import isg
from tests.support.raw_http import raw
from tests.support.recorder import Recorder
from tests.support.stack import Stack, running, until

pytestmark = [pytest.mark.live, pytest.mark.asyncio(loop_scope="module")]

GATEWAY = """
version: 1
listen: 127.0.0.1:PORT
backends: backends/
DEFAULT
models:
  m1:
    targets: [{backend: main, weight: 1}, {backend: other, weight: 1}]
    mirror: {backend: shadow, percent: 1}
    input:
      schema: {type: object, required: [text], properties: {text: {type: string}}}
      tensors: [{name: text, datatype: BYTES, shape: [1], from: /text}]
    max_body: 64KiB
  m2:
    backend: main
    input: {tensors: [{name: x, datatype: FP32, shape: [-1, 2], from: /x}]}
    max_body: 1KiB
  pictures:
    backend: main
    input:
      image: {from: /image, formats: [png], max_pixels: 10000}
      tensors: [{name: image, datatype: BYTES, shape: [1], from: /image}]
    max_body: 64KiB
  raw:
    backend: raw
    max_body: 64KiB
"""


def png(width: int = 8, height: int = 8) -> str:
    """A grey picture, in base64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + bytes(width)) * height)
    picture = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    return base64.b64encode(picture).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request; ``key`` names one of the fixture's keys."""

    name: str
    method: str = "POST"
    path: str = "/v1/predict"
    key: str | None = "every"
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes | None = b'{"model":"m1","text":"a"}'
    expected: tuple[int, str | None] = field(default=(200, None))


def case(name: str, status: int, code: str | None, **kwargs: object) -> Case:
    body = kwargs.pop("json", None)
    if body is not None:
        kwargs["body"] = json.dumps(body).encode()
    return Case(name=name, expected=(status, code), **kwargs)  # type: ignore[arg-type] # fields by name


M2 = "/v1/models/m2:predict"
CASES = (
    case("the body names the model", 200, None),
    case("the body names another model", 200, None, json={"model": "m2", "x": [1, 2]}),
    case("the default model", 200, None, json={"text": "a"}),
    case("the path names the model", 200, None, path=M2, json={"x": [[1, 2], [3, 4]]}),
    case("a key of one model", 200, None, key="m2", path=M2, json={"x": [1, 2]}),
    case("a body that goes on as it is", 200, None, json={"model": "raw", "anything": [1]}),
    case("a picture", 200, None, json={"model": "pictures", "image": png()}),
    case("health", 200, None, method="GET", path="/healthz", key=None, body=None),
    case("a chunked body", 200, None, headers=(("transfer-encoding", "chunked"),)),
    case("a path that is normalised", 200, None, path="/v1//x/.././predict"),
    case("a content type with its charset", 200, None, headers=(("content-type", "Application/Json ; charset=utf-8"),)),
    case("forged identity", 403, "model_not_allowed", key="m2", headers=(("x-isg-models", "*"),)),
    case("no key", 401, "no_credential", key=None),
    case("no key and no such path", 401, "no_credential", key=None, path="/admin", method="GET", body=None),
    case("an empty credential", 401, None, key=None, headers=(("authorization", ""),)),
    case("not a bearer", 401, "invalid_credential", key=None, headers=(("authorization", "Basic abc"),)),
    case("no key of ours", 401, "invalid_credential", key=None, headers=(("x-api-key", "nonsense"),)),
    case("a revoked key", 401, "invalid_credential", key="revoked"),
    case("two credentials", 400, "ambiguous_credential", headers=(("x-api-key", "another"),)),
    case("a model that is not the key's", 403, "model_not_allowed", key="m2"),
    case("a default model that is not the key's", 403, "model_not_allowed", key="m2", json={"text": "a"}),
    case("a path's model that is not the key's", 403, "model_not_allowed", key="m2", path="/v1/models/m1:predict"),
    case("no such model, not the key's", 403, "model_not_allowed", key="m2", json={"model": "nowhere"}),
    case("no such model", 404, None, json={"model": "nowhere", "text": "a"}),
    case("no such model in the path", 404, None, path="/v1/models/nowhere:predict", json={"text": "a"}),
    case("no model in the path", 404, None, path="/v1/models/Nowhere!:predict", json={"text": "a"}),
    case("no such path", 404, "not_found", path="/v1/elsewhere"),
    case("models that differ", 400, "model_mismatch", path=M2, json={"model": "m1", "x": [1, 2]}),
    *(
        case(f"the model {json.dumps(model)}", status, None, json={"model": model, "text": "a"})
        for model, status in (
            (5, 400),
            (True, 400),
            (None, 400),
            (["m1"], 400),
            ({"m1": 1}, 400),
            ("", 404),
            ("m1,m2", 404),
            ("M1", 404),
        )
    ),
    *(
        case(f"the model {json.dumps(model)} for a key of m2", status, None, key="m2", json={"model": model})
        for model, status in ((5, 400), (None, 403), ({"m2": 1}, 403), (["m2"], 403), ("m2,", 403), (",", 403))
    ),
    case("a list", 400, "not_an_object", body=b"[1]"),
    case("a list for a key of m2", 403, None, key="m2", body=b"[1]"),
    case("two models, the last counts", 400, None, body=b'{"model":"m2","model":"m1","text":"a"}'),
    case("not JSON", 400, "invalid_json", body=b"not json"),
    case("not a number", 400, "invalid_json", body=b'{"text": NaN}'),
    case("not UTF-8", 400, "invalid_json", body=b'{"text": "\xff"}'),
    case("a byte order mark", 400, "invalid_json", body=b'\xef\xbb\xbf{"text": "a"}'),
    case("not the schema", 422, "schema_violation", json={"text": 5}),
    case("not the tensor", 422, None, path=M2, json={"x": [1, 2, 3]}),
    case("no picture", 422, "missing_image", json={"model": "pictures"}),
    case("not a picture", 422, None, json={"model": "pictures", "image": "AAAA"}),
    case("a picture that is too large", 422, None, json={"model": "pictures", "image": png(200, 200)}),
    *(
        case(f"the method {method}", 405, "method_not_allowed", method=method, body=None)
        for method in ("GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE")
    ),
    case("another method on a model's path", 405, "method_not_allowed", method="GET", path=M2, body=None),
    case("another method on the health path", 405, "method_not_allowed", path="/healthz", key=None, body=None),
    case("CONNECT", 400, "upgrade_not_served", method="CONNECT", path="a.example:443", body=None),
    case("CONNECT without a key", 400, None, method="CONNECT", path="a.example:443", key=None, body=None),
    case("an upgrade", 400, "upgrade_not_served", headers=(("connection", "Upgrade"), ("upgrade", "websocket"))),
    case("an upgrade that is not asked for", 200, None, headers=(("upgrade", "websocket"),)),
    case("a body on GET", 400, "unexpected_body", method="GET"),
    case("another content type", 415, "content_type_not_served", headers=(("content-type", "text/plain"),)),
    case("another charset", 415, None, headers=(("content-type", "application/json; charset=utf-7"),)),
    case("a content encoding", 415, "content_encoding_not_served", headers=(("content-encoding", "gzip"),)),
    case("the identity encoding", 200, None, headers=(("content-encoding", "identity"),)),
    case("no body", 400, "empty_body", body=None, headers=(("content-type", "application/json"),)),
    case("an empty body", 400, "empty_body", body=b""),
    case("an empty chunked body", 400, "invalid_json", body=b"", headers=(("transfer-encoding", "chunked"),)),
    case("an empty chunked body, a path", 400, None, path=M2, body=b"", headers=(("transfer-encoding", "chunked"),)),
    case(
        "an empty chunked body, key of m2", 403, None, key="m2", body=b"", headers=(("transfer-encoding", "chunked"),)
    ),
    case("too large", 413, "body_too_large", body=b'{"text": "' + b"a" * 66_000 + b'"}'),
    case("too large, chunked", 413, None, body=b"a" * 66_000, headers=(("transfer-encoding", "chunked"),)),
    case("too large for its model", 413, "body_too_large", path=M2, body=b'{"x": [' + b"1," * 600 + b"1]}"),
    case("a query", 400, "unexpected_query", path="/v1/predict?api_key=x"),
    case("a query on a model's path", 400, "unexpected_query", path=f"{M2}?a"),
    case("a header with an underscore", 400, "bad_request", headers=(("x_y", "1"),)),
    case("an escaped slash", 400, "bad_request", path="/v1%2Fpredict"),
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def main() -> AsyncIterator[Recorder]:
    recorder = await Recorder().start()
    yield recorder
    await recorder.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory, main: Recorder) -> AsyncIterator[Stack]:
    kserve = f"server: kserve\nmodel: m\nendpoints: ['{main.address}']\n"
    files = {
        "gateway.yaml": GATEWAY.replace("DEFAULT", "default_model: m1"),
        **{f"backends/{name}.yaml": kserve for name in ("main", "other", "shadow")},
        "backends/raw.yaml": kserve.replace("kserve", "http") + "path: /raw/50%\nhealth: {path: /v2/health}\n",
    }
    async with running(tmp_path_factory.mktemp("explain"), files) as stack:
        yield stack


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def keys(gateway: Stack) -> dict[str, str]:
    revoked = create_key(gateway.state, tenant="acme", models=("*",), name="revoked", env="test")
    revoke_key(gateway.state, revoked.id)
    return {"revoked": revoked.secret, "m2": await gateway.key("m2"), "every": await gateway.key()}


def asked(case: Case, keys: dict[str, str]) -> Exchange:
    """What the client sends."""
    credential = () if case.key is None else (("authorization", f"Bearer {keys[case.key]}"),)
    return request(case.method, case.path, (*case.headers, *credential), case.body)


async def sent(exchange: Exchange, port: int) -> tuple[int, dict[str, str], bytes]:
    """Send exactly what was explained."""
    target = exchange.path or exchange.headers[":authority"]
    lines = [f"{exchange.method} {target} HTTP/1.1", f"host: {exchange.headers[':authority']}"]
    lines += [f"{name}: {value}" for name, value in exchange.headers.items() if not name.startswith(":")]
    body = exchange.body
    if "transfer-encoding" in exchange.headers:
        body = (b"%x\r\n%b\r\n" % (len(body), body) if body else b"") + b"0\r\n\r\n"
    return await raw(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def explained(exchange: Exchange, stack: Stack, key_id: str | None = None) -> Report:
    """What isg explain makes of it."""
    translation = translate(load(stack.config), stack.state, local_endpoints(stack.state))
    services = Services(authorize=Authorization(stack.state, key_id=key_id), judge=judge)
    return Report(explanation=explain(exchange, translation, services))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_explain_says_what_the_gateway_does(
    gateway: Stack, main: Recorder, keys: dict[str, str], case: Case
) -> None:
    main.received.clear()
    exchange = asked(case, keys)
    status, headers, body = await sent(exchange, gateway.port)
    report = explained(exchange, gateway)
    said = report.as_data()
    served = headers.get("content-type") != "application/problem+json"
    document = {} if served else json.loads(body)
    assert (said["status"], said["code"]) == (status, document.get("code")), (report.explanation, body)
    assert said["field"] == document.get("field")
    assert said["ok"] == (status < 400)
    assert said["detail"] == document.get("detail", "ok" if case.path == "/healthz" else None)
    assert status == case.expected[0]
    assert case.expected[1] in {None, said["code"]}
    outcome = report.explanation.outcome
    if isinstance(outcome, Destination):
        received = main.received[0]
        assert outcome.path == received.path
        request_id = headers["x-request-id"].encode()
        assert exchange.body.replace(b"explained", request_id) == received.body
        assert outcome.pools[0].endpoints == (main.address,)
    else:
        assert main.received == []


async def test_a_key_id_is_judged_as_its_secret_would_be(gateway: Stack, keys: dict[str, str]) -> None:
    made = create_key(gateway.state, tenant="acme", models=("m2",), name="by id", env="test")
    await until("the key is in effect", lambda: _known(gateway, made.secret))
    for path, body in (("/v1/predict", {"text": "a"}), (M2, {"x": [1, 2]}), (M2, {"x": 1})):
        arguments = ("explain", "POST", path, "-d", json.dumps(body), "--json")
        by_id, by_secret = [
            await isg(gateway, *arguments, *credential)
            for credential in (("--key-id", made.id), ("-H", f"x-api-key: {made.secret}"))
        ]
        assert by_id == by_secret
        reply = await gateway.request("POST", path, body, made.secret)
        said = json.loads(by_id[1])
        assert said["status"] == reply.status
        assert by_id[0] == (0 if reply.status == 200 else 1)
        assert said["notes"] == []


async def _known(gateway: Stack, secret: str) -> bool:
    return (await gateway.predict(b"not json", secret)).status != 401


async def test_the_steps_are_numbered_and_the_last_line_is_the_outcome(gateway: Stack, keys: dict[str, str]) -> None:
    credential = ("-H", f"Authorization: Bearer {keys['every']}")
    code, out, _ = await isg(gateway, "explain", "POST", "/v1/predict", "-d", '{"text": "a"}', *credential)
    assert code == 0
    lines = out.splitlines()
    assert lines[0].startswith(" 1. arrival ")
    assert lines[-1] == "200 would reach backends main or other"
    assert any("1 of 2 requests" in line for line in lines)
    assert keys["every"] not in out
    code, out, _ = await isg(gateway, "explain", "POST", "/v1/predict", "-d", '{"text": 5}', *credential)
    assert (code, out.splitlines()[-1]) == (1, "422 schema_violation /text")


async def test_files_that_are_not_live_are_said_to_be_so_and_planned(gateway: Stack, keys: dict[str, str]) -> None:
    text = gateway.config.read_text()
    candidate = gateway.folder / "candidate.yaml"
    candidate.write_text(
        text.replace("default_model: m1", "").replace("max_body: 1KiB", "max_body: 2KiB\n    timeout: 5s")
    )
    said = json.loads((await isg(gateway, "explain", "GET", "/", "--json", config=candidate))[1])
    assert said["notes"] == ["the files differ from what is live: see isg plan"]
    code, out, _ = await isg(gateway, "plan", config=candidate)
    assert code == 0
    assert out.splitlines() == [
        "~ default_model: m1 -> none  (bodies of /v1/predict that name no model are answered 400)",
        "~ model m2: max_body 1KiB -> 2KiB, timeout 30s -> 5s  (requests under way keep the old policy)",
    ]
    exchange = request("POST", "/v1/predict", [("x-api-key", keys["every"])], b"{}")
    outcome = Report(
        explanation=explain(
            exchange,
            translate(load(candidate), gateway.state, {}),
            Services(authorize=Authorization(gateway.state, key_id=None), judge=judge),
        )
    ).outcome
    assert outcome == "400 no_model /model"
