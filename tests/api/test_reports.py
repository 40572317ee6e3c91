"""The report: a page that stands on its own, whatever things are called."""

import re
from datetime import timedelta
from decimal import Decimal
from html.parser import HTMLParser
from typing import Final
from uuid import uuid4

import pytest

from app.api import charts
from app.desk import Desk
from app.domain.performance import FORMULAS
from tests.api.scene import Clock
from tests.api.test_analytics import Client, client
from tests.store.test_analytics import BOB, at, connection_of, save, trade_rows

__all__ = ["client"]

HOSTILE: Final = '"><script>alert(1)</script><img src=x onerror=alert(2)>&amp;'
SHORTER: Final = "<b onclick='x'>&lt;</b>"


@pytest.fixture
def clock() -> Clock:
    """The afternoon of day 10."""
    return Clock(at(10, 15))


class Page(HTMLParser):
    """What a browser would make of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """An element begins."""
        self.tags.append((tag, dict(attrs)))
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        """An element ends, the one that began last."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Text."""
        self.texts.append(data)

    def named(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of all elements of a kind."""
        return [attributes for name, attributes in self.tags if name == tag]


async def page_of(client: Client, query: dict[str, str] | None = None) -> Page:
    """The report, as far as it is one."""
    answer = await client.ask("/report", query)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    page = Page(answer.text)
    [own] = [
        each["content"] for each in page.named("meta") if each.get("http-equiv") == "Content-Security-Policy"
    ]
    assert own is not None
    assert policy == f"{own}; frame-ancestors 'none'"
    return page


def check_that_it_stands_alone(page: Page) -> None:
    """Nothing runs, and nothing is fetched."""
    allowed = {
        *("html", "head", "meta", "title", "style", "body", "main", "section", "div", "h1", "h2", "h3", "p"),
        *("dl", "dt", "dd", "table", "thead", "tbody", "tr", "th", "td"),
        *("svg", "line", "text", "polygon", "polyline", "circle", "rect"),
    }
    assert {tag for tag, _ in page.tags} <= allowed
    for _, attributes in page.tags:
        assert not {name for name in attributes if name.startswith("on")}
        assert not {"src", "href", "style", "xlink:href", "srcset", "data"} & set(attributes)
    assert not re.search(r"url\(|@import|//", "".join(page.texts))


async def test_a_page_with_its_curves(client: Client, desk: Desk) -> None:
    main, second = connection_of(starting={"USDT": "1000"}), connection_of(starting={"USDT": "500"})
    main.name, second.name, second.exchange = "Main", "Second", "binance"
    await save(
        desk.sessions,
        main,
        second,
        *(
            trade_rows(connection, net, at(2, number) + timedelta(minutes=number), fees="1", symbol=symbol)
            for number, (connection, net, symbol) in enumerate(
                [(main, "1234.5", "BTC/USDT"), (second, "-34.25", "ETH/USDT"), (main, "0", "BTC/USDT")]
            )
        ),
        trade_rows(main, "0.00001234", at(3), currency="BTC", symbol="ETH/BTC"),
    )
    page = await page_of(client)
    check_that_it_stands_alone(page)
    for words in (
        *("All connections", "Main", "Second", "BTC/USDT", "ETH/USDT", "binance", "paper", "default"),
        *("USDT", "BTC", "1,200.25", "1,234.50", "−34.25", "0.00001234", FORMULAS["sharpe"]),
    ):
        assert words in page.texts, words
    names = [each["aria-label"] for each in page.named("svg")]
    # Nobody knows what there was of BTC to begin with.
    assert names == ["Net PnL", "Drawdown", "Net PnL by day", "Balance", "Drawdown", "Net PnL by day"]
    alone = await page_of(client, {"connection_id": str(second.id)})
    assert "Second" in alone.texts
    assert not {"Main", "BTC/USDT", "All connections"} & set(alone.texts)


async def test_names_that_hold_html_are_shown_as_they_are_written(client: Client, desk: Desk) -> None:
    connection = connection_of()
    connection.name = HOSTILE
    connection.exchange = SHORTER
    await save(
        desk.sessions,
        connection,
        trade_rows(connection, "1", at(2), symbol=SHORTER, provider=SHORTER, currency="<i>\"'&"),
    )
    pages = [await page_of(client, query) for query in (None, {"connection_id": str(connection.id)})]
    for page in pages:
        check_that_it_stands_alone(page)
        # The symbol, the provider, and the exchange in each of the two currencies.
        assert page.texts.count(SHORTER) == 4
        assert {HOSTILE, "<i>\"'&"} <= set(page.texts)
    assert {HOSTILE, f"Performance report: {HOSTILE}"} <= set(pages[1].texts)


async def test_a_page_without_anything(client: Client) -> None:
    page = await page_of(client)
    check_that_it_stands_alone(page)
    assert "Nothing was activated or traded in this period." in page.texts
    assert page.named("svg") == []


async def test_a_figure_that_is_not_defined_is_a_dash(client: Client, desk: Desk) -> None:
    await save(desk.sessions, connection_of())
    page = await page_of(client)
    check_that_it_stands_alone(page)
    assert page.texts[page.texts.index("Profit factor") + 1] == "–"
    assert page.texts[page.texts.index("Sharpe") + 1] == "–"


def test_many_points_make_a_picture_of_a_bounded_size() -> None:
    points = [(at(1) + timedelta(seconds=number), Decimal(number % 97)) for number in range(100_000)]
    picture = charts.curve("Balance", points, (at(1), at(3)), kind="balance")
    [line] = [each for each in picture if each.tag == "polyline"]
    drawn = [tuple(map(float, each.split(","))) for each in line.attrib["points"].split()]
    # Four points to each column of the picture, each with its step.
    assert 1000 < len(drawn) <= 2 * 4 * (charts.WIDTH - charts.LEFT)
    # The highest and the lowest are among them.
    heights = [height for _, height in drawn]
    whole = charts.curve("Balance", points[:97], (at(1), at(3)), kind="balance")
    [part] = [each for each in whole if each.tag == "polyline"]
    exact = [float(each.split(",")[1]) for each in part.attrib["points"].split()]
    assert (min(heights), max(heights)) == (min(exact), max(exact))


@pytest.mark.parametrize(
    "values", [["5", "5"], ["0"], ["0.00000001", "0.00000002"], ["-1e15", "1e15"], ["1e20", "1e20"]]
)
def test_any_amounts_can_be_drawn(values: list[str]) -> None:
    points = [(at(1) + timedelta(hours=number), Decimal(value)) for number, value in enumerate(values)]
    for picture in (
        charts.curve("Balance", points, (at(1), at(2)), kind="balance"),
        charts.curve("Drawdown", points, (at(1), at(2)), kind="fall", base=Decimal(0)),
        charts.bars("Days", points, timedelta(hours=1), (at(1), at(2)), kind="days"),
    ):
        words = [each.text for each in picture if each.tag == "text"]
        assert len(words) == len(set(words)) >= 8
        numbers = re.findall(r"-?\d+\.\d", str([each.attrib for each in picture if each.tag != "svg"]))
        assert all(-1 <= float(number) <= charts.WIDTH for number in numbers)


@pytest.mark.parametrize("whose", ["another's", "nobody's"])
async def test_a_connection_that_is_not_theirs_has_no_page(client: Client, desk: Desk, whose: str) -> None:
    theirs = connection_of(BOB)
    await save(desk.sessions, theirs)
    asked = {"connection_id": str(theirs.id if whose == "another's" else uuid4())}
    answer = await client.ask("/report", asked)
    assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
