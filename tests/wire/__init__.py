"""What leaves for exchanges without a simulator: unmodified classes, synthetic markets, a captured request."""
