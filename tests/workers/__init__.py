"""The worker as it runs in production: a process of its own, a real PostgreSQL and a real Redis."""
