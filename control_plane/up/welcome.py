"""What ``isg up`` tells its operator once the gateway is ready: the address, and requests to copy.

A configuration may bring its own requests: a file ``requests.txt`` beside it, in which ``{url}`` and ``{key}`` are
filled in, ``{here}`` is its folder, and ``{state}`` the state directory.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.state import StateDir

#: Makes a key when the gateway has none at all, and gives its secret; None where there are keys.
DemoKey = Callable[[StateDir], str | None]

_TEMPLATE: Final = """\
# a key of your own:
isg keys create --state {state} --tenant acme --models '*'
# is it there?
curl {url}/healthz
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Demo:
    """The demo key.

    Attributes:
        secret: None when the key was made on an earlier start.
    """

    file: Path
    secret: str | None


def demo_key(state: StateDir, make: DemoKey) -> Demo | None:
    """The demo key: made where there is no key yet, found where it was made before, else None.

    Raises:
        OSError: it cannot be kept.
    """
    file = state.root / "demo-key"
    secret = make(state)
    if secret is None:
        return Demo(file=file, secret=None) if file.exists() else None
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w") as kept:
        os.fchmod(handle, 0o600)
        kept.write(secret + "\n")
    return Demo(file=file, secret=secret)


def welcome(*, url: str, config: Path, state: StateDir, demo: Demo | None) -> str:
    """The text after the ``ready`` line."""
    own = config.absolute().with_name("requests.txt")
    template = own.read_text(encoding="utf-8") if own.is_file() else _TEMPLATE
    if demo is None:
        key, about = "YOUR-KEY", "keys exist: put one of yours for YOUR-KEY"
    elif demo.secret is None:
        key, about = f"$(cat {_shell(demo.file)})", f"the demo key is in {demo.file}"
    else:
        key, about = demo.secret, f"a demo key was made, and kept in {demo.file}:\n  {demo.secret}"
    filled = template.replace("{url}", url).replace("{key}", key).replace("{here}", _shell(own.parent))
    filled = filled.replace("{state}", _shell(state.root.absolute()))
    sockets = state.sockets
    return (
        f"\n{about}\n\n{filled.rstrip()}\n\n"
        f"# how the model servers are:\n"
        f"curl --unix-socket {_shell(state.envoy_admin_socket)} http://envoy/clusters\n"
        f"# what the services count:\n"
        f"curl --unix-socket {_shell(sockets / 'ext_authz-admin.sock')} http://isg/metrics\n"
    )


def _shell(path: Path) -> str:
    return shlex.quote(str(path))
