"""Symbols: the one instrument that is meant, or a denial. Never another one."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from app.domain.market import Instrument, MarketType
from app.domain.symbols import Resolved, SymbolMap, Wanted, names_of, read, resolve
from tests.domain.samples import SPOT, SWAP, No, outcome

MT = MarketType


def listed(symbol: str, market_type: MarketType | None = None) -> Instrument:
    """An instrument by its unified symbol: a swap where it names a settle currency, else spot."""
    pair, _, settle = symbol.partition(":")
    base, _, quote = pair.partition("/")
    sample = SWAP if settle else SPOT
    return replace(
        sample,
        symbol=symbol,
        base=base,
        quote=quote,
        settle=settle or None,
        market_type=market_type or sample.market_type,
    )


def listing(instruments: Iterable[Instrument]) -> Mapping[str, Instrument]:
    """A venue's list."""
    return {each.symbol: each for each in instruments}


CRYPTO = listing(
    listed(symbol)
    for symbol in (
        "BTC/USDT", "BTC/USDC", "ETH/BTC", "PEPE/USDT",
        "BTC/USDT:USDT", "BTC/USDC:USDC", "BTC/USD:BTC", "ETH/USD:ETH", "ETH/USD:USD", "1000PEPE/USDT:USDT",
        "BTC/EUR:USDT",
    )
)  # fmt: skip
FX = listing(
    [
        listed("EUR/USD", MT.FX),
        replace(listed("GBP/USD", MT.FX), symbol="GBPUSD.m"),
        replace(listed("GBP/USD", MT.FX), symbol="GBPUSD.pro"),
    ]
)


def resolved(
    text: str,
    market_type: MarketType = MT.SPOT,
    symbol_map: SymbolMap | None = None,
    instruments: Mapping[str, Instrument] = CRYPTO,
) -> object:
    """The symbol that `text` means, or the denial."""
    return outcome(lambda: resolve(text, instruments, market_type, symbol_map or {}).instrument.symbol)


# Reading


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("BTC/USDT", Wanted("BTCUSDT", ("BTC", "USDT"))),
        ("btc/usdt", Wanted("BTCUSDT", ("BTC", "USDT"))),
        ("BTC/USDT:USDT", Wanted("BTCUSDT", ("BTC", "USDT"), "USDT", perpetual=True)),
        ("BTC-USDT", Wanted("BTCUSDT", ("BTC", "USDT"))),
        ("BTCUSDT", Wanted("BTCUSDT")),
        ("BTCUSDT.P", Wanted("BTCUSDT", perpetual=True)),
        ("btc/usdt.p", Wanted("BTCUSDT", ("BTC", "USDT"), perpetual=True)),
        ("EURUSD", Wanted("EURUSD")),
        ("EUR/USD", Wanted("EURUSD", ("EUR", "USD"))),
    ],
)
def test_the_forms_of_a_symbol(text: str, wanted: Wanted) -> None:
    assert read(text) == wanted


# Resolving


@pytest.mark.parametrize("text", ["BTC/USDT", "BTCUSDT", "BTC-USDT", "btcusdt", "btc-usdt", "Btc/Usdt"])
def test_every_form_means_the_instrument_of_the_connections_market(text: str) -> None:
    assert resolved(text, MT.SPOT) == "BTC/USDT"
    assert resolved(text, MT.SWAP) == "BTC/USDT:USDT"


@pytest.mark.parametrize("text", ["BTC/USDT:USDT", "BTCUSDT.P", "BTC/USDT.P", "BTC-USDT.P", "btcusdt.p"])
def test_a_perpetual_is_a_swap_and_nothing_else(text: str) -> None:
    assert resolved(text, MT.SWAP) == "BTC/USDT:USDT"
    assert resolved(text, MT.SPOT) == No(
        "market_mismatch", f"{text} is a perpetual contract and this connection trades spot."
    )
    assert resolved("EURUSD.P", MT.FX, instruments=FX) == No(
        "market_mismatch", "EURUSD.P is a perpetual contract and this connection trades fx."
    )


@pytest.mark.parametrize("text", ["EURUSD", "EUR/USD", "eur-usd"])
def test_currency_pairs(text: str) -> None:
    assert resolved(text, MT.FX, instruments=FX) == "EUR/USD"


@pytest.mark.parametrize("text", ["BTC/USD", "BTCUSD", "BTC/USD:BTC", "BTCUSD.P"])
def test_inverse_contracts_are_denied(text: str) -> None:
    assert resolved(text, MT.SWAP) == No(
        "market_mismatch",
        "BTC/USD:BTC is settled in BTC, not in USD; inverse and quanto contracts are not supported.",
    )


def test_beside_an_inverse_contract_the_linear_one_is_meant() -> None:
    assert resolved("ETHUSD", MT.SWAP) == "ETH/USD:USD"
    assert resolved("ETH/USD:USD", MT.SWAP) == "ETH/USD:USD"
    assert isinstance(resolved("ETH/USD:ETH", MT.SWAP), No)


