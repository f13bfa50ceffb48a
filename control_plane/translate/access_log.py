"""What Envoy writes about requests that did not go well: one JSON line, with the request id, on its standard output."""

from __future__ import annotations

from typing import Final

from control_plane.translate.wire import any_of, struct
from gateway import envoy_api as api
from gateway.names import HEADER_KEY_ID, HEADER_TENANT, NS_AUTHZ

#: A request slower than this is written whatever its status.
SLOW_MS: Final = 10_000

_FIELDS: Final = {
    "process": "envoy",
    "event": "request",
    "timestamp": "%START_TIME%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "traceparent": "%REQ(TRACEPARENT)%",
    "method": "%REQ(:METHOD)%",
    "path": "%PATH(NQ)%",
    "status": "%RESPONSE_CODE%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "flags": "%RESPONSE_FLAGS%",
    "route": "%ROUTE_NAME%",
    "cluster": "%UPSTREAM_CLUSTER%",
    "endpoint": "%UPSTREAM_HOST%",
    "duration_ms": "%DURATION%",
    "bytes_received": "%BYTES_RECEIVED%",
    "bytes_sent": "%BYTES_SENT%",
    "tenant": f"%DYNAMIC_METADATA({NS_AUTHZ}:{HEADER_TENANT})%",
    "key_id": f"%DYNAMIC_METADATA({NS_AUTHZ}:{HEADER_KEY_ID})%",
}


def access_log() -> api.accesslog_v3.AccessLog:
    """Failures (5xx) and slow requests; refusals are logged by the service that refused, and counted by Envoy."""
    log = api.als_stream_v3.StdoutAccessLog(
        log_format=api.core_v3.SubstitutionFormatString(json_format=struct(_FIELDS))
    )
    failed = api.accesslog_v3.AccessLogFilter(
        status_code_filter=api.accesslog_v3.StatusCodeFilter(comparison=_at_least("isg.access_log.status", 500))
    )
    slow = api.accesslog_v3.AccessLogFilter(
        duration_filter=api.accesslog_v3.DurationFilter(comparison=_at_least("isg.access_log.slow_ms", SLOW_MS))
    )
    return api.accesslog_v3.AccessLog(
        name="envoy.access_loggers.stdout",
        filter=api.accesslog_v3.AccessLogFilter(or_filter=api.accesslog_v3.OrFilter(filters=[failed, slow])),
        typed_config=any_of(log),
    )


def _at_least(runtime_key: str, value: int) -> api.accesslog_v3.ComparisonFilter:
    return api.accesslog_v3.ComparisonFilter(
        op="GE", value=api.core_v3.RuntimeUInt32(default_value=value, runtime_key=runtime_key)
    )
