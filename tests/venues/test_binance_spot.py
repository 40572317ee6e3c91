"""Binance spot, seen through the unmodified ccxt class."""

from decimal import Decimal
from typing import Any

import ccxt.async_support as ccxt
import pytest

from tests.venues.accounts import FeesIn
from tests.venues.exchange import Exchange, Keys
from tests.venues.faults import partial
from tests.venues.redirect import connected
from tests.venues.tools import code_of, new_id

PAIR = "BTC/USDT"


async def find(client: Any, client_id: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.fetch_order("", PAIR, {"origClientOrderId": client_id})
    return found


class TestMarkets:
    async def test_the_filters_are_what_ccxt_reads(self, spot: Any) -> None:
        market = spot.market(PAIR)
        assert (market["precision"]["amount"], market["precision"]["price"]) == (0.00001, 0.01)
        assert market["limits"]["cost"]["min"] == 5
        assert market["limits"]["market"]["max"] == 100

    async def test_tickers_follow_the_price(self, venue: Exchange, spot: Any) -> None:
        venue.move(PAIR, 20500)
        ticker = (await spot.fetch_bids_asks([PAIR]))[PAIR]
        assert (ticker["bid"], ticker["ask"]) == (20500, 20500.01)
        assert (await spot.fetch_ticker(PAIR))["last"] == 20500
        assert set(await spot.fetch_tickers()) == {"BTC/USDT", "ETH/USDT", "BNB/USDT"}
        assert abs(await spot.fetch_time() - venue.clock.milliseconds()) < 1000

    async def test_the_key_says_what_it_may_do(self, venue: Exchange) -> None:
        for allowed in (True, False):
            keys = venue.open_account({"USDT": "1"}, can_withdraw=allowed)
            async with connected(venue, "binance", keys) as client:
                assert (await client.sapi_get_account_apirestrictions())["enableWithdrawals"] is allowed


class TestOrders:
    async def test_a_market_buy_pays_its_fee_in_base(self, spot: Any) -> None:
        name = new_id()
        order = await spot.create_order(PAIR, "market", "buy", 0.5, None, {"newClientOrderId": name})
        assert (order["status"], order["filled"], order["average"]) == ("closed", 0.5, 20000.01)
        assert order["fee"] == {"cost": 0.0005, "currency": "BTC"}
        assert (await spot.fetch_balance())["BTC"]["free"] == 0.4995
        (trade,) = await spot.fetch_my_trades(PAIR, params={"orderId": order["id"]})
        assert (trade["amount"], trade["fee"]["currency"], trade["side"]) == (0.5, "BTC", "buy")

    @pytest.mark.parametrize(("mode", "currency"), [(FeesIn.QUOTE, "USDT"), (FeesIn.BNB, "BNB")])
    async def test_fees_are_paid_as_the_account_is_told(
        self, venue: Exchange, spot: Any, mode: FeesIn, currency: str
    ) -> None:
        for account in venue.spot.floor.accounts.values():
            account.fees_in = mode
        order = await spot.create_order(PAIR, "market", "buy", 0.1)
        assert order["fee"]["currency"] == currency

    async def test_by_cost(self, spot: Any) -> None:
        order = await spot.create_market_buy_order_with_cost(PAIR, 1000)
        assert order["filled"] == 0.04999

    async def test_a_limit_order_locks_what_it_costs_until_it_is_taken_back(self, spot: Any) -> None:
        name = new_id()
        await spot.create_order(PAIR, "limit", "buy", 0.5, 19000, {"newClientOrderId": name})
        assert (await spot.fetch_balance())["USDT"]["used"] == 9500
        assert [order["clientOrderId"] for order in await spot.fetch_open_orders(PAIR)] == [name]
        await spot.cancel_order("", PAIR, {"origClientOrderId": name})
        assert (await find(spot, name))["status"] == "canceled"
        assert (await spot.fetch_balance())["USDT"]["used"] == 0

    async def test_a_limit_order_fills_at_its_price_when_the_price_walks_over_it(
        self, venue: Exchange, spot: Any
    ) -> None:
        name = new_id()
        await spot.create_order(PAIR, "limit", "buy", 0.5, 19000, {"newClientOrderId": name})
        venue.move(PAIR, 18000)
        found = await find(spot, name)
        assert (found["status"], found["average"]) == ("closed", 19000)

    async def test_orders_fill_in_parts_where_there_is_little(self, venue: Exchange, spot: Any) -> None:
        venue.faults.add(partial(Decimal("0.4")))
        order = await spot.create_order(PAIR, "market", "buy", 0.5)
        assert (order["status"], order["filled"]) == ("expired", 0.2)
        venue.thin(PAIR, "0.4")
        order = await spot.create_order(PAIR, "limit", "buy", 0.5, 20001)
        assert (order["status"], order["filled"]) == ("open", 0.2)
        venue.move(PAIR, 19999)
        assert (await spot.fetch_order(order["id"], PAIR))["filled"] == 0.4

    async def test_a_stop_fires_at_the_market(self, venue: Exchange, spot: Any) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        stop = await spot.create_order(PAIR, "market", "sell", 0.4, None, {"stopLossPrice": 19000})
        assert stop["status"] == "open"
        venue.move(PAIR, 18000)
        found = await spot.fetch_order(stop["id"], PAIR)
        assert (found["status"], found["average"]) == ("closed", 19000)

    async def test_a_stop_gaps(self, venue: Exchange, spot: Any) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        stop = await spot.create_order(PAIR, "market", "sell", 0.4, None, {"stopLossPrice": 19000})
        venue.move(PAIR, 18000, gap=True)
        assert (await spot.fetch_order(stop["id"], PAIR))["average"] == 18000


class TestOco:
    @staticmethod
    async def place(client: Any, quantity: str = "0.4", **more: str) -> Any:
        return await client.private_post_orderlist_oco(
            {
                "symbol": "BTCUSDT",
                "side": "SELL",
                "quantity": quantity,
                "aboveType": "LIMIT_MAKER",
                "abovePrice": "21000",
                "belowType": "STOP_LOSS",
                "belowStopPrice": "19000",
                **more,
            }
        )

    @pytest.mark.parametrize(("price", "wins"), [(22000, "LIMIT_MAKER"), (18000, "STOP_LOSS")])
    async def test_one_leg_fires_and_the_other_expires(
        self, venue: Exchange, spot: Any, price: int, wins: str
    ) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        placed = await self.place(spot, listClientOrderId=new_id())
        assert placed["listOrderStatus"] == "EXECUTING"
        assert (await spot.fetch_balance())["BTC"]["used"] == 0.4
        venue.move(PAIR, price)
        orders = {order["info"]["type"]: order for order in await spot.fetch_orders(PAIR)}
        loser = ({"LIMIT_MAKER", "STOP_LOSS"} - {wins}).pop()
        assert (orders[wins]["status"], orders[loser]["status"]) == ("closed", "expired")
        found = await spot.private_get_orderlist({"origClientOrderId": placed["listClientOrderId"]})
        assert found["listOrderStatus"] == "ALL_DONE"

    async def test_it_is_taken_back_as_a_whole(self, spot: Any) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        name = new_id()
        await self.place(spot, listClientOrderId=name)
        await spot.private_delete_orderlist({"symbol": "BTCUSDT", "listClientOrderId": name})
        assert await spot.fetch_open_orders(PAIR) == []
        with pytest.raises(ccxt.OrderNotFound) as error:
            await spot.private_delete_orderlist({"symbol": "BTCUSDT", "listClientOrderId": name})
        assert code_of(error) == -2011

    async def test_a_second_protection_finds_the_coins_locked(self, spot: Any) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        await self.place(spot)
        with pytest.raises(ccxt.InsufficientFunds):
            await spot.create_order(PAIR, "market", "sell", 0.4)

    async def test_prices_in_the_wrong_order_are_refused(self, venue: Exchange, spot: Any) -> None:
        await spot.create_order(PAIR, "market", "buy", 0.5)
        venue.move(PAIR, 18500)
        with pytest.raises(ccxt.BaseError) as error:
            await self.place(spot)
        assert code_of(error) == -2010


class TestRefusals:
    async def test_unknown_orders(self, spot: Any) -> None:
        with pytest.raises(ccxt.OrderNotFound) as error:
            await find(spot, new_id())
        assert code_of(error) == -2013
        with pytest.raises(ccxt.OrderNotFound) as error:
            await spot.cancel_order("", PAIR, {"origClientOrderId": new_id()})
        assert code_of(error) == -2011

    async def test_an_id_is_unique_among_open_orders_only(self, venue: Exchange, spot: Any) -> None:
        name = new_id()
        await spot.create_order(PAIR, "limit", "buy", 0.1, 19000, {"newClientOrderId": name})
        with pytest.raises(ccxt.InvalidOrder) as error:
            await spot.create_order(PAIR, "market", "buy", 0.1, None, {"newClientOrderId": name})
        assert code_of(error) == -2010
        venue.move(PAIR, 18000)
        await spot.create_order(PAIR, "market", "buy", 0.1, None, {"newClientOrderId": name})
        assert len(venue.accepted(name)) == 2

    async def test_funds_and_filters(self, spot: Any) -> None:
        with pytest.raises(ccxt.InsufficientFunds):
            await spot.create_order(PAIR, "market", "buy", 30)
        with pytest.raises(ccxt.InvalidOrder, match="LOT_SIZE"):
            await spot.private_post_order(
                {"symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.000001"}
            )
        with pytest.raises(ccxt.BadRequest, match="NOTIONAL"):
            await spot.create_order(PAIR, "market", "buy", 0.0001)
        with pytest.raises(ccxt.BaseError) as error:
            await spot.create_order(PAIR, "market", "sell", 0.1, None, {"reduceOnly": True})
        assert code_of(error) == -1104

    async def test_a_wrong_secret(self, venue: Exchange, keys: Keys) -> None:
        forged = Keys(keys.api_key, "0" * 64)
        with pytest.raises(ccxt.AuthenticationError) as error:
            async with connected(venue, "binance", forged):
                pass
        assert code_of(error) == -1022

    async def test_an_unknown_key(self, venue: Exchange) -> None:
        with pytest.raises(ccxt.AuthenticationError) as error:
            async with connected(venue, "binance", Keys("0" * 64, "0" * 64)):
                pass
        assert code_of(error) == -2015

    async def test_a_request_that_is_stale_or_early(self, venue: Exchange, spot: Any) -> None:
        now = venue.clock.milliseconds
        for ahead in (-11_000, 2_000):
            spot.milliseconds = lambda ahead=ahead: now() + ahead
            with pytest.raises(ccxt.InvalidNonce) as error:
                await spot.create_order(PAIR, "market", "buy", 0.1)
            assert code_of(error) == -1021
        assert venue.spot.floor.orders == []


class TestLimits:
    async def test_weight_then_429_then_418(self, venue: Exchange, spot: Any) -> None:
        await spot.fetch_time()
        used = int(spot.last_response_headers["X-MBX-USED-WEIGHT-1M"])
        assert used > 0
        venue.spot.weight.budget = used
        venue.spot.bans.patience = 2
        for status in ("429", "429", "418", "418"):
            with pytest.raises(ccxt.DDoSProtection, match=status):
                await spot.fetch_time()
            assert int(spot.last_response_headers["Retry-After"]) > 0
        venue.spot.weight.budget = 10_000
        with pytest.raises(ccxt.DDoSProtection, match="418"):
            await spot.fetch_time()
        await venue.advance(121)
        await spot.fetch_time()

    async def test_too_many_orders(self, venue: Exchange, spot: Any) -> None:
        venue.spot.order_count.budget = 1
        await spot.create_order(PAIR, "market", "buy", 0.1)
        with pytest.raises(ccxt.DDoSProtection, match="-1015"):
            await spot.create_order(PAIR, "market", "buy", 0.1)
        assert len(venue.spot.floor.orders) == 1
