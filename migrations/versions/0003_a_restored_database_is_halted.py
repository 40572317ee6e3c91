"""a restored database is halted

Revision 0003, after 0002; made 2026-11-24 04:05:00.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0003"
down_revision: str | None = "0002"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

# As app/store/trading.py has it; a migration does not change when that does.
MARK = (
    "(SELECT system_identifier FROM pg_control_system())"
    " || '/' || (SELECT timeline_id FROM pg_control_checkpoint())"
    " || '/' || 'execution_trading'::regclass::oid"
)


def upgrade() -> None:
    """Go to this revision."""
    for column in ("reason", "set_by", "set_at"):
        op.alter_column("execution_trading", column, nullable=True)
    op.add_column("execution_trading", sa.Column("database_mark", sa.String(length=64), nullable=True))
    op.execute(f"UPDATE execution_trading SET database_mark = {MARK}")
    op.execute(
        "INSERT INTO execution_trading (id, state, database_mark) "
        f"VALUES (1, 'active', {MARK}) ON CONFLICT DO NOTHING"
    )
    op.alter_column("execution_trading", "database_mark", nullable=False)


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_column("execution_trading", "database_mark")
    op.execute("DELETE FROM execution_trading WHERE set_by IS NULL")
    for column in ("reason", "set_by", "set_at"):
        op.alter_column("execution_trading", column, nullable=False)
