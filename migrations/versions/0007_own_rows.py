"""own rows

Revision 0007, after 0006; made 2026-11-24 03:53:00.000000.

Row-level security for what serves an owner: a role that can read these tables and is held by a policy on each, by
two settings of the transaction. Every other role sees and writes all rows, whether it owns the tables or not.
"""

from collections.abc import Mapping, Sequence

from alembic import op

revision: str = "0007"
down_revision: str | None = "0006"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

READER = "engine_reader"

ROLE = "current_setting('engine.owner_role', true)"
ID = "current_setting('engine.owner_id', true)"
MINE = f"owner_role = {ROLE} AND owner_id = {ID}"

# What a subquery of a policy reads is held by the policy of its own table: it finds the owner's rows alone.
POLICIES: Mapping[str, str] = {
    "execution_connections": MINE,
    "execution_logs": MINE,
    "execution_positions": MINE,
    "execution_notifications": MINE,
    "execution_orders": "EXISTS (SELECT FROM execution_logs AS e WHERE e.id = execution_orders.execution_id)",
    "execution_analytics": "EXISTS "
    "(SELECT FROM execution_connections AS c WHERE c.id = execution_analytics.connection_id)",
    "execution_signals": f"{ROLE} = 'admin' OR EXISTS "
    "(SELECT FROM execution_logs AS e WHERE e.signal_id = execution_signals.id)",
    "execution_entitlements": f"{ROLE} = 'user' AND user_id = {ID}",
    "execution_audit": f"(actor_role = {ROLE} AND actor_id = {ID}) OR EXISTS "
    "(SELECT FROM execution_connections AS c WHERE c.id = execution_audit.connection_id)",
}


def upgrade() -> None:
    """Go to this revision. A role is of the whole server: another database of it may have made it already."""
    op.execute(
        f"""
        DO $$
        BEGIN
            IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{READER}') THEN
                BEGIN
                    CREATE ROLE {READER} NOLOGIN NOINHERIT;
                EXCEPTION WHEN duplicate_object OR unique_violation THEN
                    NULL;
                END;
            END IF;
            BEGIN
                PERFORM set_config('role', '{READER}', true);
                PERFORM set_config('role', 'none', true);
            EXCEPTION WHEN insufficient_privilege THEN
                GRANT {READER} TO CURRENT_USER;
            END;
        EXCEPTION WHEN insufficient_privilege THEN
            RAISE EXCEPTION 'the user % may neither make the role {READER} nor act as it', current_user
            USING ERRCODE = 'insufficient_privilege', HINT = format(
                'Have an administrator run: CREATE ROLE {READER} NOLOGIN; GRANT {READER} TO %I;', current_user
            );
        END
        $$
        """
    )
    for table, own in POLICIES.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own_rows ON {table} USING (current_user <> '{READER}' OR ({own}))")
        op.execute(f"GRANT SELECT ON {table} TO {READER}")


def downgrade() -> None:
    """Go back to the revision before; the role stays, as other databases of the server may use it."""
    for table in POLICIES:
        op.execute(f"REVOKE SELECT ON {table} FROM {READER}")
        op.execute(f"DROP POLICY own_rows ON {table}")
        op.execute(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY")
