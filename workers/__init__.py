"""The processes that do the work: an arq worker beside loops that need no Redis."""
