"""stops out of sight, refused legs, and orders that were missed

Revision 0015, after 0014; made 2026-11-24 12:40:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

MOMENTS = ("stop_doubted_at", "price_seen_at", "price_lost_at")

ENDED = """
UPDATE execution_positions SET protect_by = NULL, unprotected_since = NULL
WHERE protect_by IS NOT NULL AND status = 'closed'
"""
"""What has ended needs nobody's protection any more; few rows, found by the index on `protect_by`."""

REFUSED = """
UPDATE execution_positions AS held SET native = true, refused_leg = 'stop'
FROM execution_logs AS execution
WHERE execution.id = held.execution_id AND held.status IN ('open', 'closing')
  AND NOT held.native AND (execution.plan ->> 'native')::boolean
"""
"""Open positions that had lost their venue's protection for good to one refusal: the next plan is tried there."""

ASTRAY = """
UPDATE execution_orders SET due_at = NULL
WHERE due_at IS NOT NULL AND purpose = 'entry' AND status = 'pending'
"""
"""An entry that waits is its execution's to send; few rows, found by the index on `due_at`."""


def upgrade() -> None:
    """Go to this revision."""
    for name in MOMENTS:
        op.add_column("execution_positions", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "execution_positions",
        sa.Column(
            "refused_leg",
            sa.Enum(
                "stop", "target", name="refused_leg", native_enum=False, create_constraint=True, length=32
            ),
            nullable=True,
        ),
    )
    op.add_column("execution_orders", sa.Column("missed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "execution_connections", sa.Column("arrivals_due_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_execution_orders_open",
        "execution_orders",
        ["connection_id"],
        postgresql_where=sa.text("status = 'open'"),
    )
    for statement in (ENDED, REFUSED, ASTRAY):
        op.execute(statement)


def downgrade() -> None:
    """Go back: what a venue has refused is not asked of it again."""
    op.execute("UPDATE execution_positions SET native = false WHERE refused_leg = 'stop'")
    op.drop_index("ix_execution_orders_open", "execution_orders")
    op.drop_column("execution_connections", "arrivals_due_at")
    op.drop_column("execution_orders", "missed_at")
    op.drop_column("execution_positions", "refused_leg")
    for name in reversed(MOMENTS):
        op.drop_column("execution_positions", name)
