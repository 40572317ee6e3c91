"""First figures of speed: `pytest tests/benchmarks`. Not part of the timed tests; the table is at the end."""
