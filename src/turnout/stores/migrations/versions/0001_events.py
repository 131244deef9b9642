"""Exposures, predictions, outcomes, and how far each segment has been shipped.

Written out in full and never edited again: later versions only add.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


KINDS: dict[str, Any] = {"t": sa.Text, "f": sa.Double, "i": sa.Integer, "b": sa.Boolean}


def _columns(text: str) -> list[sa.Column[Any]]:
    pairs = (word.split(":") for word in text.split())
    return [sa.Column(name, KINDS[kind](), nullable=False) for name, kind in pairs]


def upgrade() -> None:
    op.create_table(
        "exposures",
        *_columns(
            "event_id:t ts:f revision:t endpoint:t experiment:t phase:t unit_type:t unit:t variant:t served:t "
            "reason:t propensity:f sub_bucket:i request_id:t fallback:b layer:t also:t attributes:t project:t "
            "schema_version:i ingested_at:f subject:t"
        ),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("exposures_unit", "exposures", ["experiment", "phase", "unit"])
    op.create_table(
        "predictions",
        *_columns(
            "event_id:t ts:f revision:t endpoint:t unit:t experiment:t phase:t variant:t served:t sub_bucket:i "
            "pipeline:t models:t build:t status:t error:t latency_s:f steps:t fallback:b cached:b shadow:b cost:f "
            "worker:t project:t schema_version:i ingested_at:f subject:t"
        ),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_table(
        "outcomes",
        *_columns(
            "event_id:t ts:f name:t value:f unit:t request_id:t unit_type:t source:t correction_of:t project:t "
            "schema_version:i ingested_at:f subject:t"
        ),
        sa.PrimaryKeyConstraint("event_id", "project"),
    )
    op.create_index("outcomes_name", "outcomes", ["name"])
    corrections = sa.text("correction_of <> ''")
    op.create_index(
        "outcomes_correction",
        "outcomes",
        ["correction_of"],
        sqlite_where=corrections,
        postgresql_where=corrections,
    )
    op.create_table(
        "checkpoints",
        sa.Column("segment", sa.Text(), nullable=False),
        sa.Column("shipped_bytes", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("segment"),
    )
    op.execute(
        "CREATE VIEW exposure_units AS SELECT unit, ts, experiment, phase, variant, project "
        "FROM exposures WHERE reason IN ('SPLIT', 'EXTERNAL')"
    )


def downgrade() -> None:
    op.execute("DROP VIEW exposure_units")
    for table in ("checkpoints", "outcomes", "predictions", "exposures"):
        op.drop_table(table)
