"""Binance USD-M, seen through the unmodified ccxt class."""

from typing import Any

import ccxt.async_support as ccxt
import pytest

from tests.venues.exchange import Exchange, Keys
from tests.venues.orders import Force
from tests.venues.redirect import connected
from tests.venues.tools import code_of, new_id

SWAP = "BTC/USDT:USDT"


async def stop_at(client: Any, price: float, name: str, **params: Any) -> dict[str, Any]:
    """A stop for a long of 0.5, by default one that only reduces."""
    wanted = {"stopLossPrice": price, "clientAlgoId": name, "reduceOnly": True, **params}
    placed: dict[str, Any] = await client.create_order(SWAP, "market", "sell", 0.5, None, wanted)
    return placed


async def find_algo(client: Any, name: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.fetch_order("", SWAP, {"clientAlgoId": name, "trigger": True})
    return found


async def held(client: Any) -> list[tuple[str, float]]:
    return [(each["side"], each["contracts"]) for each in await client.fetch_positions()]


class TestAccount:
    async def test_a_position_with_its_margin_and_profit(self, venue: Exchange, usdm: Any) -> None:
        await usdm.set_leverage(5, SWAP)
        name = new_id()
        order = await usdm.create_order(SWAP, "market", "buy", 0.5, None, {"newClientOrderId": name})
        assert (order["status"], order["average"], order["clientOrderId"]) == ("closed", 20000.01, name)
        venue.move(SWAP, 21000)
        (position,) = await usdm.fetch_positions()
        assert (position["side"], position["contracts"], position["entryPrice"]) == ("long", 0.5, 20000.01)
        assert position["unrealizedPnl"] == 499.995
        balance = await usdm.fetch_balance()
        assert balance["USDT"]["used"] == 2000.001
        assert balance["USDT"]["total"] == pytest.approx(100000 - 5.0000025 + 499.995)
        await usdm.create_order(SWAP, "market", "sell", 0.5, None, {"reduceOnly": True})
        assert await held(usdm) == []
        trades = await usdm.fetch_my_trades(SWAP)
        assert [trade["fee"]["currency"] for trade in trades] == ["USDT", "USDT"]

    async def test_settings_that_change_nothing_are_said_so(self, usdm: Any) -> None:
        await usdm.set_leverage(5, SWAP)
        await usdm.set_leverage(5, SWAP)
        assert (await usdm.fetch_leverages())[SWAP]["longLeverage"] == 5
        with pytest.raises(ccxt.MarginModeAlreadySet):
            await usdm.set_margin_mode("cross", SWAP)
        await usdm.set_margin_mode("isolated", SWAP)
        assert (await usdm.fetch_leverages())[SWAP]["marginMode"] == "isolated"
        with pytest.raises(ccxt.BaseError) as error:
            await usdm.set_position_mode(False)
        assert code_of(error) == -4059
        assert (await usdm.fetch_position_mode())["hedged"] is False

    async def test_a_hedged_account_names_the_side(self, venue: Exchange) -> None:
        keys = venue.open_account({"USDT": "100000"}, hedged=True)
        async with connected(venue, "binanceusdm", keys) as client:
            with pytest.raises(ccxt.BaseError) as error:
                await client.create_order(SWAP, "market", "buy", 0.5)
            assert code_of(error) == -4061
            await client.create_order(SWAP, "market", "buy", 0.5, None, {"positionSide": "LONG"})
            await client.create_order(SWAP, "market", "sell", 0.3, None, {"positionSide": "SHORT"})
            assert sorted(await held(client)) == [("long", 0.5), ("short", 0.3)]
            await client.create_order(SWAP, "market", "sell", 0.5, None, {"positionSide": "LONG"})
            assert await held(client) == [("short", 0.3)]


class TestAlgoOrders:
    async def test_a_stop_lives_in_a_namespace_of_its_own(self, usdm: Any) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        name = new_id()
        await stop_at(usdm, 19000, name)
        assert await usdm.fetch_open_orders(SWAP) == []
        assert [o["clientOrderId"] for o in await usdm.fetch_open_orders(SWAP, params={"trigger": True})] == [
            name
        ]
        with pytest.raises(ccxt.OrderNotFound):
            await usdm.fetch_order("", SWAP, {"origClientOrderId": name})
        with pytest.raises(ccxt.OrderNotFound):
            await usdm.cancel_order("", SWAP, {"origClientOrderId": name})
        assert (await find_algo(usdm, name))["status"] == "open"
        await usdm.cancel_order("", SWAP, {"clientAlgoId": name, "trigger": True})
        assert (await find_algo(usdm, name))["status"] == "canceled"

    async def test_once_triggered_it_reads_closed_with_nothing_filled(
        self, venue: Exchange, usdm: Any
    ) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        name = new_id()
        await stop_at(usdm, 19000, name)
        venue.move(SWAP, 18500)
        found = await find_algo(usdm, name)
        assert (found["status"], found["filled"], found["info"]["algoStatus"]) == ("closed", 0, "FINISHED")
        actual = await usdm.fetch_order(found["info"]["actualOrderId"], SWAP)
        assert (actual["status"], actual["filled"], actual["average"]) == ("closed", 0.5, 19000)
        assert await held(usdm) == []

    async def test_the_sibling_of_a_stop_stays_an_orphan(self, venue: Exchange, usdm: Any) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        stop, target = new_id(), new_id()
        await stop_at(usdm, 19000, stop)
        wanted = {"takeProfitPrice": 21000, "clientAlgoId": target, "reduceOnly": True}
        await usdm.create_order(SWAP, "market", "sell", 0.5, None, wanted)
        venue.move(SWAP, 18500)
        assert (await find_algo(usdm, target))["status"] == "open"
        venue.move(SWAP, 21500)
        assert (await find_algo(usdm, target))["info"]["algoStatus"] == "REJECTED"
        assert await held(usdm) == []

    async def test_one_for_the_whole_position_dies_with_it(self, venue: Exchange, usdm: Any) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        stop, target = new_id(), new_id()
        whole = {"closePosition": True, "reduceOnly": None}
        await usdm.create_order(
            SWAP, "market", "sell", 0, None, {"stopLossPrice": 19000, "clientAlgoId": stop, **whole}
        )
        await usdm.create_order(
            SWAP, "market", "sell", 0, None, {"takeProfitPrice": 21000, "clientAlgoId": target, **whole}
        )
        await usdm.create_order(SWAP, "market", "buy", 0.2)
        venue.move(SWAP, 21000)
        assert (await find_algo(usdm, target))["info"]["algoStatus"] == "FINISHED"
        assert (await find_algo(usdm, stop))["info"]["algoStatus"] == "EXPIRED"
        assert await held(usdm) == []

    async def test_a_stop_on_the_mark_sits_a_wick_of_the_last_price_out(
        self, venue: Exchange, usdm: Any
    ) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        name = new_id()
        await stop_at(usdm, 19000, name, workingType="MARK_PRICE")
        venue.pin_mark(SWAP, 20000)
        venue.move(SWAP, 18000)
        assert (await find_algo(usdm, name))["status"] == "open"
        assert (await usdm.fetch_mark_price(SWAP))["markPrice"] == 20000
        venue.pin_mark(SWAP, None)
        assert (await find_algo(usdm, name))["status"] == "closed"

    async def test_what_ended_without_a_fill_is_forgotten_after_three_days(
        self, venue: Exchange, usdm: Any
    ) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        fired, idle = new_id(), new_id()
        await stop_at(usdm, 19000, fired)
        await stop_at(usdm, 18000, idle)
        await usdm.cancel_order("", SWAP, {"clientAlgoId": idle, "trigger": True})
        venue.move(SWAP, 18900)
        await venue.advance(4 * 86_400)
        assert (await find_algo(usdm, fired))["status"] == "closed"
        with pytest.raises(ccxt.OrderNotFound):
            await find_algo(usdm, idle)

    async def test_refusals(self, usdm: Any) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        with pytest.raises(ccxt.OrderImmediatelyFillable) as error:
            await stop_at(usdm, 20500, new_id())
        assert code_of(error) == -2021
        with pytest.raises(ccxt.BaseError) as error:
            await usdm.fapiprivate_post_order(
                {
                    "symbol": "BTCUSDT",
                    "side": "SELL",
                    "type": "STOP_MARKET",
                    "stopPrice": "19000",
                    "quantity": "0.5",
                }
            )
        assert code_of(error) == -4120
        name = new_id()
        await stop_at(usdm, 19000, name)
        with pytest.raises(ccxt.BaseError) as error:
            await stop_at(usdm, 19000, name)
        assert code_of(error) == -4116


class TestRefusals:
    async def test_funds_reductions_and_notional(self, usdm: Any) -> None:
        await usdm.set_leverage(5, SWAP)
        with pytest.raises(ccxt.InsufficientFunds) as error:
            await usdm.create_order(SWAP, "market", "buy", 30)
        assert code_of(error) == -2019
        with pytest.raises(ccxt.InvalidOrder) as error:
            await usdm.create_order(SWAP, "market", "sell", 0.5, None, {"reduceOnly": True})
        assert code_of(error) == -2022
        with pytest.raises(ccxt.BaseError) as error:
            await usdm.create_order(SWAP, "market", "buy", 0.0001)
        assert code_of(error) == -4164

    async def test_an_id_of_late_cannot_come_again(self, venue: Exchange, usdm: Any) -> None:
        name = new_id()
        await usdm.create_order(SWAP, "market", "buy", 0.1, None, {"newClientOrderId": name})
        with pytest.raises(ccxt.BaseError) as error:
            await usdm.create_order(SWAP, "market", "buy", 0.1, None, {"newClientOrderId": name})
        assert code_of(error) == -4116
        await venue.advance(86_401)
        await usdm.create_order(SWAP, "market", "buy", 0.1, None, {"newClientOrderId": name})
        assert len(venue.accepted(name)) == 2

    async def test_what_would_turn_a_position_round_is_cut_short(self, usdm: Any) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        order = await usdm.create_order(SWAP, "market", "sell", 0.8, None, {"reduceOnly": True})
        assert order["filled"] == 0.5
        assert await held(usdm) == []

    async def test_a_wrong_secret(self, venue: Exchange, keys: Keys) -> None:
        with pytest.raises(ccxt.AuthenticationError) as error:
            async with connected(venue, "binanceusdm", Keys(keys.api_key, "0" * 64)) as client:
                await client.fetch_balance()
        assert code_of(error) == -1022

    async def test_an_order_is_good_until_its_time(self, venue: Exchange, usdm: Any) -> None:
        until = venue.clock.milliseconds() + 700_000
        terms = {"timeInForce": "GTD", "goodTillDate": until}
        order = await usdm.create_order(SWAP, "limit", "buy", 0.5, 19000, terms)
        await venue.advance(701)
        assert (await usdm.fetch_order(order["id"], SWAP))["status"] == "expired"


class TestForced:
    async def test_what_was_forced_is_listed_with_what_it_cost(self, venue: Exchange, usdm: Any) -> None:
        for force in Force:
            await usdm.create_order(SWAP, "market", "buy", 0.5)
            venue.liquidate(SWAP, force)
        assert await held(usdm) == []
        forced = await usdm.fapiPrivateGetForceOrders({"symbol": "BTCUSDT"})
        assert [row["clientOrderId"][:9] for row in forced] == ["autoclose", "adl_autoc"]
        only = {"symbol": "BTCUSDT", "autoCloseType": "ADL"}
        assert [row["orderId"] for row in await usdm.fapiPrivateGetForceOrders(only)] == [
            forced[1]["orderId"]
        ]
        trades = await usdm.fetch_my_trades(SWAP)
        assert {str(row["orderId"]) for row in forced} <= {trade["order"] for trade in trades}
        (charge,) = await usdm.fapiPrivateGetIncome({"symbol": "BTCUSDT", "incomeType": "INSURANCE_CLEAR"})
        assert (charge["income"], charge["asset"]) == ("-125.00000000", "USDT")
        venue.audit()

    async def test_a_delisted_contract_is_described_and_no_longer_open(
        self, venue: Exchange, usdm: Any
    ) -> None:
        await usdm.create_order(SWAP, "market", "buy", 0.5)
        await stop_at(usdm, 19000, new_id())
        venue.delist(SWAP)
        markets = await usdm.load_markets(True)
        assert markets[SWAP]["active"] is False
        assert await usdm.fetch_open_orders(SWAP, params={"trigger": True}) == []
        assert await held(usdm) == [("long", 0.5)]
