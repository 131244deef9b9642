"""The tables as SQLAlchemy sees them; `migrations/versions` creates them, a test compares both.

Columns are the fields of `events.py` in their order, then `ingested_at` and `subject`: a row is a
record's tuple with two values behind it. Primary keys are the idempotency keys.

The tables from `replicas` on are the fleet's state, not events: `stores/control.py` says what they hold.

Used by `sql` and `control_sql`.
"""

from typing import Any

import sqlalchemy as sa

HEAD = "0003"
"""Revision of the schema this code expects."""

metadata = sa.MetaData()


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _key(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=True, nullable=False)


def _number(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def _integer(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.Integer, nullable=False)


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(name, sa.Boolean(create_constraint=False), nullable=False)


def _only(condition: str) -> dict[str, Any]:
    """Arguments of an index over some rows."""
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


exposures = sa.Table(
    "exposures",
    metadata,
    _key("event_id"),
    _number("ts"),
    *map(_text, ("revision", "endpoint", "experiment", "phase", "unit_type", "unit", "variant", "served", "reason")),
    _number("propensity"),
    _integer("sub_bucket"),
    _text("request_id"),
    _flag("fallback"),
    *map(_text, ("layer", "also", "attributes", "project")),
    _integer("schema_version"),
    _number("ingested_at"),
    _text("subject"),
    sa.Index("exposures_unit", "experiment", "phase", "unit"),
    sa.Index("exposures_ingested", "ingested_at", postgresql_using="brin"),
)

predictions = sa.Table(
    "predictions",
    metadata,
    _key("event_id"),
    _number("ts"),
    *map(_text, ("revision", "endpoint", "unit", "experiment", "phase", "variant", "served")),
    _integer("sub_bucket"),
    *map(_text, ("pipeline", "models", "build", "status", "error")),
    _number("latency_s"),
    _text("steps"),
    *map(_flag, ("fallback", "cached", "shadow")),
    _number("cost"),
    *map(_text, ("worker", "project")),
    _integer("schema_version"),
    sa.Column("also", sa.Text, nullable=False, server_default="[]"),
    _number("ingested_at"),
    _text("subject"),
    sa.Index("predictions_phase", "experiment", "phase", "ts", **_only("experiment <> ''")),
    sa.Index("predictions_also", "ts", **_only("also <> '[]'")),
    sa.Index("predictions_ingested", "ingested_at", postgresql_using="brin"),
)

comparisons = sa.Table(
    "comparisons",
    metadata,
    _key("event_id"),
    _number("ts"),
    *map(_text, ("revision", "endpoint", "shadow", "request_id", "unit", "pipeline", "status", "error")),
    _number("latency_s"),
    _text("primary_pipeline"),
    _number("primary_latency_s"),
    sa.Column("agree", sa.Boolean(create_constraint=False), nullable=True),
    sa.Column("difference", sa.Double, nullable=True),
    *map(_text, ("worker", "project")),
    _integer("schema_version"),
    _number("ingested_at"),
    _text("subject"),
    sa.Index("comparisons_shadow", "shadow", "ts"),
    sa.Index("comparisons_ingested", "ingested_at", postgresql_using="brin"),
)

outcomes = sa.Table(
    "outcomes",
    metadata,
    _key("event_id"),
    _number("ts"),
    _text("name"),
    _number("value"),
    *map(_text, ("unit", "request_id", "unit_type", "source", "correction_of")),
    _key("project"),
    _integer("schema_version"),
    _number("ingested_at"),
    _text("subject"),
    sa.Index("outcomes_name", "name"),
    sa.Index("outcomes_correction", "correction_of", **_only("correction_of <> ''")),
    sa.Index("outcomes_ingested", "ingested_at", postgresql_using="brin"),
)

EVENTS = (exposures, predictions, outcomes, comparisons)
"""The tables of events; the others are about them, or the fleet's."""

checkpoints = sa.Table(
    "checkpoints",
    metadata,
    _key("segment"),
    sa.Column("shipped_bytes", sa.BigInteger, nullable=False),
)

replicas = sa.Table(
    "replicas",
    metadata,
    _key("id"),
    _text("host"),
    _integer("pid"),
    *map(_text, ("url", "revision")),
    _number("since"),
    _text("build"),
    *map(_integer, ("workers", "workers_current")),
    *map(_text, ("behind", "refusal")),
    *map(_number, ("settled_s", "started", "seen")),
)

revisions = sa.Table(
    "revisions",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
    _text("revision"),
    _number("at"),
    *map(_text, ("author", "reason", "source", "host", "document", "stage", "digests", "build", "replaced")),
)

overlays = sa.Table(
    "overlays",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, nullable=False, autoincrement=False),
    _number("at"),
    *map(_text, ("author", "reason", "content")),
)

leases = sa.Table("leases", metadata, _key("name"), _text("holder"), _number("until"))

looks = sa.Table(
    "looks",
    metadata,
    sa.Column("number", sa.Integer, primary_key=True, nullable=False),
    *map(_text, ("rollout", "phase")),
    _number("at"),
    *map(_text, ("kind", "payload")),
    sa.Index("looks_rollout", "rollout", "phase"),
)
