"""Reports: a period on one page, with its curves: HTML that needs nothing else, to be shown, kept or sent on.

The page is put together as a tree of elements, whose texts are escaped where the tree is written out: a name that
holds HTML is shown as it is written. Its policy allows the one style it brings with it, and nothing else.
"""

import base64
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Final
from xml.etree.ElementTree import Element, SubElement, tostring

from fastapi import APIRouter, Query
from fastapi.responses import HTMLResponse

from app.api import charts
from app.api.bodies import ExactRoute
from app.api.breakdowns import Part, parts
from app.api.callers import Reader
from app.api.charts import amount_of
from app.api.figures import Performance, find
from app.api.problems import raises
from app.api.selections import Selection, ask
from app.api.sessions import OpenDesk, Reading
from app.domain.money import ZERO, exact
from app.domain.performance import FORMULAS, Statistics, by_day
from app.domain.portfolios import ONE_DAY, midnight
from app.store import breakdowns
from app.store.breakdowns import Quality

router = APIRouter(prefix="/analytics", tags=["analytics"], route_class=ExactRoute)

_STYLE: Final = """
:root { color-scheme: light dark; --back: #f6f7f9; --card: #fff; --ink: #16202c; --soft: #5d6b7b; --rule: #e1e5ea;
  --line: #2563c9; --fall: #b7791f; --gain: #15803d; --loss: #c53030; }
@media (prefers-color-scheme: dark) {
  :root { --back: #10151c; --card: #18202a; --ink: #e7ecf2; --soft: #98a6b5; --rule: #2b3642;
    --line: #6ea4ff; --fall: #e0a94f; --gain: #4cc77a; --loss: #f47c7c; } }
* { box-sizing: border-box; }
body { margin: 0; padding: 2rem 1.25rem 3rem; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; }
main { max-width: 1040px; margin: 0 auto; }
h1 { margin: 0; font-size: 1.7rem; line-height: 1.25; overflow-wrap: anywhere; }
h2 { margin: 2.5rem 0 .9rem; font-size: 1.25rem; }
h3 { margin: 0 0 .6rem; font-size: .95rem; font-weight: 600; color: var(--soft); }
p { margin: .3rem 0 0; color: var(--soft); }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: .75rem; margin: 0 0 1rem; }
.tile, .card { background: var(--card); border: 1px solid var(--rule); border-radius: 10px; padding: .8rem 1rem; }
.tile dt { color: var(--soft); font-size: .82rem; }
.tile dd { margin: .1rem 0 0; font-size: 1.2rem; font-weight: 600; font-variant-numeric: tabular-nums;
  overflow-wrap: anywhere; }
.tile dd + dd { margin: 0; font-size: .82rem; font-weight: 400; color: var(--soft); }
.card { margin: 0 0 1rem; overflow-x: auto; }
.up { color: var(--gain); } .down { color: var(--loss); }
table { width: 100%; min-width: 44rem; table-layout: fixed; border-collapse: collapse;
  font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .6rem; text-align: right; white-space: nowrap; border-top: 1px solid var(--rule); }
thead th { border-top: 0; font-size: .82rem; font-weight: 600; color: var(--soft); }
th:first-child { padding-left: 0; text-align: left; font-weight: 500; white-space: normal; overflow-wrap: anywhere;
  width: 28%; }
td:last-child, th:last-child { padding-right: 0; }
svg { display: block; width: 100%; height: auto; min-width: 560px; }
.grid { stroke: var(--rule); stroke-width: 1; }
.zero { stroke: var(--soft); stroke-width: 1; }
.axis { fill: var(--soft); font: 12px system-ui, sans-serif; }
.line { fill: none; stroke: var(--line); stroke-width: 2; stroke-linejoin: round; }
.area { fill: var(--line); opacity: .13; }
.end { fill: var(--line); }
.fall .line { stroke: var(--fall); } .fall .area, .fall .end { fill: var(--fall); }
rect.gain { fill: var(--gain); } rect.loss { fill: var(--loss); }
.small { font-size: .85rem; color: var(--soft); }
.small dt { font-weight: 600; color: var(--ink); margin-top: .5rem; }
.small dd { margin: 0; }
@media print { body { background: none; padding: 0; } .card, .tile { break-inside: avoid; } }
"""

