"""MetaTrader 4 and 5 accounts, reached through mtapi.io's REST bridges. Nothing outside this package knows them."""
