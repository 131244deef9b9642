"""The signed header that lets people who test choose a variant for one request.

    Turnout-Override: structure=generation; expires=1767225600; signature=<64 hex digits>

The signature is HMAC-SHA-256 over everything before "; signature=", so nobody without the
document's `override_key` can choose, and a header that leaks dies with its time. Such requests
have the reason OVERRIDE and are never analysed.

Called by `assembly/endpoint` and `turnout override`; pure: the time is an argument.
"""

import hashlib
import hmac
import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from turnout.errors import InputError

HEADER: Final = b"turnout-override"
SHOWN: Final = "Turnout-Override"
MAX_HEADER_BYTES: Final = 512

_NAME: Final = "[a-z][a-z0-9_-]{0,62}"
_FORM: Final = re.compile(
    rf"(?P<signed>(?P<experiment>{_NAME})=(?P<variant>{_NAME}); expires=(?P<expires>[0-9]{{1,12}}))"
    r"; signature=(?P<signature>[0-9a-f]{64})"
)
_HINT: Final = "`turnout override EXPERIMENT VARIANT` prints a valid one."


class Override(Struct, frozen=True):
    """A choice that was signed by someone who has the key.

    Attributes:
        experiment: Whose variant is chosen; other experiments split as ever.
        expires: Epoch seconds after which it is refused.
    """

    experiment: str
    variant: str
    expires: int

    def of(self, experiment: str) -> str | None:
        """The variant it chooses for an experiment; None when it is about another one."""
        return self.variant if experiment == self.experiment else None

    def check(self, experiment: str, variants: Iterable[str]) -> None:
        """Refuse it where it names a variant that the experiment does not have any more.

        Raises:
            InputError: So it is.
        """
        if experiment == self.experiment and self.variant not in variants:
            raise _refused(f"experiment {experiment!r} has no variant {self.variant!r}.", _HINT)


def sign(override: Override, key: str) -> str:
    """The header's value for an override.

    >>> sign(Override("structure", "generation", 1767225600), "key").partition("; signature=")[0]
    'structure=generation; expires=1767225600'
    """
    signed = f"{override.experiment}={override.variant}; expires={override.expires}"
    return f"{signed}; signature={_signature(signed, key)}"


def verify(value: bytes, key: str | None, *, now: float) -> Override:
    """The override that a header carries.

    A wrong header is refused and not passed over: who sends one wants a certain variant, and would
    else take what the split gives for it, and be counted.

    Args:
        value: Of the header `Turnout-Override`, as received.
        key: The document's `override_key`; None without one.
        now: Epoch seconds.

    Raises:
        InputError: No key, another form, another key, or expired.

    Complexity: one HMAC, about 2 µs; compared in constant time.
    """
    if key is None:
        raise _refused("this server takes no overrides.", "The document needs an override_key: secret:NAME.")
    found = _FORM.fullmatch(value.decode("latin-1")) if len(value) <= MAX_HEADER_BYTES else None
    if found is None:
        form = "EXPERIMENT=VARIANT; expires=EPOCH; signature=HEX"
        raise _refused(f"it does not have the form {form!r}.", _HINT)
    if not hmac.compare_digest(_signature(found["signed"], key), found["signature"]):
        raise _refused("the signature is not this server's.", _HINT)
    expires = int(found["expires"])
    if now > expires:
        raise _refused(f"it expired {now - expires:,.0f} s ago.", _HINT)
    return Override(found["experiment"], found["variant"], expires)


def _signature(signed: str, key: str) -> str:
    return hmac.new(key.encode(), signed.encode(), hashlib.sha256).hexdigest()


def _refused(reason: str, hint: str) -> InputError:
    return InputError(f"header {SHOWN}: {reason}", path=f"header:{SHOWN}", hint=hint)
