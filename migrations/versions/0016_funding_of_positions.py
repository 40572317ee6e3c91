"""funding of positions

Revision 0016, after 0015.

What perpetuals charge and pay for being held: one row per payment, each once. What is open already is asked about at
the next round.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0016"
down_revision: str | None = "0015"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_CONNECTIONS = "execution_connections"
_FUNDING = "execution_funding"
_READER = "engine_reader"


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        _FUNDING,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("connection_id", sa.Uuid(), nullable=False),
        sa.Column("position_id", sa.Uuid(), nullable=False),
        sa.Column("symbol", sa.String(length=64), nullable=False),
        sa.Column("venue_id", sa.String(length=128), nullable=False),
        sa.Column("amount", sa.Numeric(precision=38, scale=18), nullable=False),
        sa.Column("currency", sa.String(length=64), nullable=False),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["execution_connections.id"],
            name=op.f("fk_execution_funding_connection_id"),
            ondelete="RESTRICT",
        ),
        sa.ForeignKeyConstraint(
            ["position_id"],
            ["execution_positions.id"],
            name=op.f("fk_execution_funding_position_id"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_funding")),
    )
    op.create_index(op.f("ix_execution_funding_position_id"), _FUNDING, ["position_id"])
    op.create_index(
        "uq_execution_funding_payment", _FUNDING, ["connection_id", "symbol", "venue_id"], unique=True
    )
    op.execute(f"ALTER TABLE {_FUNDING} ENABLE ROW LEVEL SECURITY")
    op.execute(
        f"CREATE POLICY own_rows ON {_FUNDING} USING (current_user <> '{_READER}' OR EXISTS "
        f"(SELECT FROM execution_positions AS p WHERE p.id = {_FUNDING}.position_id))"
    )
    op.execute(f"GRANT SELECT ON {_FUNDING} TO {_READER}")
    op.add_column(
        "execution_positions",
        sa.Column("funding_complete", sa.Boolean(), nullable=False, server_default=sa.text("true")),
    )
    for column in ("funding_due_at", "funding_heard_at"):
        op.add_column(_CONNECTIONS, sa.Column(column, sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_execution_connections_funding",
        _CONNECTIONS,
        ["funding_due_at"],
        postgresql_where=sa.text("funding_due_at IS NOT NULL"),
    )
    op.execute(
        """
        UPDATE execution_connections AS c SET funding_due_at = now()
        WHERE c.kind = 'crypto' AND c.market_type = 'swap' AND c.deleted_at IS NULL AND EXISTS (
            SELECT FROM execution_positions AS p WHERE p.connection_id = c.id AND p.status <> 'closed')
        """
    )


def downgrade() -> None:
    """Go back to the revision before; what was booked stays in the positions."""
    op.drop_index("ix_execution_connections_funding", _CONNECTIONS)
    for column in ("funding_heard_at", "funding_due_at"):
        op.drop_column(_CONNECTIONS, column)
    op.drop_column("execution_positions", "funding_complete")
    op.drop_table(_FUNDING)
