"""Bybit, seen through the unmodified ccxt class."""

from typing import Any

import ccxt.async_support as ccxt
import pytest

from tests.venues.exchange import Exchange, Keys
from tests.venues.orders import Force
from tests.venues.redirect import connected
from tests.venues.tools import code_of, new_id

SWAP = "BTC/USDT:USDT"
PAIR = "BTC/USDT"


async def find(client: Any, name: str, symbol: str = SWAP) -> dict[str, Any]:
    """An order by its client id, open or closed of late."""
    (found,) = await client.fetch_open_orders(symbol, params={"orderLinkId": name})
    assert isinstance(found, dict)
    return found


async def held(client: Any) -> list[tuple[str, float]]:
    return [(each["side"], each["contracts"]) for each in await client.fetch_positions()]


class TestLinear:
    async def test_what_became_of_an_order_must_be_asked(self, venue: Exchange, bybit: Any) -> None:
        name = new_id()
        placed = await bybit.create_order(SWAP, "market", "buy", 0.5, None, {"orderLinkId": name})
        assert (placed["status"], placed["clientOrderId"]) == (None, name)
        found = await find(bybit, name)
        assert (found["status"], found["filled"], found["average"]) == ("closed", 0.5, 20000.01)
        assert found["fee"] == {"cost": 5.50000275, "currency": "USDT"}
        assert (await bybit.fetch_closed_order(placed["id"], SWAP))["filled"] == 0.5
        venue.move(SWAP, 21000)
        (position,) = await bybit.fetch_positions()
        assert (position["side"], position["contracts"], position["unrealizedPnl"]) == ("long", 0.5, 499.995)
        await bybit.create_order(SWAP, "market", "sell", 0.8, None, {"reduceOnly": True})
        assert await held(bybit) == []
        assert {trade["amount"] for trade in await bybit.fetch_my_trades(SWAP)} == {0.5}

    async def test_a_limit_order_rests_and_is_taken_back(self, bybit: Any) -> None:
        name = new_id()
        await bybit.create_order(SWAP, "limit", "buy", 0.5, 19000, {"orderLinkId": name})
        assert (await find(bybit, name))["status"] == "open"
        assert (await bybit.fetch_balance())["USDT"]["used"] == 475
        await bybit.cancel_order(None, SWAP, {"orderLinkId": name})
        assert (await find(bybit, name))["status"] == "canceled"
        with pytest.raises(ccxt.OrderNotFound) as error:
            await bybit.cancel_order(None, SWAP, {"orderLinkId": name})
        assert code_of(error) == 110001

    @pytest.mark.parametrize(("price", "fires"), [(18500, "stop"), (21500, "target")])
    async def test_conditional_orders_fire_and_leave_an_orphan(
        self, venue: Exchange, bybit: Any, price: int, fires: str
    ) -> None:
        await bybit.create_order(SWAP, "market", "buy", 0.5)
        names = {"stop": new_id(), "target": new_id()}
        for name, key, level in (("stop", "stopLossPrice", 19000), ("target", "takeProfitPrice", 21000)):
            wanted = {key: level, "orderLinkId": names[name]}
            await bybit.create_order(SWAP, "market", "sell", 0.5, None, wanted)
        venue.move(SWAP, price)
        found = {name: await find(bybit, each) for name, each in names.items()}
        other = ({"stop", "target"} - {fires}).pop()
        assert (found[fires]["status"], found[fires]["filled"]) == ("closed", 0.5)
        assert found[other]["info"]["orderStatus"] == "Untriggered"
        assert await held(bybit) == []

    @pytest.mark.parametrize(("price", "fires"), [(18500, "StopLoss"), (21500, "TakeProfit")])
    @pytest.mark.parametrize("mode", ["Full", "Partial"])
    async def test_attached_orders_come_with_the_fill_and_go_with_the_position(
        self, venue: Exchange, bybit: Any, mode: str, price: int, fires: str
    ) -> None:
        terms = {
            "stopLoss": {"triggerPrice": 19000},
            "takeProfit": {"triggerPrice": 21000},
            "tpslMode": mode,
        }
        await bybit.create_order(SWAP, "limit", "buy", 0.5, 19900, terms)
        assert len(await bybit.fetch_open_orders(SWAP)) == 1
        venue.move(SWAP, 19800)
        attached = await bybit.fetch_open_orders(SWAP, params={"trigger": True})
        prefix = "Partial" if mode == "Partial" else ""
        kinds = {order["info"]["stopOrderType"] for order in attached}
        assert kinds == {f"{prefix}StopLoss", f"{prefix}TakeProfit"}
        venue.move(SWAP, price)
        assert await held(bybit) == []
        assert await bybit.fetch_open_orders(SWAP, params={"trigger": True}) == []
        closed = await bybit.fetch_closed_orders(SWAP, params={"trigger": True})
        filled = {order["info"]["stopOrderType"] for order in closed if order["filled"]}
        assert filled == {f"{prefix}{fires}"}

    async def test_the_stop_of_a_position_is_set_changed_and_taken_away(self, bybit: Any) -> None:
        await bybit.create_order(SWAP, "market", "buy", 0.5)

        async def set_stop(price: str) -> None:
            await bybit.private_post_v5_position_trading_stop(
                {
                    "category": "linear",
                    "symbol": "BTCUSDT",
                    "stopLoss": price,
                    "tpslMode": "Full",
                    "positionIdx": 0,
                }
            )

        for price in ("19000", "19500"):
            await set_stop(price)
            (position,) = await bybit.fetch_positions()
            assert position["stopLossPrice"] == float(price)
        with pytest.raises(ccxt.BaseError) as error:
            await set_stop("19500")
        assert code_of(error) == 34040
        await set_stop("0")
        assert await bybit.fetch_open_orders(SWAP, params={"trigger": True}) == []

    async def test_settings_that_change_nothing_are_said_so(self, bybit: Any) -> None:
        await bybit.set_leverage(5, SWAP)
        with pytest.raises(ccxt.BadRequest) as error:
            await bybit.set_leverage(5, SWAP)
        assert code_of(error) == 110043
        assert (await bybit.fetch_leverage(SWAP))["longLeverage"] == 5
        with pytest.raises(ccxt.NoChange) as error:
            await bybit.set_position_mode(False, SWAP)
        assert code_of(error) == 110025

    async def test_refusals(self, bybit: Any) -> None:
        for code, side, amount, params in (
            (110007, "buy", 99.9, {}),
            (110017, "sell", 0.5, {"reduceOnly": True}),
            (110094, "buy", 0.0001, {}),
            (110093, "sell", 0.5, {"triggerPrice": 21000, "triggerDirection": "descending"}),
            (110092, "buy", 0.5, {"triggerPrice": 19000, "triggerDirection": "ascending"}),
        ):
            with pytest.raises(ccxt.BaseError) as error:
                await bybit.create_order(SWAP, "market", side, amount, None, params)
            assert code_of(error) == code


