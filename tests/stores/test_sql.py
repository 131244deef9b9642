"""The SQL adapter beyond the contract: opening, schema, errors, what the rows look like."""

import json
import sqlite3
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
import sqlalchemy as sa
from alembic import autogenerate, config, migration, script

from turnout.errors import StoreError
from turnout.events import Comparison, Exposure, Outcome, Prediction
from turnout.stores import base, catalog, databases, migrate, tables
from turnout.wire import Step

OUTCOME = Outcome(event_id="o1", ts=1.0, name="kept", unit="u1")


def subject(unit: str) -> str:
    return f"subject of {unit}" if unit else ""


@pytest.fixture
def url(path: Path) -> str:
    return f"sqlite:///{quote(str(path))}"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "with space & ?.db"


def test_opening_creates_the_file_and_its_tables(url: str, path: Path) -> None:
    store = catalog.open_store(url)
    store.append([OUTCOME], None, ingested_at=5.0, subject=subject)
    store.close()

    connection = sqlite3.connect(path)
    assert connection.execute("SELECT event_id, ingested_at, subject FROM outcomes").fetchall() == [
        ("o1", 5.0, "subject of u1")
    ]
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_a_store_whose_file_is_deleted_or_replaced_says_so_and_keeps_nothing(url: str, path: Path) -> None:
    store = catalog.open_store(url)
    store.append([OUTCOME], None, ingested_at=5.0, subject=subject)
    path.unlink()
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.append([OUTCOME], None, ingested_at=5.0, subject=subject)
    path.write_bytes(b"")
    with pytest.raises(StoreError, match="was removed or replaced"):
        store.append([OUTCOME], None, ingested_at=5.0, subject=subject)
    store.close()


def test_the_migrated_schema_is_the_one_the_code_expects(url: str) -> None:
    migrate.migrate(url)
    engine = databases.engine(url)
    with engine.connect() as connection:
        context = migration.MigrationContext.configure(connection)
        assert autogenerate.compare_metadata(context, tables.metadata) == []
        assert context.get_current_revision() == tables.HEAD
    engine.dispose()


def test_the_head_is_the_newest_version_there_is() -> None:
    settings = config.Config()
    settings.set_main_option("script_location", str(Path(migrate.__file__).parent / "migrations"))

    assert script.ScriptDirectory.from_config(settings).get_heads() == [tables.HEAD]


def test_columns_are_the_records_fields_and_two_more() -> None:
    for table, record in zip(tables.EVENTS, (Exposure, Prediction, Outcome, Comparison), strict=True):
        assert table.columns.keys() == [*record.__struct_fields__, "ingested_at", "subject"]


def test_migrating_twice_does_no_harm(url: str) -> None:
    for revision in ("head", "head"):
        migrate.migrate(url, revision)
    catalog.open_store(url).close()


def test_the_program_migrates(url: str, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert migrate.main([url]) == 0
    assert path.exists()
    assert migrate.main([]) == 2
    assert "usage" in capsys.readouterr().err


def test_reading_creates_nothing(url: str, path: Path) -> None:
    with pytest.raises(StoreError, match="no events yet") as caught:
        catalog.open_store(url, read_only=True)

    assert "Serve some requests" in caught.value.hint
    assert not path.exists()


def test_reading_does_not_migrate(url: str, path: Path) -> None:
    sqlite3.connect(path).close()
    path.touch()

    with pytest.raises(StoreError, match=f"schema is missing, this release needs {tables.HEAD}"):
        catalog.open_store(url, read_only=True)


def test_reading_refuses_to_write(url: str) -> None:
    catalog.open_store(url).close()
    store = catalog.open_store(url, read_only=True)

    with pytest.raises(StoreError, match="readonly"):
        store.append([OUTCOME], None, ingested_at=1.0, subject=subject)
    assert store.outcome_names() == []
    store.close()


def test_reading_goes_on_while_another_writes(url: str) -> None:
    writer = catalog.open_store(url)
    reader = catalog.open_store(url, read_only=True)
    writer.append([OUTCOME], None, ingested_at=1.0, subject=subject)

    assert [found.count for found in reader.outcome_names()] == [1]
    reader.close()
    writer.close()


def test_a_schema_of_a_newer_release_is_refused(url: str, path: Path) -> None:
    catalog.open_store(url).close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()

    with pytest.raises(StoreError, match=f"schema is 9999, this release knows {tables.HEAD}"):
        catalog.open_store(url)


def test_a_file_that_is_no_database_is_an_error_of_ours(url: str, path: Path) -> None:
    path.write_bytes(b"something else " * 100)

    with pytest.raises(StoreError, match="not a database"):
        catalog.open_store(url)


def test_a_locked_database_is_an_error_that_passes(url: str, path: Path) -> None:
    store = catalog.open_store(url)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreError, match="locked") as caught:
        store.append([OUTCOME], None, ingested_at=1.0, subject=subject)
    assert not isinstance(caught.value, base.RefusedError)
    blocker.execute("ROLLBACK")
    blocker.close()

    store.append([OUTCOME], None, ingested_at=1.0, subject=subject)
    assert [found.count for found in store.outcome_names()] == [1]
    store.close()


