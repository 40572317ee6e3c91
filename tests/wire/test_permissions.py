"""What a venue says a key may do, read from its own answer; what it does not say is not made up."""

from typing import Any, Final

import pytest

from app.brokers.crypto.exchange import Call, calling
from app.brokers.crypto.permissions import key_of
from app.brokers.port import Permissions, Refused
from app.domain.market import MarketType
from tests.wire.classes import CREDENTIALS, driven
from tests.wire.transport import Sent

_SPOT, _SWAP = MarketType.SPOT, MarketType.SWAP


def _binance(*, withdraw: bool = False, **more: bool) -> dict[str, bool]:
    off = {"enableInternalTransfer": False, "permitsUniversalTransfer": False}
    trades = {"enableSpotAndMarginTrading": True, "enableFutures": True}
    return {"enableWithdrawals": withdraw, **trades, **off, **more}


def _bybit(*wallet: str) -> dict[str, Any]:
    granted = {"Spot": ["SpotTrade"], "ContractTrade": ["Order"], "Wallet": list(wallet)}
    return {"retCode": 0, "result": {"userID": 44, "readOnly": 0, "permissions": granted}}


def _kucoin(told: str) -> dict[str, Any]:
    return {"code": "200000", "data": {"uid": 44, "permission": told}}


def _bitget(*told: str) -> dict[str, Any]:
    return {"code": "00000", "data": {"userId": "44", "authorities": list(told)}}


def _okx(told: str) -> dict[str, Any]:
    return {"code": "0", "data": [{"uid": "44", "perm": told}]}


def _bingx(told: list[int]) -> dict[str, Any]:
    return {"code": 0, "msg": "", "data": {"ipAddresses": [], "note": "", "permissions": told}}


def _mexc(told: str) -> dict[str, Any]:
    return {"accessKey": CREDENTIALS["apiKey"], "permissions": told, "status": "VALID"}


def _deribit(told: str) -> dict[str, Any]:
    """All keys of the account, of which another may do everything."""
    all_of_it = "account:read_write trade:read_write wallet:read_write"
    return {
        "jsonrpc": "2.0",
        "result": [
            {"id": 1, "client_id": "another", "max_scope": all_of_it, "enabled": True},
            {
                "id": 2,
                "client_id": CREDENTIALS["apiKey"],
                "max_scope": f"account:read {told}",
                "enabled": True,
            },
        ],
    }


def _bitfinex(withdraw: int) -> list[Any]:
    return [["account", 1, 0], ["orders", 1, 1], ["withdraw", 0, withdraw]]


SAID: Final[list[tuple[str, MarketType, str, Any, Permissions]]] = [
    ("binance", _SPOT, "apiRestrictions", _binance(), Permissions(True, False, False)),
    ("binance", _SWAP, "apiRestrictions", _binance(withdraw=True), Permissions(True, True, False)),
    *[
        ("binance", _SPOT, "apiRestrictions", _binance(**{flag: True}), Permissions(True, False, True))
        for flag in ("enableInternalTransfer", "permitsUniversalTransfer")
    ],
    ("binance", _SPOT, "apiRestrictions", {"enableWithdrawals": False}, Permissions(None, False, None)),
    ("bybit", _SPOT, "query-api", _bybit("AccountTransfer"), Permissions(True, False, False)),
    ("bybiteu", _SPOT, "query-api", _bybit("SubMemberTransfer"), Permissions(True, False, True)),
    ("bybitid", _SWAP, "query-api", _bybit("Withdraw"), Permissions(True, True, False)),
    ("kucoin", _SPOT, "user/api-key", _kucoin("General,Spot"), Permissions(True, False, False)),
    ("kucoin", _SWAP, "user/api-key", _kucoin("General,Spot"), Permissions(False, False, False)),
    (
        "kucoinfutures",
        _SWAP,
        "user/api-key",
        _kucoin("General, Futures, InnerTransfer"),
        Permissions(True, False, True),
    ),
    ("kucoin", _SPOT, "user/api-key", _kucoin("General,Spot,Transfer"), Permissions(True, True, False)),
    ("kucoin", _SPOT, "user/api-key", _kucoin(""), Permissions(None, None)),
    ("bitget", _SPOT, "spot/account/info", _bitget("stow", "coor"), Permissions(True, False, False)),
    ("bitget", _SWAP, "spot/account/info", _bitget("stor", "coow", "wtow"), Permissions(True, False, True)),
    ("bitget", _SPOT, "spot/account/info", _bitget("stow", "wwow"), Permissions(True, True, False)),
    # Keys of an older kind are described in words, which say nothing of withdrawing.
    ("bitget", _SPOT, "spot/account/info", _bitget("trade", "readonly"), Permissions(None, None)),
    ("bitget", _SPOT, "spot/account/info", {"code": "00000", "data": None}, Permissions(None, None)),
    ("bitfinex", _SPOT, "r/permissions", _bitfinex(0), Permissions(True, False)),
    ("bitfinex", _SPOT, "r/permissions", _bitfinex(1), Permissions(True, True)),
    ("bitfinex", _SPOT, "r/permissions", [], Permissions(None, None)),
    ("okx", _SWAP, "account/config", _okx("read_only,trade"), Permissions(True, False)),
    ("okx", _SPOT, "account/config", _okx("read_only,withdraw"), Permissions(False, True)),
    ("myokx", _SPOT, "account/config", _okx(""), Permissions(None, None)),
    ("okxus", _SPOT, "account/config", {"code": "0", "data": []}, Permissions(None, None)),
    ("bingx", _SPOT, "apiPermissions", _bingx([1, 2]), Permissions(True, False, False)),
    ("bingx", _SWAP, "apiPermissions", _bingx([1, 2]), Permissions(False, False, False)),
    ("bingx", _SWAP, "apiPermissions", _bingx([2, 3, 5]), Permissions(True, True, False)),
    ("bingx", _SWAP, "apiPermissions", _bingx([2, 3, 7]), Permissions(True, False, True)),
    # Told without an envelope, and in the other of the two ways that its references describe.
    ("bingx", _SWAP, "apiPermissions", {"permissions": [2, 3, 4]}, Permissions(True, False, True)),
    ("bingx", _SWAP, "apiPermissions", {"code": 0, "data": _binance()}, Permissions(True, False, False)),
    (
        "bingx",
        _SPOT,
        "apiPermissions",
        {"code": 0, "data": _binance(withdraw=True)},
        Permissions(True, True, False),
    ),
    ("bingx", _SPOT, "apiPermissions", {"code": 0, "data": {}}, Permissions(None, None)),
    (
        "mexc",
        _SPOT,
        "apiKeyInfo?accessKey=" + CREDENTIALS["apiKey"],
        _mexc("SPOT_ACCOUNT_READ,SPOT_DEAL_WRITE"),
        Permissions(True, False, False),
    ),
    ("mexc", _SWAP, "apiKeyInfo", _mexc("CONTRACT_DEAL_WRITE"), Permissions(True, False, False)),
    ("mexc", _SWAP, "apiKeyInfo", _mexc("SPOT_DEAL_WRITE"), Permissions(False, False, False)),
    (
        "mexc",
        _SPOT,
        "apiKeyInfo",
        _mexc("SPOT_DEAL_WRITE,SPOT_WITHDRAW_WRITE"),
        Permissions(True, True, False),
    ),
    (
        "mexc",
        _SPOT,
        "apiKeyInfo",
        _mexc("SPOT_DEAL_WRITE, SPOT_WITHDRAW_READ, SPOT_TRANSFER_WRITE"),
        Permissions(True, False, True),
    ),
    ("mexc", _SPOT, "apiKeyInfo", _mexc(""), Permissions(None, None)),
    (
        "deribit",
        _SWAP,
        "list_api_keys",
        _deribit("trade:read_write wallet:read"),
        Permissions(True, False, False),
    ),
    (
        "deribit",
        _SPOT,
        "list_api_keys",
        _deribit("trade:read, wallet:read_write"),
        Permissions(False, True, True),
    ),
    ("deribit", _SPOT, "list_api_keys", {"result": []}, Permissions(None, None)),
    # Nothing is asked where nobody knows what to ask.
    ("gate", _SPOT, "nothing", {}, Permissions(None, None)),
    ("phemex", _SPOT, "nothing", {}, Permissions(None, None)),
]


