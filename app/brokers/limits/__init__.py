"""The rate budget: what may still be asked of a venue, by everybody who asks from one address and by one account.

`buckets` is the arithmetic, `ledger` what is known of every bucket (through Redis to all processes), `gate` who of
those who wait here goes next.
"""
