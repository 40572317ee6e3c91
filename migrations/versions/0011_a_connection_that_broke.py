"""a connection that broke is in the audit

Revision 0011, after 0010; made 2026-11-24 09:10:00.000000.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0011"
down_revision: str | None = "0010"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

BEFORE = (
    "trading", "mode", "close_all", "daily_loss", "resolve", "create", "change", "delete", "test",
    "activate", "deactivate", "cancel", "edit", "close",
)  # fmt: skip


def upgrade() -> None:
    """Go to this revision."""
    _allow(*BEFORE, "break")


def downgrade() -> None:
    """Go back to the revision before; rows of actions it does not know stay, unchecked."""
    _allow(*BEFORE, validated=False)


def _allow(*actions: str, validated: bool = True) -> None:
    """Say which words `action` may be; rows there already may be left as they are."""
    words = ", ".join(f"'{action}'" for action in actions)
    op.drop_constraint("ck_execution_audit_action", "execution_audit")
    op.execute(
        f"ALTER TABLE execution_audit ADD CONSTRAINT ck_execution_audit_action CHECK (action IN ({words}))"
        + ("" if validated else " NOT VALID")
    )
