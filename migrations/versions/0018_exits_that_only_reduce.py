"""exits that only reduce

Revision 0018, after 0017; made 2026-11-28 09:00:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0018"
down_revision: str | None = "0017"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_POSITIONS = "execution_positions"
_REASON = sa.Enum(
    "take_profit", "stop_loss", "trailing_stop", "manual", "signal", "liquidation", "external", "risk", "timeout",
    "dust", name="leave_reason", native_enum=False, create_constraint=True, length=32,
)  # fmt: skip
_OF_SWAP = "connection_id IN (SELECT id FROM execution_connections WHERE market_type = 'swap')"


def upgrade() -> None:
    """Go to this revision."""
    op.add_column(
        _POSITIONS, sa.Column("netting", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.execute(f"UPDATE {_POSITIONS} SET netting = true WHERE {_OF_SWAP}")
    op.add_column(_POSITIONS, sa.Column("leave_reason", _REASON, nullable=True))
    op.add_column(
        _POSITIONS,
        sa.Column("doubtful_quantity", sa.Numeric(38, 18), server_default=sa.text("0"), nullable=False),
    )
    _one_close("'pending', 'sending'")
    # What is claimed already and may still open a position remembers it for that.
    op.execute(
        "UPDATE execution_logs SET plan = plan || jsonb_build_object('netting', "
        f"{_OF_SWAP}) WHERE plan IS NOT NULL"
    )


def downgrade() -> None:
    """Go back."""
    op.execute("UPDATE execution_logs SET plan = plan - 'netting' WHERE plan IS NOT NULL")
    _one_close("'pending', 'sending', 'open', 'needs_review'")
    op.drop_column(_POSITIONS, "doubtful_quantity")
    op.drop_column(_POSITIONS, "leave_reason")
    op.drop_column(_POSITIONS, "netting")


def _one_close(states: str) -> None:
    """Let a position have one close in these states."""
    op.drop_index("uq_execution_orders_live_close", table_name="execution_orders")
    op.create_index(
        "uq_execution_orders_live_close",
        "execution_orders",
        ["position_id"],
        unique=True,
        postgresql_where=sa.text(f"purpose = 'close' AND status IN ({states})"),
    )
