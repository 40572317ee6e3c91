"""The venue: opens accounts at any exchange of ccxt. Session, market tables and limits are shared by all of them."""

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import ccxt.async_support as library
from yarl import URL

from app.brokers.crypto.broker import CryptoBroker, Terms, digest_of
from app.brokers.crypto.credentials import for_class
from app.brokers.crypto.exchange import Surroundings, exchange_of
from app.brokers.crypto.markets import amount
from app.brokers.crypto.profiles import profile_of
from app.brokers.crypto.public import PublicMarket
from app.brokers.crypto.settings import Wanted
from app.brokers.crypto.tariffs import Toll, tariff_of
from app.brokers.crypto.tiers import UNSERVED
from app.brokers.crypto.transport import Transport
from app.brokers.crypto.ways import VALIDITY, Profile
from app.brokers.directory import Access
from app.brokers.limits.gate import Gate
from app.brokers.limits.ledger import Ledger
from app.brokers.metering import waits
from app.brokers.port import TERMS_NOT_SERVED, Funding, Refused, Traits
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.metrics import Metrics
from app.vault import CannotOpen, Vault

SLIPPAGE: Final = Decimal("0.002")
"""What market orders keep back for the price moving before they are filled, as a fraction."""

ASSUMED_FEE: Final = Decimal("0.001")
"""Taker fee where the class knows none."""


