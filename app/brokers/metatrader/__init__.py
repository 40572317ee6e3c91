"""MetaTrader 4 and 5 accounts, reached through mtapi.io's REST bridges. Nothing outside this package knows them."""

from collections.abc import Callable, Mapping
from datetime import datetime

from app.brokers.metatrader.gateway import PATIENCE, Patience
from app.brokers.metatrader.venue import MetaTraderVenue
from app.vault import Vault


def open_metatrader(
    vault: Vault,
    endpoints: Mapping[str, str],
    now: Callable[[], datetime],
    patience: Patience = PATIENCE,
) -> MetaTraderVenue:
    """Both platforms, for one process; `endpoints` are the operator's own bridges, by `mt4` and `mt5`."""
    return MetaTraderVenue(vault, endpoints, now, patience)
