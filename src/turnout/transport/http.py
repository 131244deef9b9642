"""The vocabulary of the HTTP transports: request, response, refusal, limits.

The server (`server`), the ASGI adapter (`asgi`) and whoever handles requests speak in these
words. What one request head must not say is checked in one place here, `examine`, so that
both transports refuse the same shapes.
"""

import email.utils
import http
import re
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Final

import msgspec
from msgspec import Struct, field

HeaderLine = tuple[bytes, bytes]

METHODS: Final[dict[bytes, str]] = {
    name.encode(): name for name in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
}
"""Methods a request may have; everything else is refused with 501."""

BODILESS: Final = (204, 304)
"""Statuses whose answer has no body and no content-length."""

JSON: Final = b"application/json"
PROBLEM: Final = b"application/problem+json"
PROBLEM_TYPE: Final = "urn:turnout:problem:"
"""Before an error's code, the `type` of its problem document."""


class Headers(list[HeaderLine]):
    """Header lines in the order of arrival; names are lower-case, values without surrounding blanks."""

    __slots__ = ()

    def get(self, name: bytes) -> bytes | None:
        """The value of the first line with that (lower-case) name, or None."""
        for key, value in self:
            if key == name:
                return value
        return None


class Request(Struct, gc=False):
    """One complete request.

    Attributes:
        method: One of `METHODS`.
        path: Percent-decoded, begins with "/" (or is "*"); below the mount point under ASGI.
        query: What stands behind the "?", not decoded; "" without one.
        headers: As received.
        body: The whole body.
        client: "address:port" of the connection's other side; "" for a Unix socket.
        received: `time.monotonic()` when the request was complete.
        keep_alive: Whether the client can use the connection again.
        version: "1.0" or "1.1" (or what the ASGI server says).
    """

    method: str
    path: str
    query: str = ""
    headers: Headers = field(default_factory=lambda: Headers())
    body: bytes = b""
    client: str = ""
    received: float = 0.0
    keep_alive: bool = True
    version: str = "1.1"

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.path!r} {len(self.body)} bytes>"


class Response(Struct):
    """One answer.

    Attributes:
        status: 200 to 599.
        body: All of it, or an asynchronous iterator of its pieces. A piece is sent when it is there; the next one
            is asked for when the client has read enough. The iterator's `aclose` is called when the client leaves.
        content_type: b"" for none.
        headers: Further lines; names in lower case. Not content-length, transfer-encoding, connection or date.
        close: Close the connection after this answer.
        on_close: Called once when the answer was handed to the network, or cannot be any more.
    """

    status: int = 200
    body: bytes | AsyncIterator[bytes] = b""
    content_type: bytes = JSON
    headers: Sequence[HeaderLine] = ()
    close: bool = False
    on_close: Callable[[], object] | None = None

    def __repr__(self) -> str:
        size = f"{len(self.body)} bytes" if isinstance(self.body, bytes) else "streamed"
        return f"<Response {self.status} {size}>"


Handler = Callable[[Request], Awaitable[Response]]


