"""The REST bridges of MetaTrader 4 and 5 on loopback, each in front of a simulated broker with the same prices.

What a broker is: `instruments`, `accounts` (money, and the proof that none was made or lost), `server` (matching,
stops, stop-outs). What its edge is: `sessions`, `wire`, `bridge` with `mt4` and `mt5`. The hand of a test: `venue`.

    async with running_bridge(suffix="m") as venue:           # start=... for a clock that stands still
        owner = venue.open_account("mt5", currency="EUR", method=Method.NETTING, commission="3.5")
        venue.mt5.url, owner.user, owner.password, owner.server  # or owner.host and owner.port
        venue.move("EUR/USD", "1.0950")                       # the bid walks, triggers and fills; gap=True jumps
        venue.widen("EUR/USD", 50)                            # the spread, in points
        venue.restrict("EUR/USD", TradeMode.CLOSE_ONLY)
        venue.close_session("EUR/USD")                        # zero quotes; without a name it is the weekend
        venue.open_session()                                  # opens at the prices moved to meanwhile
        venue.roll_over()                                     # the swap of one night
        await venue.advance(30)                               # late requests arrive, orders expire, tokens age

        login = venue.login("mt5", owner.user)                # the truth
        login.balance, login.positions, login.pending, login.deals, login.orders, login.realized
        login.accepted(magic=7), login.doubles()              # more than one is a duplicate
        login.is_reachable = False                            # empty lists as if flat; no trading, no quotes
        login.is_synced = False                               # zeros for figures
        venue.mt5.server.close(login, position, lots)         # what the owner does at the terminal
        venue.calls("OrderSend"), venue.requests              # what came in
        assert not any(secret in log for secret in venue.secrets)
        venue.audit()                                         # money, positions, misuse of the API, crashes
        conduct.assert_sound(venue)                           # and of a client of ours that it never asks for harm

Accidents of single requests are those of `tests.venues.faults`, and refusals in the bridges' own words:

        venue.faults.add(faults.ANSWER_LOST)                  # strikes the next OrderSend unless told otherwise
        venue.faults.add(faults.dawdling(20))                 # fills after 20 s, when nobody listens any more
        venue.faults.add(faults.late(20, fenced=False))       # the same, the connection being cut at once
        venue.faults.add(faults.doubled(3))                   # one send, three positions
        venue.faults.add(faults.lagging(10))                  # what comes of it stays out of lists for a while
        venue.faults.add(refusal("REQUOTE"))                  # certain: never carried out
        venue.faults.add(refusal("TIMEOUT", executed=True))   # an ambiguous code, and it was filled
        venue.faults.add(faults.HTML, faults.leaves)          # also: closes, modifies, looks, on("/AccountSummary")

Habits of a bridge, on `venue.mt4` or `venue.mt5`:

        bridge.api_key = "..."                                # 401 without the header ApiKey
        bridge.sessions.lose_all()                            # INVALID_TOKEN from now on
        bridge.sessions.remembers = False                     # and ConnectByToken does not help
        bridge.sessions.idle_seconds                          # 300: tokens die of idleness
        bridge.has_safe_twins = False                         # 404 for OrderSendSafe and the others
        bridge.lacks.add("ordercanceltask")                   # 404 for any other
        bridge.check_reconnects = True                        # CheckConnect mends the line, and says OK
        bridge.history_lag, bridge.partial_histories          # late histories, halves of histories
        bridge.pascal_case, bridge.symbols_shape, bridge.zero_quotes_when_closed, bridge.leaks_passwords
        bridge.max_failed_logins                              # TOO_FREQUENT_FAIL_CONNECT
        venue.mt5.closes_answer_with_position                 # else a close answers with its own order's ticket
        venue.mt5.method_told = "Default"                     # in place of the account's method; "" leaves it out
        venue.mt4.tells_trade_mode                            # False: zero, whatever may be traded
        bridge.server.keeps_comments, bridge.server.keeps_magic, bridge.server.min_expiration
        bridge.server.rest_keeps_magic, bridge.server.rest_says_origin, bridge.server.part_says_rest

Not simulated: web sockets, price histories, close-by, partial fills of one order, margin of hedged positions,
tiers of leverage, FIFO rules.
"""

from tests.venues.metatrader.accounts import Method, Platform
from tests.venues.metatrader.instruments import LISTINGS, Execution, Listing, TradeMode
from tests.venues.metatrader.venue import Credentials, MetaTraderVenue, running_bridge
from tests.venues.metatrader.wire import refusal

__all__ = [
    "LISTINGS",
    "Credentials",
    "Execution",
    "Listing",
    "MetaTraderVenue",
    "Method",
    "Platform",
    "TradeMode",
    "refusal",
    "running_bridge",
]