class TestSpot:
    async def test_a_buy_pays_its_fee_in_base(self, bybit: Any) -> None:
        name = new_id()
        await bybit.create_order(PAIR, "market", "buy", 0.5, None, {"orderLinkId": name})
        found = await find(bybit, name, PAIR)
        assert (found["status"], found["filled"], found["amount"]) == ("closed", 0.5, 0.5)
        assert found["fee"] == {"cost": 0.0005, "currency": "BTC"}
        assert (await bybit.fetch_balance())["BTC"]["free"] == 0.4995

    async def test_by_cost(self, bybit: Any) -> None:
        placed = await bybit.create_market_buy_order_with_cost(PAIR, 1000)
        assert (await bybit.fetch_closed_order(placed["id"], PAIR))["filled"] == 0.04999

    async def test_a_stop_locks_the_coins_and_fires(self, venue: Exchange, bybit: Any) -> None:
        await bybit.create_order(PAIR, "market", "buy", 0.5)
        stop = await bybit.create_order(PAIR, "market", "sell", 0.4, None, {"stopLossPrice": 19000})
        with pytest.raises(ccxt.InsufficientFunds) as error:
            await bybit.create_order(PAIR, "market", "sell", 0.4, None, {"takeProfitPrice": 21000})
        assert code_of(error) == 170131
        venue.move(PAIR, 18500)
        found = await bybit.fetch_closed_order(stop["id"], PAIR)
        assert (found["filled"], found["average"]) == (0.4, 19000)

    async def test_a_stop_is_taken_back_through_its_own_filter(self, bybit: Any) -> None:
        await bybit.create_order(PAIR, "market", "buy", 0.5)
        name = new_id()
        terms = {"stopLossPrice": 19000, "orderLinkId": name}
        await bybit.create_order(PAIR, "market", "sell", 0.4, None, terms)
        with pytest.raises(ccxt.OrderNotFound) as error:
            await bybit.cancel_order(None, PAIR, {"orderLinkId": name})
        assert code_of(error) == 170213
        await bybit.cancel_order(None, PAIR, {"orderLinkId": name, "orderFilter": "tpslOrder"})
        assert await bybit.fetch_open_orders(PAIR) == []


