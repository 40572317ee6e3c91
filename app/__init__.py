"""The trading execution engine: a signed signal becomes a protected position, exactly once."""