class Refusal(Exception):
    """What a transport refuses before a handler saw it, or in place of a handler that failed.

    Attributes:
        status: HTTP status.
        code: Stable slug for machines.
        message: What was found and what was expected.
        hint: What to do about it.
        retry_after_s: Seconds after which a retry may succeed; None when a retry is no use.
    """

    def __init__(
        self, status: int, code: str, message: str, hint: str = "", *, retry_after_s: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.hint = hint
        self.retry_after_s = retry_after_s


def refuse(refusal: Refusal) -> Response:
    """A refusal as RFC 9457 problem document, in the form that `gateway/problems.py` gives errors of requests."""
    problem = {
        "type": f"{PROBLEM_TYPE}{refusal.code}",
        "title": phrase(refusal.status),
        "status": refusal.status,
        "code": refusal.code,
        "detail": refusal.message,
    }
    if refusal.hint:
        problem["hint"] = refusal.hint
    headers: tuple[HeaderLine, ...] = ()
    if refusal.retry_after_s is not None:
        headers = ((b"retry-after", b"%d" % max(1, round(refusal.retry_after_s))),)
    return Response(refusal.status, msgspec.json.encode(problem), PROBLEM, headers)


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may ask of one server; everything has a bound."""

    header_bytes: int = 32_768
    """Request line and header lines together; trailers too. 431 (414 for a request line alone) beyond."""

    body_bytes: int = 16 * 2**20
    """One body, after removing chunk framing. 413 beyond; a declared length is refused before the body is read."""

    buffered_bytes: int = 512 * 2**20
    """All bodies being received by one server together, so that many large ones cannot fill the memory. 503 beyond."""

    first_byte_s: float = 30.0
    """From the connection to its first byte; then the connection is closed without a word."""

    receive_s: float = 30.0
    """From a request's first byte to its last; 408 beyond."""

    idle_s: float = 75.0
    """Between two requests on one connection; above the usual 60 s of load balancers, so that they close first."""

    write_s: float = 30.0
    """A client that takes no byte of its answer for that long is cut off."""

    linger_s: float = 5.0
    """After a refusal, how long what the client still sends is read and thrown away, so that it can read the answer."""

    pipelined: int = 16
    """Requests of one connection that wait while another is answered; then reading stops."""

    connections: int = 4_096
    """Open connections; further ones are answered 503 and closed."""


HOST: Final = 1
CONTENT_LENGTH: Final = 2
TRANSFER_ENCODING: Final = 4
EXPECT: Final = 8
CONNECTION: Final = 16
UPGRADE: Final = 32
FRAMING: Final = CONTENT_LENGTH | TRANSFER_ENCODING
_ONCE: Final = HOST | FRAMING

_EXAMINED: Final[dict[bytes, int]] = {
    b"host": HOST,
    b"content-length": CONTENT_LENGTH,
    b"transfer-encoding": TRANSFER_ENCODING,
    b"expect": EXPECT,
    b"connection": CONNECTION,
    b"upgrade": UPGRADE,
}
_HOST_SHAPE: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=:%\[\]-]+")


def examine(headers: Headers, limits: Limits) -> int:
    """Refuse what a head must not say; tell which of the lines that matter are there.

    Returns:
        The bits HOST, CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, CONNECTION, UPGRADE of the lines seen.

    Raises:
        Refusal: Doubled or malformed Host, a length that is no number or too large, a transfer coding other than
            "chunked" alone, both framings at once, an expectation other than 100-continue.

    Source: RFC 9112 §3.2, §6.1, §6.3; RFC 9110 §10.1.1.
    """
    seen = 0
    for name, value in headers:
        bit = _EXAMINED.get(name)
        if bit is not None:
            if seen & bit & _ONCE:
                raise malformed(f"the header {name.decode()} is there twice, expected once")
            seen |= bit
            if bit == HOST:
                if _HOST_SHAPE.fullmatch(value) is None:
                    raise malformed("the header host is not a host name with an optional port")
            elif bit < CONNECTION:
                _examine_value(bit, value, limits)
    if seen & FRAMING == FRAMING:
        raise malformed("content-length and transfer-encoding are both there, expected one of them")
    return seen


def _examine_value(bit: int, value: bytes, limits: Limits) -> None:
    if bit == CONTENT_LENGTH:
        if not value.isdigit():
            raise malformed("content-length is not a decimal number")
        if len(value) > 18 or int(value) > limits.body_bytes:
            raise body_too_large(f"the request declares a body of {value[:20].decode()} bytes", limits)
    elif bit == TRANSFER_ENCODING:
        if value.lower() != b"chunked":
            text = "the only transfer-encoding understood is 'chunked'"
            raise Refusal(501, "not-implemented", text, "Send the body chunked or with a content-length.")
    elif value.lower() != b"100-continue":
        text = "the only expectation understood is '100-continue'"
        raise Refusal(417, "expectation-failed", text, "Leave the header expect out.")


def target(raw: bytes) -> tuple[str, str]:
    """Split a request target into the decoded path and the raw query.

    Raises:
        Refusal: Not a path, an http(s) URL or "*"; a fragment; escapes that are not UTF-8.
    """
    if raw[:1] != b"/":
        raw = _origin_form(raw)
    if b"#" in raw:
        raise malformed("the request target has a fragment ('#'), which is never sent to a server")
    path, _, query = raw.partition(b"?")
    if b"%" not in path:
        return path.decode("latin-1"), query.decode("latin-1")
    try:
        return urllib.parse.unquote_to_bytes(path).decode(), query.decode("latin-1")
    except UnicodeDecodeError:
        raise malformed("the path has percent-escapes that are not UTF-8") from None


