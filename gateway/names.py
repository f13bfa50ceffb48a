"""Names that cross a process boundary: headers, metadata, routes, resource types.

Whatever Envoy, ext_authz and ext_proc must agree on is spelled once, here.
"""

from __future__ import annotations

import re
from typing import Final

#: Public model names (interface: ``[a-z0-9][a-z0-9._-]{0,63}``). RE2 and Python agree on it.
MODEL_PATTERN: Final = "[a-z0-9][a-z0-9._-]{0,63}"
#: Any number of a model name's characters: Envoy's RE2 has no room for the counted pattern, and names are matched
#: exactly afterwards.
MODEL_CHARACTERS: Final = "[a-z0-9._-]+"
MODEL_NAME: Final = re.compile(rf"^{MODEL_PATTERN}\Z")

# -- dynamic metadata ---------------------------------------------------------------------------------------
#: Namespace written by json_to_metadata and ext_proc.
NS_ISG: Final = "isg"
#: Namespace of ext_authz's metadata: fixed by Envoy, whatever the filter is called.
NS_AUTHZ: Final = "envoy.filters.http.ext_authz"
#: Namespace that ``override_host`` reads its pick from.
NS_LB: Final = "envoy.lb"

META_MODEL: Final = "model"
META_BODY_READ: Final = "body_read"
META_VALIDATED: Final = "validated"
VALIDATED_YES: Final = "yes"
META_ENDPOINT: Final = "endpoint"

# -- headers that the gateway owns --------------------------------------------------------------------------
HEADER_PREFIX: Final = "x-isg-"
#: Address of the direct peer, written by Envoy before authorization.
HEADER_PEER: Final = "x-isg-peer"
#: Identity from ext_authz; these become metadata in :data:`NS_AUTHZ` and never reach an upstream.
HEADER_TENANT: Final = "x-isg-tenant"
HEADER_KEY_ID: Final = "x-isg-key-id"
HEADER_TIER: Final = "x-isg-tier"
#: Allowed models as ``,a,b,`` (membership is ``contains(",a,")``), or ``*``.
HEADER_MODELS: Final = "x-isg-models"
ANY_MODEL: Final = "*"
HEADER_REQUEST_ID: Final = "x-request-id"

# -- what Envoy tells ext_proc ------------------------------------------------------------------------------
#: Key of the attributes in ``ProcessingRequest.attributes``.
EXT_PROC_ATTRIBUTES: Final = "envoy.filters.http.ext_proc"
ATTR_ROUTE: Final = "xds.route_name"
ATTR_PATH: Final = "request.path"
ATTR_REQUEST_ID: Final = "request.id"
ATTR_TRACEPARENT: Final = "request.headers['traceparent']"
#: ``via_upstream`` when a model server answered; anything else is a reply made by Envoy or by a service.
ATTR_RESPONSE_DETAILS: Final = "response.code_details"
#: ``ImmediateResponse.details`` of our own refusals: Envoy's reply mapper leaves their bodies alone.
DETAILS_PROBLEM: Final = "isg_problem"

# -- routes -------------------------------------------------------------------------------------------------
#: Entry routes are called ``entry/<what>``; model routes carry the name of their policy resource.
ROUTE_ENTRY: Final = "entry/"
ROUTE_MODEL: Final = "model/"

PATH_PREDICT: Final = "/v1/predict"
PATH_HEALTH: Final = "/healthz"
#: ``POST /v1/models/{model}:predict``
PATH_MODEL_PREDICT: Final = re.compile(rf"^/v1/models/({MODEL_PATTERN}):predict\Z")
#: The prefix that Envoy puts before the original path when it asks ext_authz.
CHECK_PREFIX: Final = "/check"

# -- nodes --------------------------------------------------------------------------------------------------
#: ``node.cluster`` of an Envoy; the Python services use their names (:data:`gateway.state.Service`).
NODE_ENVOY: Final = "envoy"

# -- xDS ----------------------------------------------------------------------------------------------------
#: Our own resource type. Its value has the wire format of ``google.protobuf.BytesValue``
#: (``message Policy { bytes document = 1; }``); the document is canonical JSON of :mod:`gateway.policy`.
POLICY_TYPE_URL: Final = "type.googleapis.com/isg.v1.Policy"


def models_header(models: tuple[str, ...]) -> str:
    """The value of :data:`HEADER_MODELS` for a key's models.

    >>> models_header(("digits", "language"))
    ',digits,language,'
    >>> models_header(("*",))
    '*'
    """
    return ANY_MODEL if ANY_MODEL in models else f",{','.join(models)},"


def may_use(models: str, model: str) -> bool:
    """Whether a :data:`HEADER_MODELS` value allows a model; the same rule as Envoy's RBAC row."""
    return models == ANY_MODEL or (MODEL_NAME.match(model) is not None and f",{model}," in models)
