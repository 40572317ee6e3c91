"""The outside markets: the only place that knows a venue."""
