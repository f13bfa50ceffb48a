"""Derive protobuf descriptors from envoy-data-plane's betterproto2 classes (build time only).

betterproto2 classes carry field number, kind, oneof group and wrapped type of every field. That is all a descriptor
needs: :mod:`.closure` finds the messages that our roots refer to, :mod:`.descriptors` writes them as a
``FileDescriptorSet`` that :mod:`gateway.messages` loads into protobuf's C implementation (upb), and :mod:`.stubs` as a
stub file that tells mypy every field's name and type. ``python -m gateway.schema`` writes both; they are committed, so
a running service imports neither betterproto2 nor pydantic (``docs/decisions/0001-messages.md``).

Wire compatibility is by construction (numbers and types are taken over one by one) and proven by the round-trip
property test in ``tests/gateway/test_messages.py``.
"""
