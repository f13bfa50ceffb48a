import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.policy import (
    GatewayPolicy,
    InputRule,
    ModelPolicy,
    OutputRule,
    Policy,
    PolicyError,
    TensorRule,
    decode,
    encode,
    resource_name,
)

WORDS = st.text("abc", min_size=1, max_size=3)
INPUTS = st.builds(
    InputRule,
    schema=st.none() | st.booleans() | st.dictionaries(WORDS, st.integers() | WORDS | st.none(), max_size=3),
    tensors=st.lists(
        st.builds(
            TensorRule, name=WORDS, datatype=st.sampled_from(["FP32", "BYTES"]), shape=st.just((-1, 2)), source=WORDS
        ),
        max_size=2,
    ).map(tuple),
)
POLICIES = st.builds(
    GatewayPolicy, default_model=st.none() | WORDS, models=st.lists(WORDS, max_size=3).map(tuple)
) | st.builds(
    ModelPolicy,
    model=WORDS,
    upstream_model=WORDS,
    input=INPUTS,
    output=st.builds(OutputRule, labels=st.lists(WORDS, max_size=2).map(tuple), top_k=st.none() | st.integers(1, 9)),
    max_body_bytes=st.integers(1, 2**40),
    max_response_bytes=st.integers(1, 2**40),
)


def model(**changes: object) -> ModelPolicy:
    return msgspec.convert(
        {"type": "model", "model": "m", "upstream_model": "u", "max_body_bytes": 1, "max_response_bytes": 1, **changes},
        ModelPolicy,
    )


@given(POLICIES)
def test_a_policy_survives_the_way(policy: Policy) -> None:
    assert decode(encode(policy)) == policy
    assert encode(decode(encode(policy))) == encode(policy)


@given(POLICIES, POLICIES)
def test_policies_share_a_resource_name_only_if_they_are_equal(one: Policy, other: Policy) -> None:
    if isinstance(one, ModelPolicy):
        assert (resource_name(one) == resource_name(other)) == (one == other)
    else:
        assert resource_name(one) == "gateway"


def test_equal_schemas_are_equal_bytes_whatever_the_order_of_their_members() -> None:
    one, other = ({"a": 1, "b": {"c": 1, "d": 2}}, {"b": {"d": 2, "c": 1}, "a": 1})
    assert encode(model(input={"schema": one})) == encode(model(input={"schema": other}))


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"", "truncated"),
        (b"{", "truncated"),
        (b"[]", "Expected `object`"),
        (b"{}", "type"),
        (b'{"type":"else"}', "else"),
        (b'{"type":"gateway","models":["a"],"new_rule":true}', "new_rule"),
        (b'{"type":"model","model":"m"}', "upstream_model"),
        (encode(model()).replace(b'"max_body_bytes":1', b'"max_body_bytes":"1"'), "max_body_bytes"),
        (encode(model(input={"image": {"source": "/x"}})).replace(b'"/x"', b'"/x","colour":1'), "colour"),
        (encode(model(dialect="openai")).replace(b"openai", b"telnet"), "telnet"),
        (b"\xff", ""),
        (b'{"type":' + b"[" * 100_000, ""),
    ],
)
def test_what_this_version_cannot_enforce_is_refused(document: bytes, words: str) -> None:
    with pytest.raises(PolicyError) as caught:
        decode(document)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "rewrites"),
    [
        ({}, True),
        ({"server": "triton"}, True),
        ({"server": "http"}, False),
        ({"server": "http", "output": {"top_k": 1}}, True),
    ],
)
def test_answers_of_plain_servers_go_through_unless_they_are_shaped(changes: dict[str, object], rewrites: bool) -> None:
    assert model(**changes).rewrites_answer is rewrites
