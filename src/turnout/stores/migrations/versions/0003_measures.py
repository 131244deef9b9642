"""Shadows' comparisons, assignments of other layers, and the ways that reports and sealing walk over events.

Written out in full and never edited again: later versions only add.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def _only(condition: str) -> dict[str, Any]:
    return {"sqlite_where": sa.text(condition), "postgresql_where": sa.text(condition)}


def upgrade() -> None:
    op.add_column("predictions", sa.Column("also", sa.Text(), nullable=False, server_default="[]"))
    op.create_table(
        "comparisons",
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("ts", sa.Double(), nullable=False),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("revision", "endpoint", "shadow", "request_id", "unit", "pipeline", "status", "error")
        ),
        sa.Column("latency_s", sa.Double(), nullable=False),
        sa.Column("primary_pipeline", sa.Text(), nullable=False),
        sa.Column("primary_latency_s", sa.Double(), nullable=False),
        sa.Column("agree", sa.Boolean(), nullable=True),
        sa.Column("difference", sa.Double(), nullable=True),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("project", sa.Text(), nullable=False),
        sa.Column("schema_version", sa.Integer(), nullable=False),
        sa.Column("ingested_at", sa.Double(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("event_id"),
    )
    op.create_index("comparisons_shadow", "comparisons", ["shadow", "ts"])
    op.create_index("predictions_phase", "predictions", ["experiment", "phase", "ts"], **_only("experiment <> ''"))
    op.create_index("predictions_also", "predictions", ["ts"], **_only("also <> '[]'"))
    for table in ("exposures", "predictions", "outcomes", "comparisons"):
        op.create_index(f"{table}_ingested", table, ["ingested_at"], postgresql_using="brin")


def downgrade() -> None:
    for table in ("exposures", "predictions", "outcomes"):
        op.drop_index(f"{table}_ingested", table)
    op.drop_index("predictions_also", "predictions")
    op.drop_index("predictions_phase", "predictions")
    op.drop_table("comparisons")
    op.drop_column("predictions", "also")
