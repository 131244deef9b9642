"""The border between a transport and the handlers above it: refusals, failures, broken streams.

Used by the server and the ASGI adapter alike, so that both count, log and render the same.
Nothing here raises; what a handler's author got wrong is logged and counted.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable

from turnout import telemetry
from turnout.transport import http

logger = logging.getLogger(__name__)


class Border:
    """What one transport does about requests that go wrong."""

    def __init__(self, registry: telemetry.Registry) -> None:
        self._refusals = registry.counter(
            telemetry.REFUSALS, "Requests the transport refused or handlers failed on, by code.", ("code",)
        )
        self._failures = registry.counter(
            telemetry.HANDLER_FAILURES, "Handlers that raised instead of answering."
        ).labels()

    def refused(self, refusal: http.Refusal) -> http.Response:
        """Count a refusal and render it."""
        self._refusals.labels(refusal.code).inc()
        return http.refuse(refusal)

    def failed(self, request: http.Request, error: BaseException) -> http.Response:
        """Count and log a handler that raised, and render the answer."""
        self._failures.inc()
        logger.error("handler failed: %s %s", request.method, request.path, exc_info=error)
        return self.refused(http.internal())

    def cut(self, request: http.Request, error: BaseException) -> None:
        """Count and log a stream that broke off after its head was sent."""
        self._failures.inc()
        logger.error("stream broke off: %s %s", request.method, request.path, exc_info=error)

    def tell(self, on_close: Callable[[], object]) -> None:
        """Call a response's `on_close`; what it raises is its author's fault, not the client's."""
        try:
            on_close()
        except Exception:
            self._failures.inc()
            logger.exception("on_close of a response failed")

    async def finish(self, source: AsyncIterator[bytes]) -> None:
        """Close a stream's generator, so that its `finally` runs now and not at garbage collection."""
        aclose: Callable[[], Awaitable[None]] | None = getattr(source, "aclose", None)
        if aclose is not None:
            try:
                await aclose()
            except asyncio.CancelledError:  # the answer is out, or its failure is on its way up already
                logger.debug("a stream was cancelled while it was closed")
            except Exception:
                self._failures.inc()
                logger.exception("a stream failed while it was closed")
