"""The channels: the ways out to people. Each knows its own wire, and nothing of trades."""
