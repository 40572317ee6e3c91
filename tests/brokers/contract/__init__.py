"""What every broker promises, tested once for all of them."""
