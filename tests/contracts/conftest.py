"""Fixtures of the contract suites: for HTTP, every front that serves a handler."""

import pytest
from tests.contracts import http_fronts


@pytest.fixture(params=http_fronts.FRONTS, ids=[front.name for front in http_fronts.FRONTS])
def front(request: pytest.FixtureRequest) -> http_fronts.Front:
    kind: type[http_fronts.Front] = request.param
    return kind()


@pytest.fixture(params=http_fronts.FRONTS[:2], ids=[front.name for front in http_fronts.FRONTS[:2]])
def own_front(request: pytest.FixtureRequest) -> http_fronts.Front:
    """What only our own server promises; elsewhere it is uvicorn's business."""
    kind: type[http_fronts.Front] = request.param
    return kind()
