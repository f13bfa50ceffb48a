"""Where the processes of one gateway meet: the state directory and its sockets.

STATE/keys.db, STATE/pepper        API keys (SQLite) and the secret that their hashes are keyed with
STATE/policy-<service>.json        last good policy of a service
STATE/processes.json               local model servers that the control plane wants (`run:`)
STATE/endpoints.json               where the supervisor runs them
STATE/sockets/*.sock               Unix sockets, directory mode 0700
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Service = Literal["control_plane", "ext_authz", "ext_proc"]

#: ``sockaddr_un.sun_path`` holds 108 bytes with its terminator; the longest name we put behind the directory is 32.
_MAX_SOCKET_DIR = 107 - 32


@dataclass(frozen=True, slots=True)
class StateDir:
    """Paths below one state directory; making it is :meth:`prepare`."""

    root: Path

    @property
    def sockets(self) -> Path:
        """Directory of the Unix sockets: below the root, or in the temporary directory if its path is too long."""
        wanted = self.root.absolute() / "sockets"
        if len(os.fsencode(wanted)) <= _MAX_SOCKET_DIR:
            return wanted
        digest = hashlib.blake2b(os.fsencode(wanted), digest_size=8).hexdigest()
        return Path(tempfile.gettempdir()) / f"isg-{os.getuid()}-{digest}"

    @property
    def ads_socket(self) -> Path:
        """The control plane's xDS server."""
        return self.sockets / "ads.sock"

    @property
    def ext_authz_socket(self) -> Path:
        """HTTP ext_authz."""
        return self.sockets / "ext_authz.sock"

    @property
    def ext_proc_socket(self) -> Path:
        """gRPC ext_proc (and its gRPC health service)."""
        return self.sockets / "ext_proc.sock"

    @property
    def envoy_admin_socket(self) -> Path:
        """Envoy's admin interface; never TCP."""
        return self.sockets / "envoy-admin.sock"

    def admin_socket(self, service: Service) -> Path:
        """A service's own HTTP: ``/metrics``, ``/ready``."""
        return self.sockets / f"{service}-admin.sock"

    def policy_file(self, service: Service) -> Path:
        """Last good policy of a service, so that it can start while the control plane is down."""
        return self.root / f"policy-{service}.json"

    @property
    def key_store(self) -> Path:
        """SQLite database of the API keys."""
        return self.root / "keys.db"

    @property
    def pepper(self) -> Path:
        """Secret that keys are hashed with; mode 0600."""
        return self.root / "pepper"

    @property
    def processes(self) -> Path:
        """Local model servers that the control plane wants."""
        return self.root / "processes.json"

    @property
    def endpoints(self) -> Path:
        """Addresses of the local model servers that run."""
        return self.root / "endpoints.json"

    def prepare(self) -> None:
        """Create the directories with mode 0700.

        Raises:
            PermissionError: the socket directory belongs to another user or is open to others.
        """
        self.root.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.sockets.mkdir(parents=True, exist_ok=True, mode=0o700)
        found = self.sockets.stat()
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise PermissionError(f"{self.sockets} must belong to this user with mode 0700")
