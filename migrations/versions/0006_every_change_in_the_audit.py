"""every change in the audit

Revision 0006, after 0005; made 2026-11-24 03:52:00.000000.
"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BEFORE = ("trading", "mode", "close_all", "daily_loss", "resolve")
ADDED = ("create", "change", "delete", "test", "activate", "deactivate", "cancel", "edit", "close")


def upgrade() -> None:
    """Go to this revision."""
    _allow(*BEFORE, *ADDED)
    op.add_column("execution_audit", sa.Column("position_id", sa.Uuid(), nullable=True))
    op.create_foreign_key(
        "fk_execution_audit_position_id",
        "execution_audit",
        "execution_positions",
        ["position_id"],
        ["id"],
        deferrable=True,
        initially="DEFERRED",
    )
    op.create_index("ix_execution_audit_actor", "execution_audit", ["actor_role", "actor_id", "id"])


def downgrade() -> None:
    """Go back to the revision before; rows of actions it does not know stay, unchecked."""
    op.drop_index("ix_execution_audit_actor", table_name="execution_audit")
    op.drop_column("execution_audit", "position_id")
    _allow(*BEFORE, validated=False)


def _allow(*actions: str, validated: bool = True) -> None:
    """Say which words `action` may be; rows there already may be left as they are."""
    words = ", ".join(f"'{action}'" for action in actions)
    op.drop_constraint("ck_execution_audit_action", "execution_audit")
    op.execute(
        f"ALTER TABLE execution_audit ADD CONSTRAINT ck_execution_audit_action CHECK (action IN ({words}))"
        + ("" if validated else " NOT VALID")
    )