def _origin_form(raw: bytes) -> bytes:
    if raw == b"*":
        return raw
    scheme, separator, rest = raw.partition(b"://")
    if not separator or scheme.lower() not in (b"http", b"https"):
        raise malformed("the request target is neither a path nor an http URL")
    cut = min((at for at in (rest.find(b"/"), rest.find(b"?")) if at >= 0), default=-1)
    if cut < 0:
        return b"/"
    return rest[cut:] if rest[cut : cut + 1] == b"/" else b"/" + rest[cut:]


def malformed(message: str, hint: str = "") -> Refusal:
    return Refusal(400, "malformed-request", message, hint)


def body_too_large(found: str, limits: Limits) -> Refusal:
    text = f"{found}, the limit is {limits.body_bytes} bytes"
    return Refusal(413, "body-too-large", text, "Send less at once, or raise the server's limit for bodies.")


def headers_too_large(limits: Limits) -> Refusal:
    text = f"the request line and headers have more than {limits.header_bytes} bytes"
    return Refusal(431, "headers-too-large", text, "Send fewer or shorter headers; put data into the body.")


def too_slow(limits: Limits) -> Refusal:
    text = f"the request was not complete {limits.receive_s:g} s after its first byte"
    return Refusal(408, "request-timeout", text, "Send the request faster, or in smaller ones.")


def version_refusal(version: str) -> Refusal:
    text = f"the request speaks HTTP/{version}, expected HTTP/1.1"
    return Refusal(505, "version-not-supported", text, "Speak HTTP/1.1 without TLS to this port.")


def method_refusal() -> Refusal:
    return Refusal(501, "not-implemented", f"the method is none of {', '.join(METHODS.values())}")


def internal() -> Refusal:
    text = "the server failed while handling the request"
    return Refusal(500, "internal", text, "Look into the server's log; its cause is there.")


def shutting_down() -> Refusal:
    text = "the server is shutting down and stopped working on the request"
    return Refusal(503, "unavailable", text, "Send the request again.", retry_after_s=1)


def phrase(status: int) -> str:
    """The standard phrase of a status, or "Unknown"."""
    try:
        return http.HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


def header_lines(headers: Sequence[HeaderLine]) -> bytes:
    """Headers as they go over the wire.

    Raises:
        ValueError: A name or value has a line break in it, which would let data become headers.
    """
    lines = b"".join([b"%b: %b\r\n" % line for line in headers])
    if lines.count(b"\n") != len(headers) or lines.count(b"\r") != len(headers) or b"\0" in lines:
        raise ValueError(f"a response header has a line break in its name or value: {list(headers)!r}")
    return lines


class Heads:
    """Beginnings of response heads, built once a second for every status and content type in use."""

    __slots__ = ("_built", "_date")

    SHAPES: Final = 256
    """Status and content type pairs kept; handlers use a handful."""

    def __init__(self) -> None:
        self._date = b""
        self._built: dict[tuple[int, bytes], bytes] = {}

    def refresh(self, epoch_s: float) -> None:
        """Set the clock of the Date header."""
        date = email.utils.formatdate(epoch_s, usegmt=True).encode()
        if date != self._date:
            self._date = date
            self._built.clear()

    def start(self, status: int, content_type: bytes) -> bytes:
        """Status line, date and content type."""
        known = self._built.get((status, content_type))
        return self._build(status, content_type) if known is None else known

    def _build(self, status: int, content_type: bytes) -> bytes:
        if not 200 <= status <= 599:
            raise ValueError(f"a response has the status {status}, expected 200 to 599")
        head = b"HTTP/1.1 %d %b\r\ndate: %b\r\n" % (status, phrase(status).encode(), self._date)
        if content_type:
            head += header_lines([(b"content-type", content_type)])
        if len(self._built) < self.SHAPES:
            self._built[status, content_type] = head
        return head
