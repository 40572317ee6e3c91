"""what has changed

Revision 0017, after 0016; made 2026-11-28 09:00:00.000000.

Where in the order of commits an execution, a position or a notification was last changed, for event streams. Triggers
write it in the transaction that makes the change, once per statement however many rows that changes.
"""

from collections.abc import Mapping, Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

READER = "engine_reader"
MINE = "owner_role = current_setting('engine.owner_role', true) AND owner_id = current_setting('engine.owner_id', true)"

KINDS: Mapping[str, str] = {
    "execution_logs": "execution",
    "execution_positions": "position",
    "execution_notifications": "notification",
}


def upgrade() -> None:
    """Go to this revision."""
    op.create_table(
        "execution_changes",
        sa.Column("resource_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("owner_role", sa.String(length=32), nullable=False),
        sa.Column("owner_id", sa.String(length=64), nullable=False),
        sa.Column("xid", sa.BigInteger(), nullable=False),
        sa.CheckConstraint(
            "kind IN ('execution', 'position', 'notification')", name="ck_execution_changes_kind"
        ),
        sa.CheckConstraint("owner_role IN ('user', 'admin')", name="ck_execution_changes_owner_role"),
        sa.PrimaryKeyConstraint("resource_id", name="pk_execution_changes"),
    )
    op.create_index(
        "ix_execution_changes_owner", "execution_changes", ["owner_role", "owner_id", "xid", "resource_id"]
    )
    op.execute("ALTER TABLE execution_changes ENABLE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own_rows ON execution_changes USING (current_user <> '{READER}' OR ({MINE}))")
    op.execute(f"GRANT SELECT ON execution_changes TO {READER}")
    # Whoever changes a resource has its row locked, so nobody ever waits here for what they do not wait for there.
    op.execute(
        """
        CREATE FUNCTION execution_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            INSERT INTO execution_changes AS known (resource_id, kind, owner_role, owner_id, xid)
            SELECT id, TG_ARGV[0], owner_role, owner_id, pg_current_xact_id()::text::bigint FROM changed
            ON CONFLICT (resource_id) DO UPDATE SET xid = excluded.xid WHERE known.xid <> excluded.xid;
            RETURN NULL;
        END
        $$
        """
    )
    for table, kind in KINDS.items():
        for event in ("INSERT", "UPDATE"):
            op.execute(
                f"""
                CREATE TRIGGER change_by_{event.lower()} AFTER {event} ON {table}
                REFERENCING NEW TABLE AS changed
                FOR EACH STATEMENT EXECUTE FUNCTION execution_change('{kind}')
                """
            )


def downgrade() -> None:
    """Go back to the revision before."""
    for table in KINDS:
        for event in ("insert", "update"):
            op.execute(f"DROP TRIGGER change_by_{event} ON {table}")
    op.execute("DROP FUNCTION execution_change()")
    op.drop_table("execution_changes")
