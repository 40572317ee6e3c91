"""The rate budget: its arithmetic, what processes share of it, and who goes first."""
