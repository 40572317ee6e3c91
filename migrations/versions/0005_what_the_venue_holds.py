"""what the venue holds

Revision 0005, after 0004; made 2026-11-24 04:00:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_POSITIONS = "execution_positions"


def upgrade() -> None:
    """Go to this revision."""
    op.add_column(
        "execution_connections", sa.Column("reconcile_due_at", sa.DateTime(timezone=True), nullable=True)
    )
    op.create_index(
        "ix_execution_connections_reconcile",
        "execution_connections",
        ["reconcile_due_at"],
        postgresql_where=sa.text("reconcile_due_at IS NOT NULL"),
    )
    op.add_column(
        _POSITIONS,
        sa.Column("missing_quantity", sa.Numeric(precision=38, scale=18), nullable=False, server_default="0"),
    )
    op.add_column(_POSITIONS, sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        _POSITIONS,
        sa.Column("foreign_quantity", sa.Numeric(precision=38, scale=18), nullable=False, server_default="0"),
    )
    op.add_column(_POSITIONS, sa.Column("foreign_orders", sa.Integer(), nullable=False, server_default="0"))
    op.add_column(_POSITIONS, sa.Column("delisted_at", sa.DateTime(timezone=True), nullable=True))
    for column in ("missing_quantity", "foreign_quantity", "foreign_orders"):
        # Only the rows there are needed a value from the database; new ones bring their own.
        op.alter_column(_POSITIONS, column, server_default=None)


def downgrade() -> None:
    """Go back to the one before."""
    for column in ("delisted_at", "foreign_orders", "foreign_quantity", "missing_since", "missing_quantity"):
        op.drop_column(_POSITIONS, column)
    op.drop_index(
        "ix_execution_connections_reconcile",
        table_name="execution_connections",
        postgresql_where=sa.text("reconcile_due_at IS NOT NULL"),
    )
    op.drop_column("execution_connections", "reconcile_due_at")
