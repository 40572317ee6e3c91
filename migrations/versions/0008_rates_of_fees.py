"""rates of fees

Revision 0008, after 0007.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0008"
down_revision: str | None = "0007"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column(
        "execution_orders",
        sa.Column("fee_rates", postgresql.JSONB(astext_type=sa.Text()), nullable=False, server_default="{}"),
    )
    op.alter_column("execution_orders", "fee_rates", server_default=None)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_column("execution_orders", "fee_rates")