@pytest.mark.parametrize(("exchange", "market_type", "address", "answer", "said"), SAID)
async def test_a_key_may_do_what_its_venue_says(
    exchange: str, market_type: MarketType, address: str, answer: Any, said: Permissions
) -> None:
    async with driven(exchange, market_type, {address: answer}) as venue:
        with calling(Call()):
            assert (await key_of(venue.exchange, market_type)).permissions == said
        assert venue.taken() == []


@pytest.mark.parametrize(
    ("told", "said"),
    [
        ("readOnly,trade", Permissions(True, False)),
        ("readOnly,trade,withdraw", Permissions(True, True)),
        ("readOnly", Permissions(False, False)),
        ("", Permissions(None, None)),
    ],
)
async def test_htx_is_told_whose_key_it_is_asked_about(told: str, said: Permissions) -> None:
    def answer(sent: Sent) -> Any:
        if "/v2/user/uid?" in sent.url:
            return {"code": 200, "data": 63628520}
        row = {"accessKey": CREDENTIALS["apiKey"], "status": "normal", "permission": told}
        return {"code": 200, "data": [{"accessKey": "another", "permission": "withdraw"}, row]}

    async with driven("htx", _SPOT, {}) as venue:
        venue.line.venue = answer
        with calling(Call()):
            assert (await key_of(venue.exchange, _SPOT)).permissions == said
        [_, sent] = venue.taken()
        assert "/v2/user/api-key?" in sent.url
        assert sent.values("uid") == ["63628520"]
        assert sent.values("accessKey") == [CREDENTIALS["apiKey"]]


OWNER: Final = "0x19E7E376E7C213B7E7e7e46cc70A5dD086DAff2A"
"""The address that belongs to the private key of all these tests."""


@pytest.mark.parametrize(("address", "withdraw"), [(OWNER, True), ("0x" + "2" * 40, None)])
async def test_a_wallets_own_key_can_do_whatever_its_owner_can(address: str, withdraw: bool | None) -> None:
    async with driven("hyperliquid", _SWAP, {}) as venue:
        venue.exchange.walletAddress = address
        assert (await key_of(venue.exchange, _SWAP)).permissions == Permissions(None, withdraw)
        assert venue.taken() == []


async def test_what_is_no_private_key_is_refused() -> None:
    async with driven("hyperliquid", _SWAP, {}) as venue:
        venue.exchange.privateKey = "0xno-key"
        with pytest.raises(Refused) as refusal:
            await key_of(venue.exchange, _SWAP)
        assert refusal.value.code == "credentials_refused"
