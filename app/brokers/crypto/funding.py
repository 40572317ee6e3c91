"""Funding: what perpetuals charged and paid for being held, as the venue's own records list it."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from app.brokers.crypto.markets import amount
from app.brokers.crypto.ways import Records
from app.domain.holdings import Payment
from app.domain.money import trimmed

WINDOW: Final = timedelta(days=7)
"""How much of the past one question may be about."""


async def payments_of(exchange: Any, records: Records, since: datetime, until: datetime) -> list[Payment]:
    """Every payment from `since` to `until`, each once, oldest first. Raises ccxt's errors."""
    found: dict[tuple[str, str], Payment] = {}
    begins = since
    while True:
        ends = min(begins + WINDOW, until)
        for row in await _rows(exchange, records, begins, ends):
            payment = _payment(exchange, records, row)
            found[payment.symbol, payment.id] = payment
        if ends >= until:
            break
        begins = ends
    return sorted(found.values(), key=lambda payment: payment.time)


async def _rows(exchange: Any, records: Records, begins: datetime, ends: datetime) -> list[Mapping[str, Any]]:
    """The rows of one window, page by page."""
    window = {"startTime": _milliseconds(begins), "endTime": _milliseconds(ends), "limit": records.limit}
    rows: list[Mapping[str, Any]] = []
    page, place = 1, dict[str, Any]()
    while True:
        answer = await getattr(exchange, records.method)({**records.params, **window, **place})
        told = list(_at(answer, records.path))
        rows += told
        if records.cursor is None:
            page, place = page + 1, {"page": page + 1}
            is_last = len(told) < records.limit
        else:
            place = {"cursor": _at(answer, records.cursor)}
            is_last = not place["cursor"] or not told
        if is_last:
            return rows


def _at(answer: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        answer = answer[name]
    return answer


def _payment(exchange: Any, records: Records, row: Mapping[str, Any]) -> Payment:
    return Payment(
        id=str(row[records.id]),
        symbol=exchange.safe_symbol(str(row["symbol"]), None, None, "swap"),
        time=datetime.fromtimestamp(int(row[records.time]) / 1000, UTC),
        amount=trimmed(amount(row[records.amount])),
        currency=str(row[records.currency]),
    )


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