def test_a_value_no_column_holds_is_refused_with_its_whole_batch(url: str) -> None:
    store = catalog.open_store(url)
    bad = Outcome(event_id="o2", ts=1.0, name="kept", value=float("nan"))

    with pytest.raises(base.RefusedError, match="NOT NULL"):
        store.append([OUTCOME, bad], base.Checkpoint("a.seg", 10), ingested_at=1.0, subject=subject)

    assert store.outcome_names() == []
    assert store.checkpoints() == {}
    store.close()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("mysql://root:hunter2@host/x", "begins with 'mysql', which is no known store"),
        ("hunter2", "begins with 'hunter2'"),
        ("sqlite://", "needs a file"),
        ("postgresql://user:hunter2@:x:/", "cannot be read"),
    ],
    ids=["unknown", "no scheme", "no file", "no URL"],
)
def test_a_wrong_url_is_explained_without_its_password(url: str, message: str) -> None:
    with pytest.raises(StoreError, match=message) as caught:
        catalog.open_store(url)

    assert "hunter2@" not in str(caught.value)


def test_a_missing_driver_names_the_extra_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(StoreError, match=r"'psycopg'.*turnout\[postgresql\]"):
        catalog.open_store("postgresql://127.0.0.1/turnout")


def test_containers_are_json_in_their_columns(url: str, path: Path) -> None:
    store = catalog.open_store(url)
    step = Step(name="rank", model="rank-v2", version="aa", duration_s=0.5, batch_rows=8)
    event = Prediction(
        event_id="q1",
        ts=1.0,
        revision="r",
        endpoint="e",
        unit="u",
        experiment="x",
        phase="p",
        variant="a",
        served="b",
        sub_bucket=3,
        pipeline="one",
        models=("rank-v2@aa",),
        build="b1",
        status="ok",
        error="",
        latency_s=0.25,
        steps=[step],
        fallback=True,
        worker="w1",
        also=(("colours", "p2", "red"),),
    )
    store.append([event], None, ingested_at=5.0, subject=subject)
    store.close()

    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    row = dict(connection.execute("SELECT * FROM predictions").fetchone())
    connection.close()

    assert json.loads(row["models"]) == ["rank-v2@aa"]
    assert json.loads(row["steps"]) == [["rank", "rank-v2", "aa", 0.0, 0.5, 0.0, 0.0, 1, 8, ""]]
    assert json.loads(row["also"]) == [["colours", "p2", "red"]]
    others = ("models", "steps", "also", "ingested_at", "subject")
    simple = {name: value for name, value in row.items() if name not in others}
    assert simple == {name: getattr(event, name) for name in simple}


def test_warehouse_tools_find_a_view_of_analysed_units(url: str) -> None:
    catalog.open_store(url).close()
    engine = databases.engine(url, read_only=True)
    with engine.connect() as connection:
        found = connection.execute(sa.text("SELECT * FROM exposure_units"))
        assert list(found.keys()) == ["unit", "ts", "experiment", "phase", "variant", "project"]
    engine.dispose()