class TestTheDoor:
    async def test_a_client_id_is_good_once(self, venue: Exchange, bybit: Any) -> None:
        for symbol, code in ((SWAP, 110072), (PAIR, 170141)):
            name = new_id()
            await bybit.create_order(symbol, "market", "buy", 0.1, None, {"orderLinkId": name})
            await venue.advance(10 * 86_400)
            with pytest.raises(ccxt.InvalidOrder) as error:
                await bybit.create_order(symbol, "market", "buy", 0.1, None, {"orderLinkId": name})
            assert code_of(error) == code
            assert len(venue.accepted(name)) == 1

    async def test_wrong_keys(self, venue: Exchange, keys: Keys) -> None:
        for forged, code in ((Keys(keys.api_key, "0" * 64), 10004), (Keys("0" * 64, "0" * 64), 10003)):
            with pytest.raises(ccxt.AuthenticationError) as error:
                async with connected(venue, "bybit", forged) as client:
                    await client.fetch_balance()
            assert code_of(error) == code

    async def test_a_request_that_is_stale_or_early(self, venue: Exchange, bybit: Any) -> None:
        now = venue.clock.milliseconds
        await bybit.fetch_balance()
        for ahead in (-6_000, 2_000):
            bybit.milliseconds = lambda ahead=ahead: now() + ahead
            with pytest.raises(ccxt.InvalidNonce) as error:
                await bybit.create_order(SWAP, "market", "buy", 0.1)
            assert code_of(error) == 10002
        assert venue.bybit.floor.orders == []

    async def test_too_many_visits(self, venue: Exchange, bybit: Any) -> None:
        await bybit.fetch_balance()
        venue.bybit.per_endpoint.budget = 0
        with pytest.raises(ccxt.RateLimitExceeded) as error:
            await bybit.fetch_balance()
        assert code_of(error) == 10006
        assert "X-Bapi-Limit-Reset-Timestamp" in bybit.last_response_headers
        venue.bybit.per_address.budget = 0
        with pytest.raises(ccxt.RateLimitExceeded):
            await bybit.fetch_balance()
        assert venue.bybit.bans.until

    async def test_the_key_says_what_it_may_do(self, venue: Exchange) -> None:
        for allowed in (True, False):
            keys = venue.open_account({"USDT": "1"}, can_withdraw=allowed)
            async with connected(venue, "bybit", keys) as client:
                told = await client.private_get_v5_user_query_api()
                assert ("Withdraw" in told["result"]["permissions"]["Wallet"]) is allowed


class TestForced:
    async def test_trades_say_what_they_were(self, venue: Exchange, bybit: Any) -> None:
        for force in Force:
            await bybit.create_order(SWAP, "market", "buy", 0.5)
            venue.liquidate(SWAP, force)
        assert await held(bybit) == []
        assert len(await bybit.fetch_my_trades(SWAP)) == 2
        for kind in ("BustTrade", "AdlTrade"):
            (trade,) = await bybit.fetch_my_trades(SWAP, params={"execType": kind})
            assert (trade["side"], trade["amount"], trade["info"]["execType"]) == ("sell", 0.5, kind)
        venue.audit()

    async def test_positions_are_told_for_one_settle_coin_at_a_time(self, bybit: Any) -> None:
        await bybit.create_order(SWAP, "market", "buy", 0.5)
        assert await bybit.fetch_positions(None, {"settleCoin": "USDC"}) == []
        assert await held(bybit) == [("long", 0.5)]