_ALLOWED: Final = "; ".join(
    (
        "default-src 'none'",
        f"style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'",
        "base-uri 'none'",
        "form-action 'none'",
    )
)
"""What the page may do, which it says itself, too: a copy that was saved has no headers."""

_HEADERS: Final = {
    "Content-Security-Policy": f"{_ALLOWED}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
    "Content-Disposition": 'inline; filename="report.html"',
}

NOTHING: Final = "–"
"""What stands where a figure is not defined."""

_TITLES: Final[Mapping[Quality, str]] = {
    Quality.SYMBOL: "By symbol",
    Quality.PROVIDER: "By provider",
    Quality.EXCHANGE: "By exchange",
    Quality.CONNECTION: "By connection",
}

_EXPLAINED: Final[Mapping[str, str]] = {
    "net_pnl": "Net PnL",
    "win_rate": "Win rate",
    "profit_factor": "Profit factor",
    "expectancy": "Expectancy",
    "max_drawdown": "Max drawdown",
    "max_drawdown_percent": "Max drawdown, per cent",
    "sharpe": "Sharpe",
    "sortino": "Sortino",
    "calmar": "Calmar",
}


@dataclass(frozen=True, slots=True)
class Report:
    """What stands on the page."""

    title: str
    period: str
    made_at: datetime
    performances: Sequence[Performance]
    breakdowns: Mapping[Quality, Sequence[Part]]


@router.get(
    "/report",
    response_class=HTMLResponse,
    responses=raises("not_found")
    | {
        200: {
            "description": "A page that refers to nothing outside of it.",
            "content": {"text/html": {"schema": {"type": "string"}}},
        }
    },
)
async def get_report(
    caller: Reader, session: Reading, desk: OpenDesk, selection: Annotated[Selection, Query()]
) -> HTMLResponse:
    """How your trading performed in a period, as a page to look at, keep or print: figures, curves and breakdowns."""
    asked = await ask(session, caller, desk, selection)
    found = await find(session, asked)
    accounts = await breakdowns.accounts(session, asked.scope)
    performances = found.performances()
    first_day = min((each.period.first_day for each in performances), default=asked.first_day)
    report = Report(
        title="All connections"
        if selection.connection_id is None
        else accounts[selection.connection_id].name,
        period=f"{first_day} to {asked.last_day}" if first_day else f"up to {asked.last_day}",
        made_at=desk.now(),
        performances=performances,
        breakdowns={quality: await parts(session, found, quality, accounts) for quality in Quality},
    )
    return HTMLResponse(_written(report), headers=_HEADERS)


def _written(report: Report) -> str:
    """The page."""
    page = Element("html", {"lang": "en"})
    head = SubElement(page, "head")
    SubElement(head, "meta", {"charset": "utf-8"})
    SubElement(head, "meta", {"http-equiv": "Content-Security-Policy", "content": _ALLOWED})
    SubElement(head, "meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"})
    _add(head, "title", f"Performance report: {report.title}")
    _add(head, "style", _STYLE)
    main = SubElement(SubElement(page, "body"), "main")
    _add(main, "h1", report.title)
    _add(main, "p", f"Performance report, {report.period}, whole UTC days")
    _add(main, "p", f"Made {report.made_at:%Y-%m-%d %H:%M} UTC from closed positions")
    for performance in report.performances:
        _add_performance(main, performance, report)
    if report.performances:
        _add_meanings(main)
    else:
        _add(_add(main, "section", css="card"), "p", "Nothing was activated or traded in this period.")
    return f"<!doctype html>\n{tostring(page, encoding='unicode', method='html')}\n"


def _add(parent: Element, tag: str, words: str = "", css: str = "") -> Element:
    element = SubElement(parent, tag, {"class": css} if css else {})
    element.text = words
    return element


def _add_performance(main: Element, performance: Performance, report: Report) -> None:
    """Everything in one currency."""
    period = performance.period
    figures = period.statistics()
    section = SubElement(main, "section")
    _add(section, "h2", performance.currency)
    _add_tiles(section, performance, figures)
    if period.trades:
        _add_charts(section, performance, report.made_at)
    for quality, title in _TITLES.items():
        listed = [part for part in report.breakdowns[quality] if part.currency == performance.currency]
        if listed:
            _add_table(section, title, listed)


