"""What a fleet knows of itself: its replicas, the revisions that were live, overlays, leases, rollouts' looks.

Written out in full and never edited again: later versions only add.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


KINDS: dict[str, Any] = {"t": sa.Text, "f": sa.Double, "i": sa.Integer}


def _columns(text: str) -> list[sa.Column[Any]]:
    pairs = (word.split(":") for word in text.split())
    return [sa.Column(name, KINDS[kind](), nullable=False) for name, kind in pairs]


def upgrade() -> None:
    op.create_table(
        "replicas",
        *_columns(
            "id:t host:t pid:i url:t revision:t since:f build:t workers:i workers_current:i behind:t refusal:t "
            "settled_s:f started:f seen:f"
        ),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_table(
        "revisions",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        *_columns(
            "revision:t at:f author:t reason:t source:t host:t document:t stage:t digests:t build:t replaced:t"
        ),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table(
        "overlays",
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        *_columns("at:f author:t reason:t content:t"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_table("leases", *_columns("name:t holder:t until:f"), sa.PrimaryKeyConstraint("name"))
    op.create_table(
        "looks",
        sa.Column("number", sa.Integer(), nullable=False),
        *_columns("rollout:t phase:t at:f kind:t payload:t"),
        sa.PrimaryKeyConstraint("number"),
    )
    op.create_index("looks_rollout", "looks", ["rollout", "phase"])


def downgrade() -> None:
    for table in ("looks", "leases", "overlays", "revisions", "replicas"):
        op.drop_table(table)
