"""accounts by their venue

Revision 0012, after 0011.

An account's identity begins with its venue, so that it is one by whichever class of ccxt it is opened. What was made
from a key says so; a test brings the name where the venue tells one, and what is not active has to pass it first.
"""

from collections.abc import Sequence

from alembic import op

revision: str = "0012"
down_revision: str | None = "0011"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

INDEX = "uq_execution_connections_account"

BY_WALLET = ("cryptomus", "derive", "hyperliquid", "nado", "paradex")
"""Where the digest was one of the account's own name, not of a key."""


def upgrade() -> None:
    """Go to this revision; of several active connections to one account the first stays active."""
    op.drop_index(INDEX, "execution_connections")
    op.execute(
        f"""
        UPDATE execution_connections SET account_identity =
            CASE exchange WHEN 'binanceusdm' THEN 'binance' WHEN 'kucoinfutures' THEN 'kucoin' ELSE exchange END
            || CASE WHEN kind = 'crypto' AND account_identity ~ '^[0-9a-f]{{32}}$' AND exchange NOT IN {BY_WALLET}
                    THEN ':key:' ELSE ':' END
            || account_identity
        WHERE account_identity IS NOT NULL AND kind <> 'paper'
        """
    )
    op.execute(
        """
        UPDATE execution_connections AS later
        SET status = 'error', tested_version = NULL,
            last_error = 'Another active connection already trades this account.'
        WHERE later.status = 'active' AND later.deleted_at IS NULL AND EXISTS (
            SELECT FROM execution_connections AS first
            WHERE first.status = 'active' AND first.deleted_at IS NULL AND first.id < later.id
              AND first.sandbox = later.sandbox AND first.market_type = later.market_type
              AND first.account_identity = later.account_identity)
        """
    )
    op.execute(
        "UPDATE execution_connections SET tested_version = NULL"
        " WHERE status <> 'active' AND split_part(account_identity, ':', 2) = 'key'"
    )
    _index("sandbox", "market_type", "account_identity")


def downgrade() -> None:
    """Go back to the revision before."""
    op.drop_index(INDEX, "execution_connections")
    op.execute(
        """
        UPDATE execution_connections SET account_identity = regexp_replace(account_identity, '^[^:]*:(key:)?', '')
        WHERE account_identity IS NOT NULL AND kind <> 'paper'
        """
    )
    _index("exchange", "sandbox", "market_type", "account_identity")


def _index(*columns: str) -> None:
    op.create_index(
        INDEX,
        "execution_connections",
        list(columns),
        unique=True,
        postgresql_where="status = 'active' AND deleted_at IS NULL",
    )
