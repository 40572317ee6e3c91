"""Drawn programs of steps over the whole engine at every simulated venue, held against the venues' own books."""
