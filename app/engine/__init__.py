"""The activities: load, decide, act, record. The only place that opens a writing transaction."""
