"""Certified: the profiles of the exchanges whose wire protocol a simulator of ours speaks."""

from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Final

from app.brokers.crypto.ways import (
    ClientId,
    Conditional,
    LookUp,
    PositionMode,
    Practice,
    Profile,
    Records,
    Trigger,
)
from app.domain.exits import NativeStyle
from app.domain.orders import TriggerSource

_REJECTED: Final = "rejected_by_venue"
_SMALL_VALUE: Final = "notional_below_minimum"
_SMALL: Final = "quantity_below_minimum"
_POOR: Final = "insufficient_balance"


def _codes(code: str, *numbers: int) -> dict[str, str]:
    return {str(number): code for number in numbers}


_BINANCE_REFUSALS: Final = {
    **_codes(_REJECTED, -1013, -1100, -1101, -1102, -1103, -1104, -1105, -1106, -1111, -1112, -1114, -1115),
    **_codes(_REJECTED, -1116, -1117, -1128, -1130, -2014, -2015, -1022, -1002),
    **_codes("symbol_unknown", -1121),
}
_BINANCE: Final = Profile(
    read_lag=timedelta(seconds=10),
    client_id=ClientId("newClientOrderId", "origClientOrderId"),
    look_up=LookUp.ONE,
    is_proven=True,
    settle=timedelta(seconds=20),
    window_option="recvWindow",
    options={
        "fetchCurrencies": False,
        "fetchMargins": False,
        "fetchOpenOrders": {"warnWithoutSymbol": False},
    },
    lists_all=True,
    trades_by="orderId",
    refusals=_BINANCE_REFUSALS,
    credential_codes=frozenset({"-2014", "-2015", "-1022"}),
    refusing_words=(
        "would trigger immediately",
        "would immediately match and take",
        "relationship of the prices for the orders is not correct",
        "is not permitted for this account",
        "not supported for this symbol",
        "trading is not enabled",
    ),
    not_executed=frozenset({"-1003", "-1015", "-1021"}),
    not_executed_statuses=frozenset({418, 429}),
    uncertain=frozenset({"-1000", "-1001", "-1006", "-1007", "-4116"}),
    holds_hedged=True,
)
BINANCE_SPOT: Final = replace(
    _BINANCE,
    taker_fee=Decimal("0.001"),
    alone={"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"},
    style=NativeStyle.BRACKET,
)
BINANCE_SWAP: Final = replace(
    _BINANCE,
    alone={"fetchMarkets": {"types": ["linear"]}, "defaultType": "swap", "defaultSubType": "linear"},
    taker_fee=Decimal("0.0005"),
    practice=Practice.DEMO,
    style=NativeStyle.STOP_AND_TARGETS,
    triggers={
        TriggerSource.MARK: Trigger({"workingType": "MARK_PRICE"}, "fetch_mark_prices", "markPrice"),
        TriggerSource.LAST: Trigger({"workingType": "CONTRACT_PRICE"}, "fetch_last_prices", "price"),
    },
    conditional=Conditional(room={"trigger": True}, real_order=("actualOrderId",)),
    leverage_beside_mode="leverage",
    unchanged=frozenset({"-4046", "-4059"}),
    mode_words="position side does not match",
    forced_orders="fapiPrivateGetForceOrders",
    forced_charges=("fapiPrivateGetIncome", "INSURANCE_CLEAR"),
    funding=Records(
        "fapiPrivateGetIncome",
        {"incomeType": "FUNDING_FEE"},
        id="tranId",
        amount="income",
        currency="asset",
        time="time",
        limit=1000,
    ),
    refusals={
        **_BINANCE_REFUSALS,
        **_codes(_POOR, -2018, -2019),
        **_codes(
            _REJECTED, -2020, -2021, -2022, -2023, -2024, -2025, -2026, -2027, -2028, -4001, -4002, -4003
        ),
        **_codes(
            _REJECTED, -4004, -4005, -4013, -4014, -4015, -4016, -4023, -4024, -4061, -4120, -4131, -4400
        ),
        **_codes(_SMALL_VALUE, -4164),
    },
)
_BYBIT: Final = Profile(
    read_lag=timedelta(seconds=10),
    client_id=ClientId("orderLinkId", "orderLinkId"),
    look_up=LookUp.FILTERED,
    is_proven=True,
    settle=timedelta(seconds=20),
    window_option="recvWindow",
    trades_by="orderId",
    fee_detail="cumFeeDetail",
    refusals={
        **_codes(_REJECTED, 10001, 10003, 10004, 10005, 10010, 10024, 33004, 110003, 110008, 110013, 110017),
        **_codes(_REJECTED, 110018, 110023, 110028, 110092, 110093, 110095, 110096, 110097),
        **_codes(
            _REJECTED, 170115, 170116, 170117, 170130, 170132, 170133, 170134, 170135, 170136, 170137, 170193
        ),
        **_codes(_REJECTED, 170194, 170196, 170198, 170220, 170221, 170344, 170348),
        **_codes("symbol_unknown", 170121),
        **_codes(_SMALL, 170124),
        **_codes(_POOR, 110004, 110006, 110007, 110012, 110014, 110044, 110045, 110052, 170033, 170131),
        **_codes(_SMALL_VALUE, 110094, 170140),
    },
    credential_codes=frozenset({"10003", "10004", "10005", "10010", "33004"}),
    ban_codes=frozenset({"10009"}),
    not_executed=frozenset({"10002", "170222"}),
    uncertain=frozenset(
        _codes(
            "",
            10000,
            10006,
            10014,
            10016,
            10019,
            10403,
            10429,
            110030,
            110072,
            170001,
            170005,
            170007,
            170032,
            170141,
        )
        | _codes("", 20003, 20006)
    ),
)
BYBIT_SPOT: Final = replace(
    _BYBIT,
    taker_fee=Decimal("0.001"),
    alone={"fetchMarkets": {"types": ["spot"]}, "defaultType": "spot"},
    style=NativeStyle.STOP_ONLY,
    infers_direction=True,
    conditional=Conditional(room={"orderFilter": "tpslOrder"}),
)
BYBIT_SWAP: Final = replace(
    _BYBIT,
    taker_fee=Decimal("0.00055"),
    alone={"fetchMarkets": {"types": ["linear"]}, "defaultType": "swap", "defaultSubType": "linear"},
    style=NativeStyle.STOP_AND_TARGETS,
    triggers={
        TriggerSource.MARK: Trigger({"triggerBy": "MarkPrice"}, "fetch_tickers", "markPrice"),
        TriggerSource.LAST: Trigger({"triggerBy": "LastPrice"}, "fetch_tickers", "last"),
        TriggerSource.INDEX: Trigger({"triggerBy": "IndexPrice"}, "fetch_tickers", "indexPrice"),
    },
    forced_types=("BustTrade", "AdlTrade"),
    funding=Records(
        "privateGetV5AccountTransactionLog",
        {"accountType": "UNIFIED", "category": "linear", "type": "SETTLEMENT"},
        id="id",
        amount="funding",
        currency="currency",
        time="transactionTime",
        limit=50,
        path=("result", "list"),
        cursor=("result", "nextPageCursor"),
    ),
    settle_coins=("USDT", "USDC"),
    holds_hedged=True,
    one_margin_mode=True,
    unchanged=frozenset({"110025", "110026", "110043"}),
    mode_words="position idx not match",
    position_mode=PositionMode(("positionIdx",), frozenset({"1", "2"})),
)
