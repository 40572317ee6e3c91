"""positions that the venue names, and money in the account's currency

Revision 0009, after 0008; made 2026-11-24 04:00:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_AMOUNT = sa.Numeric(precision=38, scale=18)


def upgrade() -> None:
    """Go to this revision."""
    op.add_column("execution_orders", sa.Column("stop_loss", _AMOUNT, nullable=True))
    op.add_column("execution_orders", sa.Column("take_profit", _AMOUNT, nullable=True))
    op.add_column("execution_orders", sa.Column("handle", sa.String(length=128), nullable=True))
    op.add_column("execution_orders", sa.Column("profit", _AMOUNT, nullable=True))
    op.add_column(
        "execution_orders", sa.Column("funding", _AMOUNT, server_default=sa.text("0"), nullable=False)
    )
    op.add_column(
        "execution_positions", sa.Column("unit_value", _AMOUNT, server_default=sa.text("1"), nullable=False)
    )
    op.add_column("execution_positions", sa.Column("handle", sa.String(length=128), nullable=True))


def downgrade() -> None:
    """Go back."""
    op.drop_column("execution_positions", "handle")
    op.drop_column("execution_positions", "unit_value")
    op.drop_column("execution_orders", "funding")
    op.drop_column("execution_orders", "profit")
    op.drop_column("execution_orders", "handle")
    op.drop_column("execution_orders", "take_profit")
    op.drop_column("execution_orders", "stop_loss")
