"""Which credential a request carries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ext_authz.credential import ABSENT, AMBIGUOUS, MALFORMED, Credential, read_credential

K = Credential("secret", "k")


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        ([], [], ABSENT),
        ([""], [], ABSENT),
        ([], [""], ABSENT),
        ([""], [""], ABSENT),
        (["Bearer k"], [], K),
        (["bearer k"], [], K),
        (["BEARER   k  "], [], K),
        ([], ["k"], K),
        ([""], ["k"], K),
        (["Bearer k"], ["k"], K),
        (["Bearer k"], ["other"], AMBIGUOUS),
        (["Bearer k", "Bearer k"], [], AMBIGUOUS),
        (["Bearer k,Bearer k"], [], AMBIGUOUS),
        (["Basic a, Bearer k"], [], AMBIGUOUS),
        (["Bearer k,"], [], AMBIGUOUS),
        ([], ["k", "k"], AMBIGUOUS),
        ([], ["k,k"], AMBIGUOUS),
        ([], ["k, "], AMBIGUOUS),
        (["Bearer k"], ["k,k"], AMBIGUOUS),
        (["Bearer"], [], MALFORMED),
        (["Bearer "], [], MALFORMED),
        (["Bearer\tk"], [], MALFORMED),
        (["Basic azpr"], [], MALFORMED),
        (["Basic azpr"], ["k"], MALFORMED),
        (["k"], [], MALFORMED),
        (["Token k"], [], MALFORMED),
    ],
)
def test_what_counts_as_one_credential(authorization: list[str], api_key: list[str], expected: Credential) -> None:
    assert read_credential(authorization, api_key) == expected


VALUES = st.lists(st.text(max_size=40) | st.builds("Bearer {}".format, st.text(max_size=40)), max_size=3)


@given(VALUES, VALUES)
def test_every_pair_of_headers_is_read_and_at_most_one_secret_comes_out(a: list[str], b: list[str]) -> None:
    found = read_credential(a, b)
    assert (found.presentation == "secret") == bool(found.secret)
    if found.secret:
        assert "," not in found.secret
        assert len(a) <= 1
        assert len(b) <= 1


def test_the_secret_does_not_show_in_the_repr() -> None:
    assert "canary" not in repr(read_credential(["Bearer canary"], []))