class CryptoVenue:
    """All crypto accounts of one process."""

    def __init__(
        self,
        vault: Vault,
        endpoints: Mapping[str, str],
        now: Callable[[], datetime],
        ledger: Ledger,
        egress: str,
        metrics: Metrics | None = None,
    ) -> None:
        self._vault = vault
        self._endpoints = endpoints
        self._now = now
        self._ledger = ledger
        self._egress = egress
        self._metrics = metrics
        self._transport = Transport()
        self._surroundings: dict[tuple[str, bool], Surroundings] = {}
        self._gates: dict[str, Gate] = {}
        self._markets: dict[tuple[object, ...], PublicMarket] = {}

    async def open(self, access: Access) -> CryptoBroker:
        """The broker of a connection; its credentials are unsealed here and nowhere else. Raises Refused."""
        _check_served(access.exchange, access.market_type)
        why = UNSERVED.get((access.exchange, access.market_type))
        if why is not None:
            raise Refused(why, code=TERMS_NOT_SERVED)
        credentials = self._unsealed(access)
        profile = profile_of(access.exchange, access.market_type)
        account = digest_of(credentials)
        surroundings = self._around(access.exchange, sandbox=access.sandbox)
        toll = self._toll(access.exchange, access.market_type, account, sandbox=access.sandbox)
        exchange = exchange_of(
            access.exchange, profile, surroundings, toll, credentials, sandbox=access.sandbox
        )
        style = profile.style if access.native_protection else NativeStyle.NONE
        traits = Traits(
            netting=access.market_type is MarketType.SWAP,
            native_protection=style is not NativeStyle.NONE,
            native_style=style,
            fee_rate=profile.taker_fee or _stated_fee(exchange, access.market_type),
            slippage=SLIPPAGE,
            validity=VALIDITY,
            settle=profile.settle,
            trigger_sources=tuple(profile.triggers),
            read_lag=profile.read_lag,
            expires_orders=False,
            funding=_funding(profile, access.market_type),
        )
        wanted = Wanted(access.leverage, access.margin_mode)
        terms = Terms(access.exchange, access.market_type, wanted, account)
        market = self.market(access.exchange, access.market_type, sandbox=access.sandbox)
        return CryptoBroker(terms, profile, traits, exchange, market, surroundings)

    def _unsealed(self, access: Access) -> dict[str, str]:
        """The credentials as the class takes them. Raises Refused."""
        if access.credentials_sealed is None:
            raise Refused("The connection has no credentials.", code=TERMS_NOT_SERVED)
        try:
            plain = self._vault.unseal(
                access.credentials_sealed,
                row_id=access.connection_id,
                version=access.credentials_version,
            )
        except CannotOpen:
            raise Refused(
                "No key of this installation opens the credentials; enter them again.", code=TERMS_NOT_SERVED
            ) from None
        return for_class(plain)

    def market(self, exchange: str, market_type: MarketType, *, sandbox: bool = False) -> PublicMarket:
        """The public side of an exchange, shared by all who look there."""
        profile = profile_of(exchange, market_type)
        # A class that loads everything at once has one table for all market types.
        part = market_type.value if profile.alone else "all"
        key = (exchange, sandbox, part)
        if key not in self._markets:
            surroundings = self._around(exchange, sandbox=sandbox)
            toll = self._toll(exchange, market_type, None, sandbox=sandbox)
            keyless = exchange_of(exchange, profile, surroundings, toll, sandbox=sandbox)
            name = ":".join(("crypto", exchange, "sandbox" if sandbox else "live", part))
            self._markets[key] = PublicMarket(name, keyless, surroundings, profile.quoted_by)
        return self._markets[key]

    def public(self, exchange: str, market_type: MarketType) -> PublicMarket:
        """The same for who has no account there. Raises Refused."""
        _check_served(exchange, market_type)
        return self.market(exchange, market_type)

    async def close(self) -> None:
        """Let go of every market table and close the session."""
        for market in self._markets.values():
            await market.close()
        self._markets.clear()
        for gate in self._gates.values():
            await gate.close()
        self._gates.clear()
        await self._transport.close()

    def _around(self, exchange: str, *, sandbox: bool) -> Surroundings:
        key = (exchange, sandbox)
        if key not in self._surroundings:
            line = self._transport.to(self._endpoints.get(exchange))
            self._surroundings[key] = Surroundings(self._transport, line, self._now)
        return self._surroundings[key]

    def _toll(self, exchange: str, market_type: MarketType, account: str | None, *, sandbox: bool) -> Toll:
        """What an account, or whoever asks without a key, pays at an exchange: the address with all others."""
        tariff = tariff_of(exchange, market_type.value, _pace(exchange))
        api = f"{tariff.name}:{'sandbox' if sandbox else 'live'}"
        # Requests that are sent somewhere else leave for the venue from there.
        endpoint = self._endpoints.get(exchange)
        egress = self._egress if endpoint is None else URL(endpoint).host_port_subcomponent
        address = f"{api}:from:{egress}"
        if address not in self._gates:
            waited = None if self._metrics is None else waits(tariff.name, self._metrics)
            self._gates[address] = Gate(self._ledger, address, waited)
        return Toll(self._gates[address], tariff, None if account is None else f"{api}:of:{account}")


@lru_cache
def _pace(exchange: str) -> float:
    """Seconds between two units of cost, as the class keeps them."""
    return float(getattr(library, exchange)().rateLimit) / 1000


def _check_served(exchange: str, market_type: MarketType) -> None:
    if exchange not in library.exchanges:
        raise Refused(f"There is no exchange {exchange!r}.", code=TERMS_NOT_SERVED)
    if market_type not in (MarketType.SPOT, MarketType.SWAP):
        raise Refused(f"Exchanges trade spot and swap, not {market_type}.", code=TERMS_NOT_SERVED)


def _funding(profile: Profile, market_type: MarketType) -> Funding:
    if market_type is not MarketType.SWAP:
        return Funding.NONE
    return Funding.UNTOLD if profile.funding is None else Funding.TOLD


def _stated_fee(exchange: Any, market_type: MarketType) -> Decimal:
    """The taker fee the class states for a market type or for all, before any discount of the account."""
    stated = exchange.fees or {}
    for part in (stated.get(market_type.value), stated.get("trading")):
        if (taker := amount((part or {}).get("taker"))) > ZERO:
            return taker
    return ASSUMED_FEE
