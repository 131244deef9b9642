"""From a connection's bytes to requests: llhttp's callbacks, and the strictness llhttp lacks.

`connection.Connection` feeds it and is told of each complete request, or of the one refusal
after which nothing more is parsed: bytes of a doubtful request never become a second
request. What a head must not say stands in `http.examine`.
"""

import time
from typing import Protocol

import httptools

from turnout.transport import http


class Budget(Protocol):
    """What all connections of one server share while they receive."""

    buffered_bytes: int


class Sink(Protocol):
    """Who is told what was parsed."""

    def take(self, request: http.Request) -> None:
        """A request is complete."""

    def take_refusal(self, refusal: http.Refusal) -> None:
        """What came is refused; nothing follows."""

    def take_expectation(self) -> None:
        """The client waits for "100 Continue" before it sends the body of the request being received."""


class Intake:
    """Parses one connection's bytes; bounded in every direction.

    Attributes:
        client: "address:port" for the requests made here.
        partial: A request has begun and is not complete.
        deaf: Whatever comes is thrown away.
        method: Of the request whose head was complete last; "GET" while a head is received.
    """

    __slots__ = (
        "_begun", "_budget", "_head_bytes", "_headers", "_in_body", "_keep", "_limits", "_parser", "_parts",
        "_raw_bytes", "_sink", "_size", "_upgrading", "_url", "_version", "client", "deaf", "method", "partial",
    )  # fmt: skip

    def __init__(self, sink: Sink, limits: http.Limits, budget: Budget) -> None:
        self._sink = sink
        self._limits = limits
        self._budget = budget
        self._parser = httptools.HttpRequestParser(self)
        self.client = ""
        self.partial = False
        self.deaf = False
        self.method = "GET"
        self._begun = False
        self._in_body = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._url = b""
        self._headers = http.Headers()
        self._parts: list[bytes] = []
        self._size = 0
        self._version = "1.1"
        self._keep = True
        self._upgrading = False

    def feed(self, data: bytes) -> None:
        """Parse what came; complexity linear in its length."""
        try:
            rest = self._parse(data)
            while rest is not None:
                rest = self._ignore_upgrade(rest)
        except httptools.HttpParserError as error:
            self._parse_failed(error, data)
        if self.partial:
            self._received_part(len(data))

    def _parse(self, data: bytes) -> bytes | None:
        """Feed the parser; return what stands behind a head that asks for another protocol, else None."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as stop:
            return data[stop.args[0] :]  # leave this block before parsing on: `_parse_failed` reads `__context__`
        return None

    def close(self) -> None:
        """Parse nothing more and forget what is not complete."""
        self.deaf = True
        self.partial = False
        self._forget_body()

    def _received_part(self, size: int) -> None:
        """Bound what one request may take on the wire, framing and all."""
        if self._begun:  # the earlier bytes of this read may belong to the request before
            self._begun = False
            return
        self._raw_bytes += size
        limits = self._limits
        if not self._in_body:
            if self._raw_bytes > limits.header_bytes:
                self._stop(http.headers_too_large(limits))
        elif self._raw_bytes > 2 * limits.body_bytes + limits.header_bytes:
            self._stop(http.body_too_large("the chunked body takes more than twice its limit on the wire", limits))

    def _parse_failed(self, error: httptools.HttpParserError, data: bytes) -> None:
        if self.deaf:  # bytes behind a request that closes the connection
            return
        cause = error.__context__
        if isinstance(cause, http.Refusal):
            self._stop(cause)
        elif isinstance(error, httptools.HttpParserCallbackError) and cause is not None:
            raise cause  # a fault in the callbacks here
        else:
            hint = "This port speaks plain HTTP; use http:// instead of https://." if data[:2] == b"\x16\x03" else ""
            self._stop(http.malformed(f"the request is not valid HTTP/1.1: {error}", hint))

    def _stop(self, refusal: http.Refusal) -> None:
        self.close()
        self._sink.take_refusal(refusal)

    def _forget_body(self) -> None:
        if self._size:
            self._budget.buffered_bytes -= self._size
            self._size = 0
            self._parts = []

    def _ignore_upgrade(self, rest: bytes) -> bytes | None:
        """Go on in HTTP/1.1 behind a head that asked for another protocol (Java's client asks for h2c each time).

        llhttp stops behind such a head and takes no body. A fresh parser is told the framing again in a head of our
        own, then reads the body and whatever follows. Returns what stands behind the next such head, else None.
        """
        self._upgrading = False
        framing = b"content-length: " + (self._headers.get(b"content-length") or b"0")
        if self._headers.get(b"transfer-encoding") is not None:
            framing = b"transfer-encoding: chunked"
        self._parser = httptools.HttpRequestParser(_BehindUpgrade(self))
        self._parser.feed_data(b"POST / HTTP/1.1\r\n" + framing + b"\r\n\r\n")
        return self._parse(rest)

    def on_message_begin(self) -> None:
        self.partial = True
        self.method = "GET"
        self._begun = True
        self._in_body = False
        self._raw_bytes = 0
        self._head_bytes = 0
        self._url = b""
        self._headers = http.Headers()

    def on_url(self, url: bytes) -> None:
        self._url += url
        if len(self._url) > self._limits.header_bytes:
            text = f"the request line has more than {self._limits.header_bytes} bytes"
            raise http.Refusal(414, "target-too-long", text, "Put data into the body.")

    def on_header(self, name: bytes, value: bytes) -> None:
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes + len(self._url) > self._limits.header_bytes:
            raise http.headers_too_large(self._limits)
        if not self._in_body:  # else a trailer: read, bounded, thrown away
            self._headers.append((name.lower(), value.strip()))

    def on_headers_complete(self) -> None:
        parser = self._parser
        self._in_body = True
        self._keep = parser.should_keep_alive()
        method = http.METHODS.get(parser.get_method())
        if method is None:
            raise http.method_refusal()
        self.method = method
        seen = http.examine(self._headers, self._limits)
        # a connection that stays open without being asked to is HTTP/1.1
        self._version = "1.1" if self._keep and not seen & http.CONNECTION else parser.get_http_version()
        if self._version != "1.1":
            self._examine_old(seen)
        elif not seen & http.HOST:
            raise http.malformed("the header host is missing, HTTP/1.1 requires it")
        if seen & http.UPGRADE:
            self._upgrading = parser.should_upgrade()
        if seen & http.EXPECT and seen & http.FRAMING and self._version == "1.1":
            self._sink.take_expectation()

    def _examine_old(self, seen: int) -> None:
        if self._version != "1.0":
            raise http.version_refusal(self._version)
        if seen & http.TRANSFER_ENCODING:
            raise http.malformed("transfer-encoding is there in HTTP/1.0, which has none")

    def on_body(self, body: bytes) -> None:
        limits = self._limits
        budget = self._budget
        self._parts.append(body)
        self._size += len(body)
        budget.buffered_bytes += len(body)
        if self._size > limits.body_bytes:
            raise http.body_too_large("the chunked body is larger than allowed", limits)
        if budget.buffered_bytes > limits.buffered_bytes:
            text = f"the server is receiving {limits.buffered_bytes} bytes of bodies, which is its limit"
            raise http.Refusal(503, "overloaded", text, "Come back later.", retry_after_s=1)

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        parts = self._parts
        if parts:
            body = parts[0] if len(parts) == 1 else b"".join(parts)
            self._forget_body()
        else:
            body = b""
        path, query = http.target(self._url)
        self.partial = False
        keep = self._keep
        if not keep:
            self.deaf = True
        self._sink.take(
            http.Request(
                self.method, path, query, self._headers, body, self.client, time.monotonic(), keep, self._version
            )
        )


class _BehindUpgrade:
    """Parser callbacks that pass over the head `Intake._ignore_upgrade` made up."""

    __slots__ = ("_intake", "_passed", "on_body", "on_message_complete")

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._passed = False
        self.on_body = intake.on_body
        self.on_message_complete = intake.on_message_complete

    def on_message_begin(self) -> None:
        if not self._passed:
            return
        if self._intake.deaf:
            raise http.malformed("bytes behind a request that closes the connection")
        self._intake.on_message_begin()

    def on_url(self, url: bytes) -> None:
        if self._passed:
            self._intake.on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._passed:
            self._intake.on_header(name, value)

    def on_headers_complete(self) -> None:
        if self._passed:
            self._intake.on_headers_complete()
        self._passed = True
