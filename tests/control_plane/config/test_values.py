import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.config import values

SIZES = {"64KiB": 65536, "1MiB": 1048576, "500B": 500, "10MB": 10_000_000, "1 KB": 1000, "0.5KiB": 512, "1GiB": 2**30}
DURATIONS = {"250ms": 0.25, "30s": 30, "5m": 300, "1h": 3600, "1.5s": 1.5, "24h": 86400, "0s": 0}
NO_SIZES = ["", "1", "KiB", "1kib", "-1KiB", "1.0000001KiB", "0.3B", "0B", "1025MiB", "1e3B", "1 024B", "\u0661KiB"]
NO_DURATIONS = ["", "1", "s", "-1s", "1d", "1S", "25h", "1m30s", "inf s", "\u0661s"]


@pytest.mark.parametrize(("text", "expected"), SIZES.items())
def test_a_size_is_bytes(text, expected):
    assert values.size(text) == expected


@pytest.mark.parametrize(("text", "expected"), DURATIONS.items())
def test_a_duration_is_seconds(text, expected):
    assert values.duration(text) == expected


@pytest.mark.parametrize("text", NO_SIZES)
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ValueError, match="expected a size"):
        values.size(text)


@pytest.mark.parametrize("text", NO_DURATIONS)
def test_what_is_no_duration_is_refused(text):
    with pytest.raises(ValueError, match="expected a duration"):
        values.duration(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    {
        "127.0.0.1:8080": ("127.0.0.1", 8080),
        ":8080": ("0.0.0.0", 8080),
        "[::]:8080": ("::", 8080),
        "localhost:0": ("127.0.0.1", 0),
    }.items(),
)
def test_an_address_to_listen_on(text, expected):
    assert values.listen_address(text) == expected


@pytest.mark.parametrize(
    "text", ["", "80", "::1:80", "[::1]80", "[fe80::1%eth0]:80", "[127.0.0.1]:80", "1.2.3:80", "a b:1"]
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(ValueError, match=r"expected an|is not an IPv6 address"):
        values.listen_address(text)


@pytest.mark.parametrize("text", ["a.b-c_d:1", "model:65535", "10.0.0.1:80", "[2001:db8::1]:80", "a.example.:1"])
def test_an_endpoint_is_an_ip_address_or_a_dns_name(text):
    assert values.endpoint_address(text)[1] > 0


@pytest.mark.parametrize("text", ["-a:1", "a..b:1", "a/b:1", "http://a:1", "a:", "1.2.3.4.5:1", f"{'a' * 64}:1"])
def test_what_is_no_endpoint_is_refused(text):
    with pytest.raises(ValueError, match=r"expected an address|is neither"):
        values.endpoint_address(text)


@pytest.mark.parametrize("text", ["", "/", "/a/0", "/~0~1", "/a b", "/\u00e9\n"])
def test_a_json_pointer(text):
    assert values.json_pointer(text) == text


@pytest.mark.parametrize("text", ["a", "/~", "/~2", "#/a"])
def test_what_is_no_json_pointer_is_refused(text):
    with pytest.raises(ValueError, match="JSON pointer"):
        values.json_pointer(text)


@given(st.text())
def test_any_text_is_a_value_or_a_value_error(text):
    for read in (
        values.size, values.duration, values.listen_address, values.endpoint_address, values.json_pointer,
        values.url_path, values.server_name, values.tensor_name,
    ):  # fmt: skip
        try:
            read(text)
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017 (either outcome is right)
