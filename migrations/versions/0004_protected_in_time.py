"""protected in time

Revision 0004, after 0003.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

POSITIONS = "execution_positions"
ORDERS = "execution_orders"
CONNECTIONS = "execution_connections"
COUNTS = ("refused_in_a_row", "doubted_in_a_row", "banned_in_a_row")
SOURCE = sa.Enum(
    "mark", "last", "index", name="trigger_source", native_enum=False, create_constraint=True, length=32
)
ANY_STRIKE = sa.text("refused_in_a_row + doubted_in_a_row + banned_in_a_row > 0")


def upgrade() -> None:
    """Go to this revision."""
    op.add_column(POSITIONS, sa.Column("deadline_seconds", sa.Integer(), server_default="30", nullable=False))
    op.alter_column(POSITIONS, "deadline_seconds", server_default=None)
    op.add_column(POSITIONS, sa.Column("unprotected_since", sa.DateTime(timezone=True)))
    op.add_column(POSITIONS, sa.Column("protect_by", sa.DateTime(timezone=True)))
    op.add_column(POSITIONS, sa.Column("protected_at", sa.DateTime(timezone=True)))
    op.add_column(POSITIONS, sa.Column("stop_seen_at", sa.DateTime(timezone=True)))
    op.add_column(
        POSITIONS, sa.Column("unprotected_seconds", sa.Numeric(38, 18), server_default="0", nullable=False)
    )
    op.alter_column(POSITIONS, "unprotected_seconds", server_default=None)
    op.create_index(
        "ix_execution_positions_protect_by",
        POSITIONS,
        ["protect_by"],
        postgresql_where=sa.text("protect_by IS NOT NULL"),
    )
    for table in (POSITIONS, ORDERS):
        op.add_column(table, sa.Column("trigger_source", SOURCE))
    for count in COUNTS:
        op.add_column(CONNECTIONS, sa.Column(count, sa.Integer(), server_default="0", nullable=False))
        op.alter_column(CONNECTIONS, count, server_default=None)
    op.create_index("ix_execution_connections_strikes", CONNECTIONS, ["id"], postgresql_where=ANY_STRIKE)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index("ix_execution_connections_strikes", table_name=CONNECTIONS, postgresql_where=ANY_STRIKE)
    for table in (POSITIONS, ORDERS):
        op.drop_column(table, "trigger_source")
    for count in COUNTS:
        op.drop_column(CONNECTIONS, count)
    op.drop_index(
        "ix_execution_positions_protect_by",
        table_name=POSITIONS,
        postgresql_where=sa.text("protect_by IS NOT NULL"),
    )
    for column in (
        "unprotected_seconds",
        "stop_seen_at",
        "protected_at",
        "protect_by",
        "unprotected_since",
        "deadline_seconds",
    ):
        op.drop_column(POSITIONS, column)
