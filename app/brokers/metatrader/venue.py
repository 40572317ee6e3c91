"""The venue: opens MetaTrader accounts. Each bridge's sockets are shared by all its accounts."""

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from app.brokers.directory import Access
from app.brokers.metatrader.broker import MetaTraderBroker
from app.brokers.metatrader.credentials import Credentials
from app.brokers.metatrader.gateway import PATIENCE, Gateway, Patience
from app.brokers.metatrader.platforms import PLATFORMS, Platform
from app.brokers.metatrader.session import Session, token_of
from app.brokers.port import TERMS_NOT_SERVED, Refused, Traits
from app.domain.errors import Invalid
from app.domain.exits import NativeStyle
from app.domain.market import MarketType
from app.domain.money import ZERO
from app.vault import CannotOpen, Vault

VALIDITY: Final = timedelta(seconds=5)

SETTLE: Final = timedelta(seconds=90)
"""Longer than the bridge and whatever stands before it hold an order (60 s)."""


class MetaTraderVenue:
    """All MetaTrader accounts of one process."""

    def __init__(
        self,
        vault: Vault,
        endpoints: Mapping[str, str],
        now: Callable[[], datetime],
        patience: Patience = PATIENCE,
    ) -> None:
        self._patience = patience
        self._vault = vault
        self._endpoints = endpoints
        self._now = now
        self._gateways: dict[str, Gateway] = {}

    async def open(self, access: Access) -> MetaTraderBroker:
        """The broker of a connection; its credentials are unsealed here and nowhere else. Raises Refused."""
        platform = PLATFORMS.get(access.exchange)
        if platform is None:
            raise Refused(f"There is no platform {access.exchange!r}.", code=TERMS_NOT_SERVED)
        if access.market_type is not MarketType.FX or access.sandbox:
            raise Refused(f"{platform.name} trades fx, on whatever account it is.", code=TERMS_NOT_SERVED)
        credentials = self._unsealed(access)
        token = token_of(access.connection_id, access.credentials_version, credentials)
        session = Session(self._gateway(platform), platform, credentials, token, self._now)
        style = NativeStyle.ATTACHED if access.native_protection else NativeStyle.NONE
        traits = Traits(
            netting=platform.has_deals,
            native_protection=access.native_protection,
            native_style=style,
            fee_rate=ZERO,
            slippage=ZERO,
            validity=VALIDITY,
            settle=SETTLE,
        )
        return MetaTraderBroker(credentials, traits, session, self._now)

    async def close(self) -> None:
        """Close the sockets."""
        for gateway in self._gateways.values():
            await gateway.close()
        self._gateways.clear()

    def _gateway(self, platform: Platform) -> Gateway:
        if platform.id not in self._gateways:
            self._gateways[platform.id] = Gateway(
                self._endpoints.get(platform.id, platform.endpoint), self._patience
            )
        return self._gateways[platform.id]

    def _unsealed(self, access: Access) -> Credentials:
        """Raises Refused."""
        if access.credentials_sealed is None:
            raise Refused("The connection has no credentials.", code=TERMS_NOT_SERVED)
        try:
            plain = self._vault.unseal(
                access.credentials_sealed,
                row_id=access.connection_id,
                version=access.credentials_version,
            )
            return Credentials.read(plain)
        except CannotOpen:
            raise Refused(
                "No key of this installation opens the credentials; enter them again.", code=TERMS_NOT_SERVED
            ) from None
        except Invalid as wrong:
            raise Refused(wrong.message, code=TERMS_NOT_SERVED) from None
