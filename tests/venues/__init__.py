"""Simulated exchanges that speak the real wire protocols of Binance spot, Binance USD-M and Bybit v5.

clock ─ orders ─ accounts ─ floor          what an exchange is: time, orders, money, matching
wire ─ limits ─ faults                     what its edge is: requests, budgets, accidents
binance ─ binance_spot, binance_usdm, bybit    what each one says: a dialect per venue
exchange                                   one server for all of them, told apart by the Host header
redirect                                   the unmodified ccxt classes, sent to that server
"""