def test_a_contract_settled_in_a_third_currency_is_denied() -> None:
    assert resolved("BTC/EUR", MT.SWAP) == No(
        "market_mismatch",
        "BTC/EUR:USDT is settled in USDT, not in EUR; inverse and quanto contracts are not supported.",
    )


@pytest.mark.parametrize(
    "text",
    ["XRP/USDT", "XRPUSDT", "USDTBTC", "USDT/BTC", "BTC", "USDT", "BTC/", "/USDT", "", "BTC/USD", "BTC USDT",
     "BTC_USDT", "BTC-USDT-SWAP", "BTC/USDT/X", "1000PEPE/USDT", "BTCUSDT.X"],
)  # fmt: skip
def test_what_is_not_listed_is_unknown(text: str) -> None:
    assert resolved(text, MT.SPOT) == No("symbol_unknown", f"{text} is not listed as spot at this venue.")


def test_dollars_and_their_coins_are_three_currencies() -> None:
    only_coins = listing([listed("BTC/USDT"), listed("BTC/USDC")])
    for text in ("BTC/USD", "BTCUSD", "BTC-USD"):
        assert resolved(text, MT.SPOT, instruments=only_coins) == No(
            "symbol_unknown", f"{text} is not listed as spot at this venue."
        )


def test_a_coin_is_never_a_thousand_of_it() -> None:
    for text in ("PEPE/USDT", "PEPEUSDT", "PEPEUSDT.P", "PEPE/USDT:USDT"):
        assert resolved(text, MT.SWAP) == No("symbol_unknown", f"{text} is not listed as swap at this venue.")


def test_what_could_be_two_is_ambiguous_and_the_candidates_are_named() -> None:
    assert resolved("GBPUSD", MT.FX, instruments=FX) == No(
        "symbol_ambiguous", "GBPUSD could be any of GBPUSD.m, GBPUSD.pro; say which in symbol_map."
    )
    # One text, two ways of cutting it.
    alike = listing([listed("ABC/DEF"), listed("ABCD/EF")])
    assert resolved("ABCDEF", instruments=alike) == No(
        "symbol_ambiguous", "ABCDEF could be any of ABC/DEF, ABCD/EF; say which in symbol_map."
    )
    assert resolved("ABCD/EF", instruments=alike) == "ABCD/EF"


# The owner's map


def test_the_map_decides_alone() -> None:
    assert resolved("BTCUSDT", MT.SPOT, {"BTCUSDT": "BTC/USDC"}) == "BTC/USDC"
    assert resolved("GOLD", MT.SPOT, {"GOLD": "ETH/BTC"}) == "ETH/BTC"
    # Also where the text alone would be refused.
    assert resolved("BTCUSDT.P", MT.SPOT, {"BTCUSDT.P": "BTC/USDT"}) == "BTC/USDT"
    assert resolved("GBPUSD", MT.FX, {"GBPUSD": "GBPUSD.m"}, FX) == "GBPUSD.m"


PEPES = "1000PEPE/USDT:USDT"


@pytest.mark.parametrize("name", ["PEPE/USDT", "PEPE/USDT:USDT", "PEPEUSDT", "PEPEUSDT.P", "pepe-usdt"])
def test_a_coin_by_the_thousand_wants_its_multiplier(name: str) -> None:
    assert resolved(name, MT.SWAP, {name: PEPES}) == No(
        "symbol_ambiguous",
        f"symbol_map sends {name} to {PEPES}, which counts it in larger units; say its multiplier there.",
    )
    assert resolved(name, MT.SWAP, {name: {"symbol": PEPES}}) == resolved(name, MT.SWAP, {name: PEPES})
    told = {name: {"symbol": PEPES, "multiplier": "1000"}}
    assert resolve(name, CRYPTO, MT.SWAP, told) == Resolved(CRYPTO[PEPES], Decimal(1000))
    one = {name: {"symbol": PEPES, "multiplier": "1"}}
    assert resolve(name, CRYPTO, MT.SWAP, one) == Resolved(CRYPTO[PEPES], Decimal(1))


def test_its_own_name_and_another_name_altogether_need_none() -> None:
    assert resolve("1000PEPE/USDT", CRYPTO, MT.SWAP, {}) == Resolved(CRYPTO[PEPES], Decimal(1))
    assert resolve("FROG", CRYPTO, MT.SWAP, {"FROG": PEPES}) == Resolved(CRYPTO[PEPES], Decimal(1))
    assert resolve("BTC/USDT", CRYPTO, MT.SPOT, {}).multiplier == 1


def test_an_instrument_is_known_by_every_name_of_the_map() -> None:
    names = {"GOLD": "BTC/USDT", "XAU": {"symbol": "BTC/USDT", "multiplier": "2"}, "PEPE": PEPES}
    assert names_of("BTC/USDT", names) == ("GOLD", "XAU")
    assert names_of("ETH/BTC", names) == ()


