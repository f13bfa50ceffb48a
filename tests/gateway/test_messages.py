"""Our upb messages say on the wire what envoy-data-plane's own (betterproto2) classes say."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway import envoy_api
from gateway.messages import ALIASES, DESCRIPTOR_SET, ROOTS, TYPE_URL_PREFIX, message, pool
from tests.gateway.random_messages import messages

#: betterproto2's classes warn of every deprecated field that they read.
deprecated_fields = pytest.mark.filterwarnings("ignore:.* is deprecated:DeprecationWarning")


def in_betterproto2(name: str) -> type:
    """The class of a message in envoy-data-plane."""
    package = ".".join(part for part in name.split(".") if part[0].islower())
    with warnings.catch_warnings(action="ignore"):  # its classes use what pydantic has deprecated
        importlib.import_module(f"envoy_data_plane.{package}")
    from envoy_data_plane.message_pool import default_message_pool

    found: type = default_message_pool.url_to_type[TYPE_URL_PREFIX + name]
    return found


@deprecated_fields
@pytest.mark.parametrize("name", ROOTS)
def test_bytes_of_one_codec_are_the_same_message_in_the_other(name: str) -> None:
    ours, theirs = message(name), in_betterproto2(name)

    @given(messages(pool().FindMessageTypeByName(name)))
    @settings(max_examples=25, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def round_trip(sent) -> None:
        data = sent.SerializeToString(deterministic=True)
        parsed = theirs.parse(data)  # type: ignore[attr-defined]  # betterproto2.Message
        assert ours.FromString(bytes(parsed)) == sent
        assert theirs.parse(bytes(parsed)) == parsed  # type: ignore[attr-defined]

    round_trip()


@deprecated_fields
def test_the_closure_is_tried_beyond_its_roots() -> None:
    descriptors = FileDescriptorSet.FromString(DESCRIPTOR_SET.read_bytes())
    names = sorted(f"{file.package}.{top.name}" for file in descriptors.file for top in file.message_type)
    known = [name for name in names if not name.startswith("google.protobuf.")]

    @given(st.sampled_from(known).flatmap(lambda name: messages(pool().FindMessageTypeByName(name))))
    @settings(max_examples=150, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    def round_trip(sent) -> None:
        theirs = in_betterproto2(sent.DESCRIPTOR.full_name)
        parsed = theirs.parse(sent.SerializeToString(deterministic=True))  # type: ignore[attr-defined]
        assert type(sent).FromString(bytes(parsed)) == sent

    round_trip()


def test_the_committed_descriptors_and_stubs_are_what_the_schema_gives() -> None:
    program = (
        "from gateway.messages import ROOTS\n"
        "from gateway.schema.closure import Closure\n"
        "from gateway.schema.descriptors import descriptor_set\n"
        "from gateway.schema.stubs import stub_file\n"
        "import sys\n"
        "closure = Closure(ROOTS)\n"
        "data = descriptor_set(closure).SerializeToString(deterministic=True)\n"
        "sys.stdout.buffer.write(data + b'\\0STUBS\\0' + stub_file(closure).encode())\n"
    )
    # A process of its own: the place of an enum depends on which modules are imported.
    made = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout
    descriptors, _, stubs = made.partition(b"\0STUBS\0")
    assert descriptors == DESCRIPTOR_SET.read_bytes()
    assert stubs.decode() == DESCRIPTOR_SET.with_suffix(".pyi").read_text()


def test_a_running_service_imports_neither_betterproto2_nor_pydantic() -> None:
    program = (
        "import sys, gateway.envoy_api, gateway.policy_client\n"
        "gateway.envoy_api.core_v3.Node(id='n')\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('betterproto2', 'pydantic')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", ROOTS)
def test_every_root_is_there_under_its_alias(name: str) -> None:
    package, _, short = name.rpartition(".")
    alias = {of: alias for alias, of in ALIASES.items()}.get(package)
    if alias is not None:
        assert getattr(getattr(envoy_api, alias), short) is message(name)


def test_names_that_are_not_there_are_attribute_errors() -> None:
    with pytest.raises(AttributeError, match="has no namespace 'nothing_v3'"):
        _ = envoy_api.nothing_v3  # type: ignore[attr-defined]  # that is the point
    with pytest.raises(AttributeError, match=r"envoy\.config\.core\.v3 has no message Nothing"):
        _ = envoy_api.core_v3.Nothing  # type: ignore[attr-defined]
    with pytest.raises(KeyError):
        message("envoy.config.core.v3.Nothing")


def test_a_private_pool_does_not_clash_with_another_library_s() -> None:
    from google.protobuf.descriptor_pool import Default

    assert pool() is not Default()
    assert pool() is pool()


def test_the_descriptor_set_is_packaged() -> None:
    assert Path(DESCRIPTOR_SET).is_file()
