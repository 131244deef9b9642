"""The signed header: who has the key chooses, nobody else does, and not for ever."""

import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnout.errors import InputError
from turnout.experiments import overrides

KEY = "correct horse"
SIGNED = overrides.sign(overrides.Override("structure", "generation", 1_000), KEY)


def test_a_signed_header_is_read() -> None:
    found = overrides.verify(SIGNED.encode(), KEY, now=999.5)
    assert found == overrides.Override("structure", "generation", 1_000)
    assert (found.of("structure"), found.of("other")) == ("generation", None)


def test_the_form_is_frozen() -> None:
    """Others may sign in their own language: HMAC-SHA-256 in hex over what stands before the signature."""
    text = "structure=generation; expires=1000"
    assert f"{text}; signature={hmac.new(KEY.encode(), text.encode(), hashlib.sha256).hexdigest()}" == SIGNED
    assert SIGNED.endswith("0c8b1bfc68cd")


@pytest.mark.parametrize(
    ("value", "key", "now", "told"),
    [
        pytest.param(SIGNED, None, 0, "takes no overrides", id="no-key"),
        pytest.param(SIGNED, "another key", 0, "not this server's", id="another-key"),
        pytest.param(SIGNED, KEY, 1_061, "expired 61 s ago", id="expired"),
        pytest.param(SIGNED.replace("generation", "retrieval"), KEY, 0, "not this server's", id="another-variant"),
        pytest.param(SIGNED.replace("=1000", "=9000"), KEY, 0, "not this server's", id="prolonged"),
        pytest.param("structure=generation", KEY, 0, "does not have the form", id="unsigned"),
        pytest.param(SIGNED.upper(), KEY, 0, "does not have the form", id="upper-case"),
        pytest.param(SIGNED + "\n", KEY, 0, "does not have the form", id="line-end"),
        pytest.param("x" * 10_000, KEY, 0, "does not have the form", id="endless"),
        pytest.param("", KEY, 0, "does not have the form", id="empty"),
    ],
)
def test_everything_else_is_refused(value: str, key: str | None, now: float, told: str) -> None:
    with pytest.raises(InputError, match=told) as refused:
        overrides.verify(value.encode(), key, now=now)
    assert refused.value.path == "header:Turnout-Override"
    assert refused.value.hint
    assert KEY not in str(refused.value)


@given(st.binary(max_size=600))
def test_no_bytes_pass_by_chance(value: bytes) -> None:
    with pytest.raises(InputError):
        overrides.verify(value, KEY, now=0)
