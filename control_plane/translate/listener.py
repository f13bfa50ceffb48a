"""The public listeners: limits of connections and headers, hardening of paths, the filter chain."""

from __future__ import annotations

from typing import Final

from control_plane.config.model import Address
from control_plane.translate.access_log import access_log
from control_plane.translate.filter_chain import http_filters
from control_plane.translate.header_rules import early_headers
from control_plane.translate.local_replies import local_reply_config
from control_plane.translate.routes import ROUTES_PUBLIC
from control_plane.translate.wire import any_of, seconds, true, uint32
from gateway import envoy_api as api

_CONNECTION_BUFFER: Final = 32 * 1024


def listener(address: Address) -> api.listener_v3.Listener:
    """One public listener. It holds nothing that a change of models changes, so such a change drains no connection."""
    manager = api.listener_v3.Filter(
        name="envoy.filters.network.http_connection_manager", typed_config=any_of(_connection_manager())
    )
    return api.listener_v3.Listener(
        name=f"public/{address}",
        address=api.core_v3.Address(
            socket_address=api.core_v3.SocketAddress(address=address.host, port_value=address.port)
        ),
        filter_chains=[api.listener_v3.FilterChain(filters=[manager])],
        per_connection_buffer_limit_bytes=uint32(_CONNECTION_BUFFER),
        # With SO_REUSEPORT a second gateway on the same port would silently take half of the traffic.
        enable_reuse_port=api.protobuf.BoolValue(value=False),
    )


def _connection_manager() -> api.hcm_v3.HttpConnectionManager:
    source = api.core_v3.ConfigSource(resource_api_version="V3")
    source.ads.SetInParent()
    return api.hcm_v3.HttpConnectionManager(
        stat_prefix="public",
        codec_type="AUTO",
        rds=api.hcm_v3.Rds(config_source=source, route_config_name=ROUTES_PUBLIC),
        use_remote_address=true(),
        normalize_path=true(),
        merge_slashes=True,
        path_with_escaped_slashes_action="REJECT_REQUEST",
        request_timeout=seconds(60),
        request_headers_timeout=seconds(10),
        always_set_request_id_in_response=True,
        server_name="isg",
        common_http_protocol_options=api.core_v3.HttpProtocolOptions(
            idle_timeout=seconds(300), headers_with_underscores_action="REJECT_REQUEST"
        ),
        http2_protocol_options=api.core_v3.Http2ProtocolOptions(
            max_concurrent_streams=uint32(100),
            initial_stream_window_size=uint32(64 * 1024),
            initial_connection_window_size=uint32(1024 * 1024),
        ),
        early_header_mutation_extensions=[early_headers()],
        local_reply_config=local_reply_config(),
        access_log=[access_log()],
        http_filters=http_filters(),
    )
