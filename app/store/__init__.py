"""Rows and their questions: one file per table, row class and queries together."""