def test_an_entry_of_the_map_is_not_escaped_by_writing_it_otherwise() -> None:
    assert resolved("btcusdt", MT.SPOT, {"BTCUSDT": "BTC/USDC"}) == "BTC/USDC"
    assert resolved("XAUUSD", MT.SPOT, {"xauusd": "ETH/BTC"}) == "ETH/BTC"
    both = {"gold": "BTC/USDT", "Gold": "BTC/USDC"}
    assert resolved("Gold", MT.SPOT, both) == "BTC/USDC"
    assert resolved("GOLD", MT.SPOT, both) == No(
        "symbol_ambiguous", "symbol_map sends GOLD to any of BTC/USDC, BTC/USDT, depending on the case."
    )


@pytest.mark.parametrize(
    ("target", "market_type", "denial"),
    [
        (
            "XRP/USDT",
            MT.SPOT,
            No("symbol_unknown", "symbol_map sends BTCUSDT to XRP/USDT, which this venue does not list."),
        ),
        (
            "BTC/USDT:USDT",
            MT.SPOT,
            No("market_mismatch", "symbol_map sends BTCUSDT to BTC/USDT:USDT, which is not spot."),
        ),
        (
            "BTC/USDT",
            MT.SWAP,
            No("market_mismatch", "symbol_map sends BTCUSDT to BTC/USDT, which is not swap."),
        ),
        (
            "BTC/USD:BTC",
            MT.SWAP,
            No(
                "market_mismatch",
                "BTC/USD:BTC is settled in BTC, not in USD; inverse and quanto contracts are not supported.",
            ),
        ),
    ],
)
def test_a_map_that_leads_nowhere_is_a_denial_and_never_another_symbol(
    target: str, market_type: MarketType, denial: No
) -> None:
    # BTCUSDT is listed on both markets; the map still decides alone.
    assert resolved("BTCUSDT", market_type, {"BTCUSDT": target}) == denial


# For any venue and any text

currencies = st.sampled_from(["A", "B", "AB", "BA", "ABA"])  # short ones: concatenations collide
venues = st.lists(
    st.tuples(currencies, currencies, st.none() | currencies).map(
        lambda names: listed(f"{names[0]}/{names[1]}" + (f":{names[2]}" if names[2] else ""))
    ),
    max_size=8,
).map(listing)
markets = st.sampled_from([MT.SPOT, MT.SWAP])


@given(venues, markets, currencies, currencies, st.none() | currencies, st.booleans())
def test_a_pair_is_never_resolved_to_other_currencies(
    venue: Mapping[str, Instrument],
    market_type: MarketType,
    base: str,
    quote: str,
    settle: str | None,
    lower: bool,
) -> None:
    text = f"{base}/{quote}" + (f":{settle}" if settle else "")
    meant = [
        each
        for each in venue.values()
        if (each.base, each.quote, each.market_type) == (base, quote, market_type)
        and settle in (None, each.settle)
        and each.settle in (None, each.quote)
    ]
    answer = resolved(text.lower() if lower else text, market_type, instruments=venue)
    if meant and not (settle and market_type is MT.SPOT):
        assert [answer] == [each.symbol for each in meant]
    else:
        assert isinstance(answer, No)
        assert answer.code in ("symbol_unknown", "market_mismatch")


@given(venues, markets, st.text("AB", min_size=2, max_size=6))
def test_a_concatenation_is_resolved_only_where_it_can_be_read_in_one_way(
    venue: Mapping[str, Instrument], market_type: MarketType, text: str
) -> None:
    fitting = [
        each
        for each in venue.values()
        if each.base + each.quote == text
        and each.market_type is market_type
        and each.settle in (None, each.quote)
    ]
    answer = resolved(text, market_type, instruments=venue)
    if len(fitting) == 1:
        assert answer == fitting[0].symbol
    else:
        assert isinstance(answer, No)
        assert (answer.code == "symbol_ambiguous") == (len(fitting) > 1)
        assert all(each.symbol in answer.message for each in fitting)


@given(venues, markets, st.text(max_size=8))
def test_any_text_is_an_instrument_or_a_denial(
    venue: Mapping[str, Instrument], market_type: MarketType, text: str
) -> None:
    assume(text not in venue)
    answer = resolved(text, market_type, instruments=venue)
    assert isinstance(answer, No) or answer in venue


@given(venues, markets, currencies, currencies, st.sampled_from(["A/B", "B/A", "AB/A", "A/B:B", "A/B:A"]))
def test_a_mapped_text_is_its_target_or_a_denial(
    venue: Mapping[str, Instrument], market_type: MarketType, base: str, quote: str, target: str
) -> None:
    answer = resolved(f"{base}/{quote}", market_type, {f"{base}/{quote}": target}, venue)
    assert isinstance(answer, No) or answer == target
