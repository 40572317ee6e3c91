"""Rules: pure decisions on values; standard library only, no I/O, no clock."""
