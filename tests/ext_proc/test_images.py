"""An image is what it claims to be, to its last pixel, and costs no more than its limit."""

from __future__ import annotations

import base64
import io
import json
import struct
import time
import zlib

import pytest
from PIL import Image

from ext_proc.refusal import Refused
from ext_proc.session import Session
from ext_proc.validation.images import check_image
from ext_proc.verdict import Accept, Refuse
from gateway.policy import ImageFormat, ImageRule
from tests.ext_proc.policies import facts, image_model, rules


def picture(kind: str = "PNG", size: tuple[int, int] = (20, 10), **options: object) -> bytes:
    image = Image.effect_noise(size, 80).convert("RGB")
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, *chunks: bytes) -> bytes:
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(chunks) + chunk(b"IEND", b"")


def code(value: object, formats: tuple[ImageFormat, ...] = ("png", "jpeg"), max_pixels: int = 10_000) -> str:
    with pytest.raises(Refused) as caught:
        check_image(value, ImageRule(source="/image", formats=formats, max_pixels=max_pixels))
    problem = caught.value.problem
    assert (problem.status, problem.field) == (422, "/image")
    return problem.code


def accepted(value: str, max_pixels: int = 10_000) -> str:
    return check_image(value, ImageRule(source="/image", max_pixels=max_pixels))


@pytest.mark.parametrize("data", [picture(), picture("JPEG"), picture("JPEG", progressive=True)])
def test_a_whole_image_is_accepted_and_every_truncation_is_not(data: bytes) -> None:
    assert accepted(text(data)) == text(data)
    for length in (*range(0, len(data) - 8, 37), *range(len(data) - 8, len(data))):
        assert code(text(data[:length])) in ("truncated_image", "invalid_image", "unsupported_image")


def test_a_data_uri_must_tell_the_truth_and_is_taken_off() -> None:
    plain = text(picture())
    assert accepted(f"data:image/png;base64,{plain}") == plain
    assert code(f"data:image/jpeg;base64,{plain}") == "mislabelled_image"
    assert code(f"data:text/html;base64,{plain}") == "mislabelled_image"
    assert code(f"data:image/png,{plain}") == "invalid_base64"


def test_the_type_is_told_by_content() -> None:
    assert code(text(picture("JPEG")), formats=("png",)) == "unsupported_image"
    assert code(text(picture("GIF"))) == "unsupported_image"
    assert code(text(b"<svg/>")) == "unsupported_image"
    assert code("") == "unsupported_image"


@pytest.mark.parametrize("value", [5, None, ["aGk="], {}])
def test_an_image_must_be_a_string(value: object) -> None:
    assert code(value) == "invalid_image"


def test_base64_is_strict() -> None:
    data = picture()
    good = text(data + b"!" * ((1 - len(data)) % 3))
    assert good.endswith("==")
    assert accepted(good)
    for bad in (
        good[:-1],
        f"{good[:8]}\n{good[8:]}",
        good + "=",
        good[:-3] + "/==",
        "ä" + good,
        good.replace("i", "_", 1),
    ):
        assert code(bad) == "invalid_base64"


def test_pixels_are_counted_before_any_is_decoded() -> None:
    bomb = png(60_000, 60_000, chunk(b"IDAT", zlib.compress(b"\0" * 1000)))
    started = time.perf_counter()
    assert code(text(bomb)) == "image_too_large"
    assert time.perf_counter() - started < 0.5
    assert accepted(text(picture(size=(100, 100))))
    assert code(text(picture(size=(100, 101)))) == "image_too_large"
    assert code(text(picture("JPEG", size=(100, 101)))) == "image_too_large"


@pytest.mark.parametrize("kind", [b"zTXt", b"iTXt", b"iCCP"])
def test_compressed_chunks_cannot_explode(kind: bytes) -> None:
    packed = zlib.compress(b"\0" * 200_000_000, 9) if kind == b"zTXt" else zlib.compress(b"\0" * 20_000_000, 9)
    head = b"a\0\x01\0\0\0" if kind == b"iTXt" else b"a\0\0"
    pixels = chunk(b"IDAT", zlib.compress(b"\0" * 31 * 10))
    started = time.perf_counter()
    assert code(text(png(10, 10, chunk(kind, head + packed), pixels))) == "invalid_image"
    assert time.perf_counter() - started < 0.5


def test_a_jpeg_of_very_many_scans_is_refused_before_decoding() -> None:
    data = picture("JPEG", progressive=True)
    at = data.index(b"\xff\xda")
    scan = data[at : data.index(b"\xff", at + 20)]
    assert code(text(data[:-2] + scan * 200 + data[-2:])) == "invalid_image"


def test_the_model_server_gets_base64_alone() -> None:
    policy = image_model()
    plain = text(picture())
    session = Session(rules(policy))
    assert session.is_heavy(facts(policy), 100)
    body = json.dumps({"model": "digits", "image": f"data:image/png;base64,{plain}"}).encode()
    verdict = session.request_body(facts(policy), body)
    assert isinstance(verdict, Accept)
    assert verdict.body is not None
    assert json.loads(verdict.body)["inputs"][0]["data"] == [plain]


def test_a_missing_image_is_named() -> None:
    policy = image_model()
    verdict = Session(rules(policy)).request_body(facts(policy), b'{"model": "digits"}')
    assert isinstance(verdict, Refuse)
    assert (verdict.code, json.loads(verdict.answer.body)["field"]) == ("missing_image", "/image")
