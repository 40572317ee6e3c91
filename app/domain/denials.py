"""The catalogue of reasons: every code an execution may end with, and what its owner can do about it.

*Denied* means we said no: before anything was sent, or to what an entry that rested had not filled yet. *Rejected*
means the venue said no.
"""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """Who said no."""

    DENIED = "denied"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True)
class Reason:
    """One entry of the catalogue."""

    code: str
    kind: Verdict
    title: str
    what_to_do: str


_DENIED: tuple[tuple[str, str, str], ...] = (
    (
        "quantity_below_minimum",
        "The sized quantity is below the smallest the venue takes.",
        "Raise the sizing value, or set on_too_small to minimum.",
    ),
    (
        "notional_below_minimum",
        "The order, or a leg that would protect it, is worth less than the venue's minimum.",
        "Raise the sizing value, or set on_too_small to minimum.",
    ),
    (
        "quantity_missing",
        "The connection sizes by the signal's quantity and the signal names none.",
        "Choose another sizing strategy, or ask the provider to send a quantity.",
    ),
    (
        "symbol_unknown",
        "The venue does not list this symbol.",
        "Add the venue's name for it to the connection's symbol_map.",
    ),
    (
        "symbol_ambiguous",
        "More than one instrument of the venue fits this symbol.",
        "Say which one is meant in the connection's symbol_map.",
    ),
    (
        "market_mismatch",
        "The signal is for another kind of market than the connection trades.",
        "Connect an account of that market, or ignore signals of this kind.",
    ),
    (
        "market_closed",
        "The market is closed at the moment.",
        "Wait for the session; the next signal is tried again.",
    ),
    (
        "symbol_not_tradable",
        "The venue lets nobody open positions in this symbol: trading is disabled, or closing only.",
        "Trade another symbol, or ask the broker.",
    ),
    (
        "direction_not_allowed",
        "The venue lets this symbol be opened in the other direction only.",
        "Nothing; signals in the other direction are executed.",
    ),
    (
        "account_read_only",
        "The password opens the account for reading only: it is the investor's.",
        "Enter the account's trading password, and test the connection again.",
    ),
    (
        "account_not_synced",
        "The broker has not sent the account's figures yet, so nothing can be sized by them.",
        "Nothing; the next signal is tried again.",
    ),
    (
        "stop_loss_required",
        "risk_percentage sizes by the distance to the stop, and the signal has no stop-loss.",
        "Choose another sizing strategy, or ask the provider to send a stop-loss.",
    ),
    (
        "short_not_supported",
        "A sell signal cannot be executed on a spot account: spot opens long only.",
        "Connect a swap account to follow sell signals.",
    ),
    (
        "insufficient_balance",
        "The free balance does not cover the order, its fee and a slippage allowance.",
        "Add funds, or lower the sizing value.",
    ),
    (
        "max_open_positions",
        "The connection already holds as many positions and pending entries as it may.",
        "Close a position, or raise limits.max_open_positions.",
    ),
    (
        "max_positions_per_symbol",
        "The connection already holds as many positions of this symbol as it may.",
        "Close a position, or raise limits.max_positions_per_symbol.",
    ),
    (
        "max_daily_loss",
        "Today's loss has reached the limit of the connection.",
        "Trading goes on the next UTC day, or after limits.max_daily_loss is raised.",
    ),
    (
        "max_daily_trades",
        "The connection has sent as many entries today (UTC) as it may.",
        "Trading goes on the next UTC day, or after limits.max_daily_trades is raised.",
    ),
    (
        "symbol_not_allowed",
        "The connection's allow and deny lists exclude this symbol.",
        "Change limits.allow_symbols or limits.deny_symbols.",
    ),
    ("signal_expired", "The signal's expires_at has passed.", "Nothing; it came too late to be executed."),
    (
        "signal_too_old",
        "The signal is older than the connection accepts.",
        "Raise limits.max_signal_age_seconds if later entries are wanted.",
    ),
    (
        "price_drift",
        "The price has moved further against the signal's entry than the connection accepts.",
        "Raise limits.max_price_drift_percent if worse entries are wanted.",
    ),
    (
        "spread_too_wide",
        "The spread is wider than the connection accepts.",
        "Raise limits.max_spread_percent, or wait for a calmer market.",
    ),
    (
        "trading_reducing",
        "The connection, or the whole engine, only reduces positions at the moment.",
        "Set the mode back to active when new positions are wanted.",
    ),
    (
        "trading_halted",
        "The connection, or the whole engine, is halted.",
        "Set the mode back to active when new positions are wanted.",
    ),
    (
        "connection_inactive",
        "The connection was deactivated between the signal and its execution.",
        "Test and activate the connection to receive signals.",
    ),
    (
        "plan_required",
        "The owner's plan no longer covers this signal.",
        "Renew or change the plan on the platform.",
    ),
    ("signal_cancelled", "The provider cancelled the signal.", "Nothing; the signal is no longer meant."),
    ("signal_closed", "The provider closed the signal.", "Nothing; the signal is already over."),
    (
        "symbol_in_use",
        "This account nets positions, and the symbol already has a position or pending entry of ours.",
        "Wait until it is closed; netting accounts hold one position per symbol.",
    ),
    (
        "opposite_position",
        "This account nets positions, and the symbol is held in the other direction.",
        "Close the position first; an entry never closes or flips another one.",
    ),
    (
        "order_in_review",
        "Nobody knows what became of an order of this symbol, so no more of it is entered.",
        "Look at the venue and resolve the execution that needs a review; later signals are tried again.",
    ),
    (
        "foreign_position",
        "The account holds a position of this symbol that is not the engine's.",
        "Close it at the venue, or trade this symbol on another account.",
    ),
    (
        "stop_already_passed",
        "The price is already beyond the signal's stop-loss.",
        "Nothing; the trade would have been stopped at once.",
    ),
    (
        "target_already_passed",
        "The price is already beyond the signal's first take-profit.",
        "Nothing; the move the signal was after has happened.",
    ),
    (
        "stop_too_close",
        "The stop-loss is nearer than the venue's stop level, or than spread and fees.",
        "Ask the provider for a wider stop, or choose another sizing strategy.",
    ),
    (
        "stop_beyond_liquidation",
        "At this leverage the position would be liquidated before its stop-loss is reached.",
        "Lower the connection's leverage.",
    ),
    (
        "venue_settings_conflict",
        "Leverage or margin mode differ at the venue and cannot be changed while the symbol is in use.",
        "Close what is open in the symbol, or set the same values at the venue.",
    ),
    (
        "conversion_unavailable",
        "There is no rate between the currencies this size needs.",
        "Choose a sizing strategy without conversion, or an account in another currency.",
    ),
    (
        "quote_stale",
        "The venue has no fresh, sound quote for the symbol.",
        "Wait until the venue quotes again.",
    ),
    (
        "venue_unreachable",
        "The venue could not be reached while the signal was fresh.",
        "Check the venue's status; the next signal is tried again.",
    ),
)

_REJECTED: tuple[tuple[str, str, str], ...] = (
    (
        "rejected_by_venue",
        "The venue refused the order; its own words are in the message.",
        "Read the message; it says what the venue did not like.",
    ),
    (
        "never_arrived",
        "The order provably never reached the venue, and the signal is no longer fresh.",
        "Nothing; no position was opened.",
    ),
    (
        "credentials_refused",
        "The venue does not accept the connection's credentials for this.",
        "Check the key and its permissions at the venue, enter it again and test the connection.",
    ),
    (
        "banned_by_venue",
        "The venue has shut this installation or the account out for a while.",
        "Wait until the venue answers again, then test and activate the connection.",
    ),
    (
        "vanished",
        "The order rested at the venue and is no longer there, although nobody here took it back.",
        "Look at the venue: it may have been cancelled there by hand.",
    ),
)

CATALOGUE: dict[str, Reason] = {
    code: Reason(code, kind, title, what_to_do)
    for kind, entries in ((Verdict.DENIED, _DENIED), (Verdict.REJECTED, _REJECTED))
    for code, title, what_to_do in entries
}
"""Every reason by its code."""
