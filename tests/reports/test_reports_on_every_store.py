"""The same log gives the same report, whichever store keeps it: memory, SQLite, PostgreSQL, sealed Parquet."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.contracts.event_stores import empty_postgresql, postgresql_url  # noqa: F401  # a fixture
from tests.reports import simulated
from tests.reports.simulated import DAY, START, Truth

from turnout.reports import experiment
from turnout.stores import base, catalog, seal, sealed

NOW = START + 11 * DAY


def world() -> simulated.World:
    truth = {"generation": Truth(kept=0.5, slow=0.1)}
    return simulated.World(simulated.admitted(), truth, units=600, crossing=0.005, seed=3)


def plain(store: base.EventStore) -> dict[str, Any]:
    """The report as paths to values; numbers may differ a little, since sums are added in another order."""
    made = experiment.report(store, simulated.admitted(), "structure", now=NOW)
    store.close()
    return dict(leaves(msgspec.json.decode(msgspec.json.encode(made)), ""))


def values(found: dict[str, Any]) -> dict[str, Any]:
    return {path: value.expected if hasattr(value, "expected") else value for path, value in found.items()}


def leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict | list):
        for key, each in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(each, f"{path}.{key}")
    elif isinstance(value, float):
        rough = path.endswith(("p50_s", "p95_s", "p99_s"))  # of requests, databases keep rounded latencies
        yield path, pytest.approx(value, rel=0.01 if rough else 1e-7, abs=1e-12)
    else:
        yield path, value


@pytest.fixture(scope="module")
def expected() -> dict[str, Any]:
    store = catalog.open_store("memory:every-store")
    world().fill(store)
    return values(plain(store))


def test_sqlite(expected: dict[str, Any], tmp_path: Path) -> None:
    assert plain(simulated.filled(tmp_path, world())) == expected


@pytest.mark.slow
def test_sealed_parquet(expected: dict[str, Any], tmp_path: Path) -> None:
    for needed in ("duckdb", "pyarrow"):
        try:
            importlib.import_module(needed)
        except ImportError:
            pytest.skip(f"{needed} is not installed")
    simulated.filled(tmp_path, world()).close()
    folder = tmp_path / "sealed"
    opened = catalog.open_sealable(f"sqlite:///{tmp_path / 'events.db'}")
    settings = seal.Settings(range_s=20 * DAY)
    source = sealed.source_of(f"sqlite:///{tmp_path / 'events.db'}")
    seal.seal(opened, folder, source, now=NOW + 60 * DAY, settings=settings)
    opened.close()
    assert plain(catalog.open_store(f"parquet:{folder}", read_only=True)) == expected


@pytest.mark.slow
def test_postgresql(expected: dict[str, Any], postgresql_url: str) -> None:  # noqa: F811
    store = catalog.open_store(empty_postgresql(postgresql_url))
    world().fill(store)
    assert plain(store) == expected
