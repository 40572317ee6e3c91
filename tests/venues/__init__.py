"""Simulated exchanges that speak the real wire protocols of Binance spot, Binance USD-M and Bybit v5.

What an exchange is: `clock`, `orders`, `accounts` (money, and the proof that none was made or lost), `floor`
(matching). What its edge is: `wire`, `limits`, `faults`, `delivery`. What each one says: `binance` with
`binance_spot` and `binance_usdm`, `bybit`. One server for all of them, told apart by the Host header: `exchange`.
The unmodified ccxt classes, sent to that server: `redirect`.

    async with running_exchange() as venue:              # start=... for a clock that stands still
        keys = venue.open_account({"USDT": "100000"})    # fees_in=, can_withdraw=, can_trade=, hedged= ...
        venue.url                                        # hosts and paths unchanged, scheme and address this
        venue.move("BTC/USDT", 21000)                    # walks, triggers and fills; gap=True jumps
        venue.pin_mark("BTC/USDT:USDT", 20000)           # the mark price stays behind
        venue.thin("BTC/USDT", "0.3")                    # orders fill in parts
        venue.faults.add(faults.ANSWER_LOST, faults.of_order(name))
        venue.faults.policy = faults.by_chance(seed, 0.2, [faults.ANSWER_LOST, faults.late(2)], faults.places)
        await venue.advance(30)                          # late requests arrive, orders and windows expire
        venue.accepted(name)                             # more than one is a duplicate
        venue.spot.floor.accounts[keys.api_key]          # balances, positions, orders, fills
        venue.spot.weight.budget = 100                   # rate limits are off until they are set
        venue.audit()                                    # also that no simulator broke down

The bridges of MetaTrader 4 and 5, and the brokers behind them, are in `metatrader`, which says how they are used.

Not simulated: liquidation and funding, the depth of a book, web sockets, batched and amended orders, trailing
stops, inverse contracts and options, candles.
"""