def _add_tiles(section: Element, performance: Performance, figures: Statistics) -> None:
    tiles = _add(section, "dl", css="tiles")

    def add(name: str, words: str, beside: str = "", css: str = "") -> None:
        tile = _add(tiles, "div", css="tile")
        _add(tile, "dt", name)
        _add(tile, "dd", words, css)
        if beside:
            _add(tile, "dd", beside)

    add("Net PnL", _amount(figures.net_pnl), f"after {_amount(figures.fees)} of fees", _sign(figures.net_pnl))
    if performance.snapshot.balance is not None:
        equity = performance.snapshot.equity
        add("Balance", _amount(performance.snapshot.balance), f"equity {_amount(equity)}")
    add("Trades", f"{figures.trades:,}", f"{figures.wins:,} won, {figures.losses:,} lost")
    add("Win rate", _percent(figures.win_rate))
    add("Profit factor", _ratio(figures.profit_factor))
    add("Expectancy", _amount(figures.expectancy), "per trade")
    fall = figures.max_drawdown_percent
    add("Max drawdown", _amount(figures.max_drawdown), "" if fall is None else _percent(fall))
    add("Sharpe", _ratio(figures.sharpe))
    add("Sortino", _ratio(figures.sortino))
    add("Calmar", _ratio(figures.calmar))


@exact
def _add_charts(section: Element, performance: Performance, made_at: datetime) -> None:
    period, currency = performance.period, performance.currency
    span = midnight(period.first_day), midnight(period.last_day + ONE_DAY)
    points = period.curve()
    # What the last trade left is what there is at the end.
    points.append(replace(points[-1], time=min(span[1], made_at)))
    balances = [(point.time, point.balance) for point in points if point.balance is not None]
    if balances:
        _add_card(section, f"Balance, {currency}").append(
            charts.curve("Balance", balances, span, kind="balance")
        )
    else:
        earned = [(point.time, point.net_pnl) for point in points]
        card = _add_card(section, f"Net PnL, {currency}")
        card.append(charts.curve("Net PnL", earned, span, kind="balance", base=ZERO))
    falls = [(point.time, -point.drawdown) for point in points]
    card = _add_card(section, f"Drawdown, {currency}")
    card.append(charts.curve("Drawdown", falls, span, kind="fall", base=ZERO))
    days = [
        (midnight(day), sum((trade.net_pnl for trade in trades), ZERO))
        for day, trades in by_day(period.trades).items()
    ]
    card = _add_card(section, f"Net PnL by day, {currency}")
    card.append(charts.bars("Net PnL by day", days, ONE_DAY, span, kind="days"))


def _add_card(section: Element, title: str) -> Element:
    card = _add(section, "div", css="card")
    _add(card, "h3", title)
    return card


def _add_table(section: Element, title: str, listed: Iterable[Part]) -> None:
    card = _add_card(section, title)
    table = SubElement(card, "table")
    heads = SubElement(SubElement(table, "thead"), "tr")
    for name in ("", "Trades", "Win rate", "Net PnL", "Profit factor", "Fees", "Max drawdown"):
        _add(heads, "th", name)
    body = SubElement(table, "tbody")
    for part in sorted(listed, key=lambda part: (-part.net_pnl, part.key)):
        row = SubElement(body, "tr")
        _add(row, "th", part.name)
        _add(row, "td", f"{part.trades:,}")
        _add(row, "td", _percent(part.win_rate))
        _add(row, "td", _amount(part.net_pnl), _sign(part.net_pnl))
        _add(row, "td", _ratio(part.profit_factor))
        _add(row, "td", _amount(part.fees))
        _add(row, "td", _amount(part.max_drawdown))


def _add_meanings(main: Element) -> None:
    section = _add(main, "section", css="small")
    _add(section, "h2", "What the figures mean")
    listed = SubElement(section, "dl")
    for name, words in _EXPLAINED.items():
        _add(listed, "dt", words)
        _add(listed, "dd", FORMULAS[name])


def _amount(value: Decimal | None) -> str:
    return NOTHING if value is None else amount_of(value)


def _ratio(value: Decimal | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}".replace("-", "−")


def _percent(value: Decimal | None) -> str:
    return NOTHING if value is None else f"{_ratio(value)} %"


def _sign(value: Decimal) -> str:
    return "up" if value > 0 else "down" if value < 0 else ""
