"""what a close holds back

Revision 0019, after 0018; made 2026-11-28 11:00:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0019"
down_revision: str | None = "0018"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    """Go to this revision."""
    op.add_column(
        "execution_orders",
        sa.Column("held_back", sa.Numeric(38, 18), server_default=sa.text("0"), nullable=False),
    )


def downgrade() -> None:
    """Go back."""
    op.drop_column("execution_orders", "held_back")
