"""notifications go out

Revision 0014, after 0013; made 2026-11-24 13:00:00.000000.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0014"
down_revision: str | None = "0013"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

READER = "engine_reader"
CHANNELS, DELIVERIES = "execution_notification_channels", "execution_notification_deliveries"

POLICIES: Mapping[str, str] = {
    CHANNELS: "owner_role = current_setting('engine.owner_role', true) "
    "AND owner_id = current_setting('engine.owner_id', true)",
    # What the subquery reads is held by the policy of its own table: it finds the owner's channels alone.
    DELIVERIES: f"EXISTS (SELECT FROM {CHANNELS} AS c WHERE c.id = {DELIVERIES}.channel_id)",
}

BEFORE = (
    "trading", "mode", "close_all", "daily_loss", "resolve", "create", "change", "delete", "test",
    "activate", "deactivate", "cancel", "edit", "close", "break",
)  # fmt: skip


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        CHANNELS,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("owner_role", _words("owner_role", "user", "admin"), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("kind", _words("kind", "webhook", "email", "telegram", "discord"), nullable=False),
        sa.Column("types", postgresql.JSONB(), nullable=False),
        sa.Column("target", sa.String(length=2048), nullable=True),
        sa.Column("credentials_sealed", sa.LargeBinary(), nullable=True),
        sa.Column("credentials_version", sa.Integer(), nullable=False),
        sa.Column("credentials_hint", sa.String(length=16), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(length=300), nullable=True),
        sa.Column("last_delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_notification_channels")),
    )
    op.create_index(
        "uq_execution_notification_channels_name",
        CHANNELS,
        ["owner_role", "owner_id", "name"],
        unique=True,
        postgresql_where=sa.text("removed_at IS NULL"),
    )
    op.create_table(
        DELIVERIES,
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("notification_id", sa.Uuid(), nullable=False),
        sa.Column("channel_id", sa.Uuid(), nullable=False),
        sa.Column("status", _words("status", "pending", "delivered", "given_up"), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("last_error", sa.String(length=300), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("delivered_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(
            ["notification_id"],
            ["execution_notifications.id"],
            name=op.f("fk_execution_notification_deliveries_notification_id"),
        ),
        sa.ForeignKeyConstraint(
            ["channel_id"], [f"{CHANNELS}.id"], name=op.f("fk_execution_notification_deliveries_channel_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_execution_notification_deliveries")),
    )
    op.create_index("ix_execution_notification_deliveries_notification", DELIVERIES, ["notification_id"])
    op.create_index(
        "ix_execution_notification_deliveries_pending",
        DELIVERIES,
        ["channel_id", "attempts", "notification_id"],
        postgresql_where=sa.text("status = 'pending'"),
    )
    for table, own in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {table} USING (current_user <> '{READER}' OR ({own}))")
        op.execute(f"GRANT SELECT ON {table} TO {READER}")
    _allow(*BEFORE, "channels")


def downgrade() -> None:
    """Go back to the revision before; rows of actions it does not know stay, unchecked."""
    _allow(*BEFORE, validated=False)
    op.drop_table(DELIVERIES)
    op.drop_table(CHANNELS)


def _words(name: str, *words: str) -> sa.Enum:
    """Text that is one of these words."""
    return sa.Enum(*words, name=name, native_enum=False, create_constraint=True, length=32)


def _allow(*actions: str, validated: bool = True) -> None:
    """Say which words `action` may be; rows there already may be left as they are."""
    words = ", ".join(f"'{action}'" for action in actions)
    op.drop_constraint("ck_execution_audit_action", "execution_audit")
    op.execute(
        f"ALTER TABLE execution_audit ADD CONSTRAINT ck_execution_audit_action CHECK (action IN ({words}))"
        + ("" if validated else " NOT VALID")
    )
