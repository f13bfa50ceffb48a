"""The small languages inside the YAML: sizes, durations, addresses, JSON pointers.

Every function takes what was written and raises ValueError in the operator's words.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Final

from control_plane.config.errors import shown

KIB: Final = 1024
_SIZE_UNITS: Final = {
    "B": 1, "KB": 1000, "MB": 1000**2, "GB": 1000**3, "KiB": KIB, "MiB": KIB**2, "GiB": KIB**3,
}  # fmt: skip
MAX_SIZE: Final = KIB**3
MAX_DURATION_S: Final = 24 * 3600
_DURATION_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([A-Za-z]+)\Z", re.ASCII)
_HOST_PORT = re.compile(r"(?:\[(?P<v6>[^\[\]]*)\]|(?P<host>[^:\[\]]*)):(?P<port>[0-9]{1,5})\Z", re.ASCII)
_DNS_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\Z", re.ASCII)
_URL_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@%/-]{0,1023}\Z", re.ASCII)
_SERVER_NAME = re.compile(r"[A-Za-z0-9._~:@+-]{1,128}\Z", re.ASCII)
_POINTER = re.compile(r"(?:/(?:[^~/]|~[01])*)*\Z", re.DOTALL)


def size(value: object) -> object:
    """Bytes from ``64KiB``; what is not text passes through."""
    if not isinstance(value, str):
        return value
    number = _quantity(value, _SIZE_UNITS)
    if number is None or number != int(number):
        raise ValueError(f"expected a size such as 64KiB, 1MiB or 500B, found {shown(value)}")
    if not 1 <= number <= MAX_SIZE:
        raise ValueError(f"expected a size from 1B to 1GiB, found {shown(value)}")
    return int(number)


def duration(value: object) -> object:
    """Seconds from ``250ms``; what is not text passes through."""
    if not isinstance(value, str):
        return value
    number = _quantity(value, _DURATION_UNITS)
    if number is None:
        raise ValueError(f"expected a duration such as 250ms, 30s, 5m or 1h, found {shown(value)}")
    if number > MAX_DURATION_S:
        raise ValueError(f"expected a duration of at most 24h, found {shown(value)}")
    return number


def host_port(text: str, *, expected: str) -> tuple[str, int]:
    """Host and port; the host may be empty.

    Args:
        expected: what to say that an address looks like.
    """
    found = _HOST_PORT.match(text)
    if found is None or int(found["port"]) > 65535:
        raise ValueError(f"expected an address such as {expected}, found {shown(text)}")
    if found["v6"] is None:
        return found["host"], int(found["port"])
    if not _is_ip(found["v6"], version=6):
        raise ValueError(f"{shown(found['v6'])} is not an IPv6 address")
    return found["v6"], int(found["port"])


def listen_address(text: str) -> tuple[str, int]:
    """Where to listen: an IP address and a port. No host means every interface, port 0 any free one."""
    host, port = host_port(text, expected="127.0.0.1:8080, [::]:8080 or :8080")
    host = {"": "0.0.0.0", "localhost": "127.0.0.1"}.get(host, host)  # noqa: S104 (the operator wrote it so)
    if not _is_ip(host):
        raise ValueError(f"expected an IP address to listen on, found {shown(host)}")
    return host, port


def endpoint_address(text: str) -> tuple[str, int]:
    """A model server: an IP address or a DNS name, and a port."""
    host, port = host_port(text, expected="10.0.0.11:8000 or triton.internal:8000")
    if not host:
        raise ValueError(f"expected a host before the port, found {shown(text)}")
    if port == 0:
        raise ValueError(f"expected a port from 1 to 65535, found {shown(text)}")
    labels = host.rstrip(".").split(".")
    numeric = labels[-1].isdigit()
    if not _is_ip(host) and (numeric or len(host) > 253 or not all(map(_DNS_LABEL.match, labels))):
        raise ValueError(f"{shown(host)} is neither an IP address nor a DNS name")
    return host, port


def json_pointer(text: str) -> str:
    """A JSON pointer (RFC 6901)."""
    if not _POINTER.match(text):
        raise ValueError(f"expected a JSON pointer such as /image or /items/0, found {shown(text)}")
    return text


def url_path(text: str) -> str:
    """An absolute URL path without query or fragment."""
    if not _URL_PATH.match(text):
        raise ValueError(f"expected a path that begins with / such as /predict, found {shown(text)}")
    return text


def server_name(text: str) -> str:
    """A model's name on its server."""
    if not _SERVER_NAME.match(text) or text in (".", ".."):
        raise ValueError(f"expected a name of letters, digits and . _ ~ : @ + -, found {shown(text)}")
    return text


def tensor_name(text: str) -> str:
    """The name of an input of a model."""
    if not text.isprintable() or not 0 < len(text) <= 128:
        raise ValueError(f"expected a tensor's name of 1 to 128 printable characters, found {shown(text)}")
    return text


def _quantity(text: str, units: dict[str, int] | dict[str, float]) -> float | None:
    found = _QUANTITY.match(text)
    if found is None or found[2] not in units:
        return None
    return round(float(found[1]) * units[found[2]], 6)


def _is_ip(host: str, version: int | None = None) -> bool:
    if "%" in host:
        return False
    try:
        return version in (None, ipaddress.ip_address(host).version)
    except ValueError:
        return False
