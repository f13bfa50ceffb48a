"""Who a server is and whom it serves over TCP: mutual TLS, and nothing without it."""

from __future__ import annotations

from dataclasses import dataclass, field

import grpc


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerTls:
    """Credentials of a server, PEM.

    Attributes:
        certificate: the server's, with the chain that clients need.
        key: the private key of ``certificate``.
        client_ca: authorities whose clients are served; nobody else is.
    """

    certificate: bytes
    key: bytes = field(repr=False)
    client_ca: bytes

    def credentials(self) -> grpc.ServerCredentials:
        """For gRPC.

        Raises:
            ValueError: a part is empty. Without an authority gRPC would serve everybody.
        """
        for name in ("certificate", "key", "client_ca"):
            if b"-----BEGIN " not in getattr(self, name):
                raise ValueError(f"{name} of the server's TLS is not PEM")
        return grpc.ssl_server_credentials(
            [(self.key, self.certificate)], root_certificates=self.client_ca, require_client_auth=True
        )
